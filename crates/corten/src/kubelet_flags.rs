//! The kubelet's flags under upstream's names: what they say counts more than its configuration file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use k8s_openapi::api::core::v1::Taint;
use kubelet::KubeletConfiguration;
use kubelet::flags::Kind;
use serde_json::Value;

use crate::hidden;

#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Kubelet")]
pub struct KubeletFlags {
    /// A directory of further configuration files, *.conf, laid over the configuration one after the other
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// Labels that the node registers with, as key=value; may be repeated
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_parser = parse_label)]
    pub node_labels: Vec<(String, String)>,
    /// Taints that the node registers with, as key=value:effect; may be repeated
    #[arg(long, value_name = "TAINTS", value_delimiter = ',', value_parser = parse_taint)]
    pub register_with_taints: Vec<Taint>,
    /// Whether the kubelet makes its Node object
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub register_node: Option<bool>,
    /// How many pods the node takes
    #[arg(long, value_name = "NUMBER")]
    pub max_pods: Option<u32>,
    /// Where manifests of static pods are
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// The cgroup under which those of pods are made
    #[arg(long, value_name = "PATH")]
    pub cgroup_root: Option<String>,
    /// cgroupfs or systemd, where the runtime does not say which
    #[arg(long, value_name = "DRIVER", value_parser = ["cgroupfs", "systemd"])]
    pub cgroup_driver: Option<String>,
    /// How the cloud calls this node
    #[arg(long, value_name = "ID")]
    pub provider_id: Option<String>,
    /// The resolver configuration that pods of DNS policy Default get
    #[arg(long, value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    /// Renew the client certificate in time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub rotate_certificates: Option<bool>,
    /// Ask the API for the serving certificate, and renew it in time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub rotate_server_certificates: Option<bool>,
    /// Sysctls beyond the safe ones that pods may set, such as kernel.msg*
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Give containers that name no seccomp profile the runtime's
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub seccomp_default: Option<bool>,
    /// Which programs know credentials for which registries
    #[arg(long, value_name = "FILE")]
    pub image_credential_provider_config: Option<PathBuf>,
    /// Where those programs are
    #[arg(long, value_name = "DIR")]
    pub image_credential_provider_bin_dir: Option<PathBuf>,
}

/// The flags of upstream's kubelet that only say what a field of its configuration says: hidden, for files are better.
#[derive(Clone, Default)]
pub struct FurtherFlags(Value);

impl Args for FurtherFlags {
    fn augment_args(command: Command) -> Command {
        // What a role has a flag for already is that flag's: of `corten node`, the runtime's.
        let flags = kubelet::flags::FLAGS.iter();
        hidden::add(command, flags.map(|flag| (flag.name, matches!(flag.kind, Kind::Switch))))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FurtherFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = kubelet::flags::FLAGS.iter().filter_map(|flag| {
            let texts = matches.try_get_many::<String>(flag.name).ok().flatten()?;
            Some((flag.name, texts.cloned().collect()))
        });
        let configuration = kubelet::flags::configuration(given).map_err(|error| {
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{error}\n"))
        })?;
        Ok(Self(configuration))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected key=value".to_owned()),
    }
}

/// `key=value:effect` or `key:effect`.
fn parse_taint(text: &str) -> Result<Taint, String> {
    let (name, effect) = text.rsplit_once(':').ok_or("expected key=value:effect")?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!("{effect:?} is no effect of a taint: NoSchedule, PreferNoSchedule, NoExecute"));
    }
    let (key, value) = name.split_once('=').unwrap_or((name, ""));
    Ok(Taint {
        key: key.to_owned(),
        value: Some(value.to_owned()).filter(|value| !value.is_empty()),
        effect: effect.to_owned(),
        time_added: None,
    })
}

impl KubeletFlags {
    /// The configuration of `file` and of the directory, under what the flags say.
    pub fn configuration(
        &self,
        file: Option<&PathBuf>,
        further: &FurtherFlags,
    ) -> Result<KubeletConfiguration> {
        let file = file.map(PathBuf::as_path);
        let mut config = KubeletConfiguration::load_with(file, self.config_dir.as_deref(), further.0.clone())
            .context("cannot configure the kubelet")?;
        self.lay_over(&mut config);
        Ok(config)
    }

