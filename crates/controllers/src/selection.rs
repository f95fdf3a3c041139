//! Which controllers run, as `--controllers` of kube-controller-manager says it.

/// The names of a controller: the one it has, and the one it had, if any.
type Names = (&'static str, &'static str);

const HERE: [Names; 41] = [
    ("bootstrap-signer-controller", "bootstrapsigner"),
    ("certificatesigningrequest-approving-controller", "csrapproving"),
    ("certificatesigningrequest-cleaner-controller", "csrcleaner"),
    ("certificatesigningrequest-signing-controller", "csrsigning"),
    ("clusterrole-aggregation-controller", "clusterrole-aggregation"),
    ("cronjob-controller", "cronjob"),
    ("daemonset-controller", "daemonset"),
    ("deployment-controller", "deployment"),
    ("disruption-controller", "disruption"),
    ("endpoints-controller", "endpoint"),
    ("endpointslice-controller", "endpointslice"),
    ("endpointslice-mirroring-controller", "endpointslicemirroring"),
    ("ephemeral-volume-controller", "ephemeral-volume"),
    (GARBAGE_COLLECTOR, "garbagecollector"),
    ("horizontal-pod-autoscaler-controller", "horizontalpodautoscaling"),
    ("job-controller", "job"),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("namespace-controller", "namespace"),
    ("node-ipam-controller", "nodeipam"),
    ("node-lifecycle-controller", "nodelifecycle"),
    ("persistentvolume-attach-detach-controller", "attachdetach"),
    ("persistentvolume-binder-controller", "persistentvolume-binder"),
    ("persistentvolume-expander-controller", "persistentvolume-expander"),
    ("persistentvolume-protection-controller", "pv-protection"),
    ("persistentvolumeclaim-protection-controller", "pvc-protection"),
    ("pod-garbage-collector-controller", "podgc"),
    ("replicaset-controller", "replicaset"),
    ("replicationcontroller-controller", "replicationcontroller"),
    ("resourceclaim-controller", "resource-claim-controller"),
    ("resourcequota-controller", "resourcequota"),
    ("root-ca-certificate-publisher-controller", "root-ca-cert-publisher"),
    ("service-cidr-controller", ""),
    ("serviceaccount-controller", "serviceaccount"),
    ("serviceaccount-token-controller", "serviceaccount-token"),
    ("statefulset-controller", "statefulset"),
    ("taint-eviction-controller", ""),
    ("token-cleaner-controller", "tokencleaner"),
    ("ttl-after-finished-controller", "ttl-after-finished"),
    ("ttl-controller", "ttl"),
    ("validatingadmissionpolicy-status-controller", ""),
    ("volumeattributesclass-protection-controller", ""),
];

/// They serve clouds, or what Corten does not have.
const NOT_HERE: [Names; 9] = [
    ("cloud-node-lifecycle-controller", "cloud-node-lifecycle"),
    ("device-taint-eviction-controller", ""),
    ("kube-apiserver-serving-clustertrustbundle-publisher-controller", ""),
    ("node-route-controller", "route"),
    ("podcertificaterequest-cleaner-controller", ""),
    ("selinux-warning-controller", ""),
    ("service-lb-controller", "service"),
    ("storage-version-migrator-controller", ""),
    ("storageversion-garbage-collector-controller", "storage-version-gc"),
];

const GARBAGE_COLLECTOR: &str = "garbage-collector-controller";
/// A star does not mean them.
const BY_NAME_ONLY: [&str; 2] = ["bootstrap-signer-controller", "token-cleaner-controller"];

/// The controllers that are to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    words: Vec<String>,
}

impl Default for Selection {
    /// All, those that let nodes join included.
    fn default() -> Self {
        let named = BY_NAME_ONLY.into_iter().map(str::to_owned);
        Self { words: std::iter::once("*".to_owned()).chain(named).collect() }
    }
}

/// The flag says what cannot be done.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectionError {
    #[error(
        "--controllers: there is no controller {0:?}; see kube-controller-manager's documentation for their names"
    )]
    Unknown(String),
    #[error("--controllers: {0} is none of Corten's controllers; leave it out, or run it by another program")]
    NotHere(&'static str),
    #[error("--controllers: {0} cannot be off, for other controllers live on what it finds; leave it on")]
    Needed(&'static str),
}

impl Selection {
    /// `*` is all but those that have to be named, `name` is one that runs, `-name` one that does not; what stands first
    /// counts.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, SelectionError> {
        let mut known = Vec::new();
        for word in words.into_iter().map(str::trim).filter(|word| !word.is_empty()) {
            let (sign, name) = word.strip_prefix('-').map_or(("", word), |name| ("-", name));
            if word == "*" {
                known.push(word.to_owned());
            } else if let Some(name) = find(&HERE, name) {
                known.push(format!("{sign}{name}"));
            } else {
                let absent = find(&NOT_HERE, name).ok_or_else(|| SelectionError::Unknown(name.to_owned()))?;
                if sign.is_empty() {
                    return Err(SelectionError::NotHere(absent));
                }
            }
        }
        let selection = Self { words: known };
        if selection.runs(GARBAGE_COLLECTOR) {
            Ok(selection)
        } else {
            Err(SelectionError::Needed(GARBAGE_COLLECTOR))
        }
    }

    /// Whether the controller of this name runs.
    pub(crate) fn runs(&self, name: &str) -> bool {
        debug_assert!(HERE.iter().any(|(known, _)| *known == name), "no controller is called {name:?}");
        let said = self.words.iter().find_map(|word| match word.strip_prefix('-') {
            Some(off) => (off == name).then_some(false),
            None => (word == name).then_some(true),
        });
        said.unwrap_or_else(|| self.words.iter().any(|word| word == "*") && !BY_NAME_ONLY.contains(&name))
    }
}

fn find(names: &[Names], name: &str) -> Option<&'static str> {
    let called = |(now, before): &&Names| *now == name || (!before.is_empty() && *before == name);
    names.iter().find(called).map(|(now, _)| *now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(flag: &str, name: &str) -> bool {
        Selection::parse(flag.split(',')).unwrap().runs(name)
    }

    #[test]
    fn as_kubeadm_writes_it() {
        assert!(runs("*,bootstrapsigner,tokencleaner", "bootstrap-signer-controller"));
        assert!(runs("*,bootstrapsigner,tokencleaner", "token-cleaner-controller"));
        assert!(runs("*,bootstrapsigner,tokencleaner", "job-controller"));
        assert!(!runs("*", "bootstrap-signer-controller"));
        assert!(Selection::default().runs("bootstrap-signer-controller"));
    }

    #[test]
    fn what_stands_first_counts() {
        assert!(!runs("*,-job", "job-controller"));
        assert!(!runs("-job-controller,*,job", "job-controller"));
        assert!(runs("job,-job,garbagecollector", "job-controller"));
        assert!(!runs("job,garbagecollector", "cronjob-controller"));
    }

    #[test]
    fn what_cannot_be() {
        let refused = |flag: &str| Selection::parse(flag.split(',')).unwrap_err();
        assert_eq!(refused("*,nothing"), SelectionError::Unknown("nothing".to_owned()));
        assert_eq!(refused("*,-"), SelectionError::Unknown(String::new()));
        assert_eq!(refused("*,route"), SelectionError::NotHere("node-route-controller"));
        assert_eq!(refused("*,-garbagecollector"), SelectionError::Needed(GARBAGE_COLLECTOR));
        assert_eq!(refused("job"), SelectionError::Needed(GARBAGE_COLLECTOR));
        assert!(runs("*,-cloud-node-lifecycle,-service-lb-controller", "job-controller"));
    }
}
