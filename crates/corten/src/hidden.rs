//! Flags of upstream's programs that are taken and not shown: what they say is said better elsewhere, or means nothing here.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

/// A flag's name, and whether it is a switch.
pub type Flag = (&'static str, bool);

/// Adds the flags that the command does not have already.
pub fn add(command: Command, flags: impl IntoIterator<Item = Flag>) -> Command {
    let is_taken =
        |command: &Command, name: &str| command.get_arguments().any(|known| known.get_long() == Some(name));
    flags.into_iter().fold(command, |command, (name, switch)| {
        if is_taken(&command, name) {
            return command;
        }
        let arg = Arg::new(name).long(name).hide(true).action(ArgAction::Append);
        let arg = if switch {
            // As pflag has it: a switch is on when it is named, and its value stands behind an equals sign.
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg.allow_hyphen_values(true)
        };
        command.arg(if name.len() == 1 { arg.short(name.chars().next()) } else { arg })
    })
}

/// What every program of upstream's has: logging, profiling, the pace of its requests.
const OF_ALL: [Flag; 21] = [
    ("allow-metric-labels", false),
    ("allow-metric-labels-manifest", false),
    ("alsologtostderr", true),
    ("contention-profiling", true),
    ("disabled-metrics", false),
    ("feature-gates", false),
    ("kube-api-burst", false),
    ("kube-api-content-type", false),
    ("kube-api-qps", false),
    ("log-flush-frequency", false),
    ("log-json-info-buffer-size", false),
    ("log-json-split-stream", true),
    ("log-text-info-buffer-size", false),
    ("log-text-split-stream", true),
    ("logging-format", false),
    ("logtostderr", true),
    ("profiling", true),
    ("show-hidden-metrics-for-version", false),
    ("stderrthreshold", false),
    ("v", false),
    ("vmodule", false),
];

/// Periods of what is event-driven here, and other modes.
const OF_PROXY: [Flag; 13] = [
    ("config-sync-period", false),
    ("iptables-min-sync-period", false),
    ("iptables-sync-period", false),
    ("ipvs-exclude-cidrs", false),
    ("ipvs-min-sync-period", false),
    ("ipvs-scheduler", false),
    ("ipvs-strict-arp", true),
    ("ipvs-sync-period", false),
    ("ipvs-tcp-timeout", false),
    ("ipvs-tcpfin-timeout", false),
    ("ipvs-udp-timeout", false),
    ("oom-score-adj", false),
    ("windows-service", true),
];

/// Of how it listens, and whom it believes without asking: nobody.
const OF_SCHEDULER: [Flag; 15] = [
    ("authentication-tolerate-lookup-failure", true),
    ("cert-dir", false),
    ("disable-http2-serving", true),
    ("emulated-version", false),
    ("emulation-forward-compatible", true),
    ("http2-max-streams-per-connection", false),
    ("min-compatibility-version", false),
    ("permit-address-sharing", true),
    ("permit-port-sharing", true),
    ("pod-max-in-unschedulable-pods-duration", false),
    ("requestheader-allowed-names", false),
    ("requestheader-client-ca-file", false),
    ("requestheader-extra-headers-prefix", false),
    ("requestheader-group-headers", false),
    ("requestheader-username-headers", false),
];

macro_rules! taken {
    ($name:ident, $of:ident) => {
        #[derive(Clone, Default)]
        pub struct $name;

        impl Args for $name {
            fn augment_args(command: Command) -> Command {
                add(command, OF_ALL.into_iter().chain($of))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $name {
            fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self)
            }

            fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
                Ok(())
            }
        }
    };
}

taken!(ProxyFlags, OF_PROXY);
taken!(SchedulerFlags, OF_SCHEDULER);

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    /// What kubeadm starts kube-scheduler with, and what others add.
    #[test]
    fn a_scheduler_of_others() {
        let line = "corten scheduler --authentication-kubeconfig=/s --authorization-kubeconfig=/s --bind-address=127.0.0.1 \
            --kubeconfig=/s --leader-elect=true --v=2 --profiling=false --feature-gates=A=true --kube-api-qps=50 \
            --logging-format=json --cert-dir=/c --requestheader-client-ca-file=/r";
        let parsed = Cli::try_parse_from(line.split_whitespace());
        assert!(parsed.is_ok(), "{:?}", parsed.err().map(|error| error.to_string()));
        assert!(Cli::try_parse_from(["corten", "scheduler", "--no-such-flag"]).is_err());
    }
}