    fn lay_over(&self, config: &mut KubeletConfiguration) {
        config.node_labels.extend(self.node_labels.iter().cloned());
        if !self.register_with_taints.is_empty() {
            config.register_with_taints.clone_from(&self.register_with_taints);
        }
        if !self.allowed_unsafe_sysctls.is_empty() {
            config.allowed_unsafe_sysctls.clone_from(&self.allowed_unsafe_sysctls);
        }
        fn set<T: Clone>(field: &mut T, flag: &Option<T>) {
            if let Some(value) = flag {
                field.clone_from(value);
            }
        }
        set(&mut config.image_credential_provider_config, &self.image_credential_provider_config);
        set(&mut config.image_credential_provider_bin_dir, &self.image_credential_provider_bin_dir);
        set(&mut config.register_node, &self.register_node);
        set(&mut config.max_pods, &self.max_pods);
        set(&mut config.static_pod_path, &self.pod_manifest_path);
        set(&mut config.cgroup_root, &self.cgroup_root);
        set(&mut config.cgroup_driver, &self.cgroup_driver);
        set(&mut config.provider_id, &self.provider_id);
        set(&mut config.resolv_conf, &self.resolv_conf);
        set(&mut config.rotate_certificates, &self.rotate_certificates);
        set(&mut config.server_tls_bootstrap, &self.rotate_server_certificates);
        set(&mut config.seccomp_default, &self.seccomp_default);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{self, Cli};

    #[test]
    fn labels_and_taints() {
        assert_eq!(parse_label("a/b=c"), Ok(("a/b".into(), "c".into())));
        assert!(parse_label("a").is_err());
        let taint = parse_taint("k=v:NoSchedule").unwrap();
        assert_eq!((taint.key.as_str(), taint.value.as_deref()), ("k", Some("v")));
        assert_eq!(parse_taint("k:NoExecute").unwrap().value, None);
        assert!(parse_taint("k=v").is_err() && parse_taint("k:Never").is_err());
    }

    #[test]
    fn flags_count_more_than_the_file() {
        let flags = KubeletFlags {
            max_pods: Some(7),
            register_with_taints: vec![parse_taint("k:NoExecute").unwrap()],
            ..KubeletFlags::default()
        };
        let config = flags.configuration(None, &FurtherFlags::default()).unwrap();
        assert_eq!((config.max_pods, config.register_with_taints.len()), (7, 1));
    }

    /// What kubeadm and clouds start a kubelet with.
    #[test]
    fn flags_of_others() {
        let check = |line: &str, expected: fn(&KubeletConfiguration) -> bool| {
            let words = ["corten", "kubelet", "--kubeconfig=k"].into_iter().chain(line.split_whitespace());
            let parsed = Cli::try_parse_from(words).map_err(|error| error.to_string());
            let Ok(Cli { command: cli::Command::Kubelet(args), .. }) = parsed else {
                panic!("{line}: {:?}", parsed.err());
            };
            let config = args.flags.configuration(None, &args.further).unwrap();
            assert!(expected(&config), "{line}");
        };
        check(
            "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --pod-infra-container-image=p:3 \
             --container-runtime-endpoint=unix:///run/c.sock --node-ip=10.0.0.1,fd00::1 --cloud-provider=external \
             --hostname-override=n --v=2",
            |config| *config == KubeletConfiguration::default(),
        );
        check(
            "--anonymous-auth=false --authorization-mode=Webhook --eviction-hard=memory.available<750Mi,pid.available<2000 \
             --kube-reserved=cpu=100m,memory=1638Mi --pod-max-pids=-1 --read-only-port=0 --rotate-certificates=true \
             --streaming-connection-idle-timeout=4h --event-qps=0 --feature-gates=A=true --tls-cipher-suites=A,B \
             --cgroups-per-qos=true --protect-kernel-defaults --enforce-node-allocatable=pods -v 2",
            |config| {
                config.kube_reserved.len() == 2
                    && config.eviction_hard.get("pid.available").is_some_and(|bound| bound == "2000")
                    && config.feature_gates.get("A") == Some(&true)
            },
        );
        check(
            "--experimental-mounter-path=/m --node-status-max-images=25 --registry-qps=10 --registry-burst=20 \
             --volume-plugin-dir=/v --runtime-cgroups=/system.slice/containerd.service --max-pods=32 \
             --node-labels=a=b,c=d --register-with-taints=k=v:NoSchedule --image-credential-provider-config=/i \
             --image-credential-provider-bin-dir=/b --cpu-manager-policy=static --reserved-cpus=0-1",
            |config| {
                config.max_pods == 32 && config.node_status_max_images == 25 && config.node_labels.len() == 2
            },
        );
    }
}
