//! `cpu_manager_state`: who has which CPUs, as upstream writes it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::set::{self, Set};
use crate::checkpoint;

/// By pod and container.
pub type Given = BTreeMap<(String, String), Set>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct State {
    policy_name: String,
    default_cpu_set: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: BTreeMap<String, BTreeMap<String, String>>,
    checksum: u32,
}

impl State {
    fn compute(&self) -> u32 {
        let entries = checkpoint::printed_map(&self.entries, |containers| {
            checkpoint::printed_map(containers, Clone::clone)
        });
        checkpoint::checksum(&format!(
            "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} \
             Entries:(map[string]map[string]string){entries} Checksum:(checksum.Checksum)0}}",
            self.policy_name, self.default_cpu_set,
        ))
    }
}

/// Those of the file, if they were given by this policy.
pub fn read(path: &Path, policy: &str) -> Given {
    let state: State = checkpoint::read_checked(path, "which CPUs containers have", |state: &State| {
        (state.checksum, state.compute())
    });
    if state.policy_name != policy {
        if !state.entries.is_empty() {
            tracing::warn!(
                path = %path.display(), policy, before = state.policy_name,
                "the CPU manager's policy has changed: what it had given is shared from now on"
            );
        }
        return Given::new();
    }
    let mut given = Given::new();
    for (uid, containers) in state.entries {
        given.extend(containers.into_iter().map(|(name, list)| ((uid.clone(), name), set::parse(&list))));
    }
    given
}

pub fn write(path: &Path, policy: &str, shared: &Set, given: &Given) -> Result<(), String> {
    let mut state =
        State { policy_name: policy.to_owned(), default_cpu_set: set::shown(shared), ..Default::default() };
    for ((uid, container), set) in given {
        state.entries.entry(uid.clone()).or_default().insert(container.clone(), set::shown(set));
    }
    state.checksum = state.compute();
    checkpoint::write(path, &state)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checksums that upstream's kubelet has computed.
    #[test]
    fn files_of_another_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cpu_manager_state");
        let check = |text: &str, expected: &[(&str, &str)]| {
            std::fs::write(&path, text).unwrap();
            let given = read(&path, "none");
            let shown: Vec<(String, String)> =
                given.iter().map(|((_, name), set)| (name.clone(), set::shown(set))).collect();
            let expected: Vec<(String, String)> =
                expected.iter().map(|(name, set)| ((*name).to_owned(), (*set).to_owned())).collect();
            assert_eq!(shown, expected, "{text}");
        };
        let entries = r#""entries":{"pod":{"container1":"4-6","container2":"1-3"}}"#;
        let both = [("container1", "4-6"), ("container2", "1-3")];
        let file = |checksum: u32, policy: &str| {
            format!(r#"{{"policyName":"{policy}","defaultCpuSet":"1-3",{entries},"checksum":{checksum}}}"#)
        };
        check(&file(3_610_638_499, "none"), &both);
        check(&file(0, "none"), &both);
        check(&file(1337, "none"), &[]);
        check(&file(0, "static"), &[]);
        check("{", &[]);
        let given = Given::from([
            (("pod".into(), "container1".into()), set::parse("4-6")),
            (("pod".into(), "container2".into()), set::parse("1-3")),
        ]);
        write(&path, "none", &set::parse("1-3"), &given).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("3610638499"));
        write(&path, "none", &set::parse("4-6"), &Given::new()).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("354655845"));
    }
}
