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
const OF_SERVING: [Flag; 14] = [
    ("authentication-tolerate-lookup-failure", true),
    ("cert-dir", false),
    ("disable-http2-serving", true),
    ("emulated-version", false),
    ("emulation-forward-compatible", true),
    ("http2-max-streams-per-connection", false),
    ("min-compatibility-version", false),
    ("permit-address-sharing", true),
    ("permit-port-sharing", true),
    ("requestheader-allowed-names", false),
    ("requestheader-client-ca-file", false),
    ("requestheader-extra-headers-prefix", false),
    ("requestheader-group-headers", false),
    ("requestheader-username-headers", false),
];

const OF_SCHEDULER: [Flag; 1] = [("pod-max-in-unschedulable-pods-duration", false)];

/// What the API server does here (tokens, ranges of Services), and what only clouds and several users of one process mean:
/// all controllers are one user, the one of --kubeconfig.
const OF_CONTROLLERS: [Flag; 4] = [
    ("cluster-name", false),
    ("service-account-private-key-file", false),
    ("service-cluster-ip-range", false),
    ("use-service-account-credentials", true),
];

macro_rules! taken {
    ($name:ident, $of:expr) => {
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
taken!(SchedulerFlags, OF_SERVING.into_iter().chain(OF_SCHEDULER));
taken!(ControllersFlags, OF_SERVING.into_iter().chain(OF_CONTROLLERS));

#[cfg(test)]
mod tests {
    use clap::Parser;

    use controllers::Selection;

    use crate::cli::{Cli, Command};
    use crate::roles::controllers_config;

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

    /// What kubeadm starts kube-controller-manager with.
    #[test]
    fn controllers_of_others() {
        let line = "corten controllers --allocate-node-cidrs=true --authentication-kubeconfig=/m --authorization-kubeconfig=/m \
            --bind-address=127.0.0.1 --client-ca-file=/ca --cluster-cidr=10.244.0.0/16 --cluster-name=kubernetes \
            --cluster-signing-cert-file=/ca --cluster-signing-key-file=/key --controllers=*,bootstrapsigner,tokencleaner \
            --kubeconfig=/m --leader-elect=true --requestheader-client-ca-file=/front --root-ca-file=/ca \
            --service-account-private-key-file=/sa --service-cluster-ip-range=10.96.0.0/12 \
            --use-service-account-credentials=true";
        let parsed = Cli::try_parse_from(line.split_whitespace());
        let Command::Controllers(args) = parsed.unwrap().command else { panic!("not the controllers") };
        let network = &args.network;
        let mut config = controllers_config("", None, network, &args.lifecycle);
        args.running.apply(&mut config).unwrap();
        assert!(config.allocate_node_cidrs);
        assert_eq!(config.controllers, Selection::parse(["*", "bootstrapsigner", "tokencleaner"]).unwrap());
    }

    #[test]
    fn controllers_are_told_how_to_run() {
        let applied = |flags: &str| {
            let line = format!("corten controllers --kubeconfig=/m {flags}");
            let Command::Controllers(args) = Cli::try_parse_from(line.split_whitespace()).unwrap().command
            else {
                panic!("not the controllers")
            };
            let mut config = controllers_config("", None, &args.network, &args.lifecycle);
            args.running.apply(&mut config).map(|()| config)
        };
        let config =
            applied("--controllers=*,-job --allocate-node-cidrs=false --node-cidr-mask-size-ipv4=26")
                .unwrap();
        assert_eq!(config.controllers, Selection::parse(["*", "-job"]).unwrap());
        assert!(!config.allocate_node_cidrs);
        assert_eq!(config.node_cidr_mask_size_ipv4, 26);
        assert_eq!(applied("--node-cidr-mask-size=25").unwrap().node_cidr_mask_size_ipv4, 25);
        assert_eq!(applied("--terminated-pod-gc-threshold=0").unwrap().terminated_pod_gc_threshold, None);
        assert_eq!(applied("--terminated-pod-gc-threshold=7").unwrap().terminated_pod_gc_threshold, Some(7));
        assert!(applied("--node-cidr-mask-size=25 --node-cidr-mask-size-ipv4=26").is_err());
        assert!(applied("--controllers=*,-no-such").is_err());
    }
}
