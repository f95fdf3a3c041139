//! `allocated_pods_state`: what pods whose resize was asked for have been given, for a kubelet that is started again.
//!
//! In upstream's format. Pods that were never resized have what their specs say, and are not in it: a pod's start costs no
//! write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::allocation;
use super::ext::PodExt;
use crate::checkpoint;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Entry {
    container_resources: BTreeMap<String, ResourceRequirements>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_level_resources: Option<ResourceRequirements>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Data {
    entries: BTreeMap<String, Entry>,
}

/// The data are a text of their own, with a checksum.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    data: String,
    checksum: u32,
}

fn compute(data: &str) -> u32 {
    checkpoint::checksum(&format!("(string){data}"))
}

pub struct Allocated {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Allocated {
    pub fn read(root: &Path) -> Self {
        let path = root.join("allocated_pods_state");
        let file: File = checkpoint::read_checked(&path, "what pods have been allocated", |file: &File| {
            (file.checksum, compute(&file.data))
        });
        let data: Data = serde_json::from_str(&file.data).unwrap_or_default();
        Self { path, entries: data.entries }
    }

    /// The pod with what it had been given, if it is known.
    pub fn restored(&self, pod: &Arc<Pod>) -> Option<Arc<Pod>> {
        let entry = self.entries.get(pod.uid())?;
        let given = |name: &str, own| entry.container_resources.get(name).cloned().or(own);
        Some(allocation::replace(pod, given, || entry.pod_level_resources.clone()))
    }

    /// The pod has been given this.
    pub fn note(&mut self, pod: &Pod) {
        let containers = allocation::containers(pod);
        let entry = Entry {
            container_resources: containers
                .map(|one| (one.name.clone(), one.resources.clone().unwrap_or_default()))
                .collect(),
            pod_level_resources: pod.pod_spec().resources.clone(),
        };
        if self.entries.get(pod.uid()) != Some(&entry) {
            self.entries.insert(pod.uid().to_owned(), entry);
            self.save();
        }
    }

    /// The pod is gone.
    pub fn forget(&mut self, uid: &str) {
        if self.entries.remove(uid).is_some() {
            self.save();
        }
    }

    /// Those of other pods than these are gone.
    pub fn keep(&mut self, known: impl Fn(&str) -> bool) {
        let before = self.entries.len();
        self.entries.retain(|uid, _| known(uid));
        if self.entries.len() != before {
            self.save();
        }
    }

    fn save(&self) {
        let data = serde_json::to_string(&Data { entries: self.entries.clone() }).unwrap_or_default();
        if let Err(error) = checkpoint::write(&self.path, &File { checksum: compute(&data), data }) {
            warn!(error, "what pods have been allocated is not known after a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(cpu: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": cpu}}}, {"name": "d"}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn what_was_given_outlives_the_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let mut before = Allocated::read(dir.path());
        before.note(&pod("1"));
        let mut after = Allocated::read(dir.path());
        let restored = after.restored(&pod("2")).unwrap();
        assert!(!allocation::differ(&restored, &pod("1")));
        after.keep(|uid| uid == "u");
        after.forget("u");
        assert!(Allocated::read(dir.path()).restored(&pod("2")).is_none());
    }

    #[test]
    fn a_wrong_checksum_is_no_state() {
        let dir = tempfile::tempdir().unwrap();
        Allocated::read(dir.path()).note(&pod("1"));
        let mut broken = Allocated::read(dir.path());
        let path = broken.path.clone();
        broken.note(&pod("1"));
        let text = std::fs::read_to_string(&path).unwrap().replace("cpu", "cpX");
        std::fs::write(&path, text).unwrap();
        assert!(Allocated::read(dir.path()).entries.is_empty());
    }
}
