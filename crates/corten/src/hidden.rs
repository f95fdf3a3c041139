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

/// What kube-proxy has besides: periods of what is event-driven here, other modes, and what every program of upstream's has.
const OF_PROXY: [Flag; 33] = [
    ("config-sync-period", false),
    ("feature-gates", false),
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
    ("kube-api-burst", false),
    ("kube-api-content-type", false),
    ("kube-api-qps", false),
    ("log-flush-frequency", false),
    ("log-json-info-buffer-size", false),
    ("log-json-split-stream", true),
    ("log-text-info-buffer-size", false),
    ("log-text-split-stream", true),
    ("logging-format", false),
    ("oom-score-adj", false),
    ("profiling", true),
    ("show-hidden-metrics-for-version", false),
    ("v", false),
    ("vmodule", false),
    ("alsologtostderr", true),
    ("logtostderr", true),
    ("stderrthreshold", false),
    ("log-dir", false),
    ("log-file", false),
    ("proxy-port-range", false),
    ("windows-service", true),
];

/// Takes kube-proxy's.
#[derive(Clone, Default)]
pub struct ProxyFlags;

impl Args for ProxyFlags {
    fn augment_args(command: Command) -> Command {
        add(command, OF_PROXY)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ProxyFlags {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), clap::Error> {
        Ok(())
    }
}
