//! Where volumes of CSI drivers are on the node, and what is written beside them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::volumes::VolumeError;

const FILE: &str = "vol_data.json";

/// `vol_data.json`, with upstream's names: enough to take a volume back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    #[serde(rename = "driverName")]
    pub driver: String,
    #[serde(rename = "volumeHandle")]
    pub handle: String,
    #[serde(rename = "specVolID")]
    pub spec_name: String,
    #[serde(rename = "nodeName")]
    pub node_name: String,
    #[serde(rename = "attachmentID")]
    pub attachment: String,
    /// `Persistent` or `Ephemeral`.
    #[serde(rename = "volumeLifecycleMode")]
    pub mode: String,
}

impl Saved {
    pub fn is_persistent(&self) -> bool {
        self.mode != "Ephemeral"
    }

    pub fn unique_name(&self) -> String {
        unique_name(&self.driver, &self.handle)
    }

    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }

    pub fn write(&self, dir: &Path) -> Result<(), VolumeError> {
        let path = dir.join(FILE);
        let io = |operation: &'static str| {
            let path = path.clone();
            move |error: std::io::Error| VolumeError::io(operation, &path, error)
        };
        fs::create_dir_all(dir).map_err(io("make the directory of"))?;
        let text = serde_json::to_vec(self).map_err(|error| VolumeError::Invalid(error.to_string()))?;
        // Whole or not at all: what it says is needed to take the volume back.
        let fresh = dir.join(".vol_data.json.new");
        fs::write(&fresh, text).map_err(io("write"))?;
        fs::rename(&fresh, &path).map_err(io("write"))
    }

    pub fn remove(dir: &Path) {
        let _ = fs::remove_file(dir.join(FILE));
        let _ = fs::remove_dir(dir);
    }
}

/// How controllers and kubelets call a volume.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name of the attachment of a volume to a node, on which controllers and kubelets agree.
pub fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    format!("csi-{}", hex(&Sha256::digest(format!("{handle}{driver}{node}"))))
}

/// The handle of a volume that lives and dies with its pod.
pub fn ephemeral_handle(pod_uid: &str, volume: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(pod_uid);
    hash.update(volume);
    format!("csi-{}", hex(&hash.finalize()))
}

/// Where one volume is, for the node and for a pod.
#[derive(Clone, Debug)]
pub struct Places {
    /// Of the stage: [`Saved`] is in it.
    pub stage_dir: PathBuf,
    pub stage: PathBuf,
    /// Of the pod: [`Saved`] is in it.
    pub pod_dir: PathBuf,
    pub target: PathBuf,
}

pub fn places(root: &Path, pod_uid: &str, saved: &Saved, block: bool) -> Places {
    let own = root.join("plugins/kubernetes.io/csi");
    let pod = root.join("pods").join(pod_uid);
    if block {
        let devices = own.join("volumeDevices");
        let stage_dir = devices.join(&saved.spec_name);
        return Places {
            stage: devices.join("staging").join(&saved.spec_name),
            stage_dir: stage_dir.join("data"),
            pod_dir: pod.join("volumeDevices/kubernetes.io~csi").join(&saved.spec_name),
            target: devices.join("publish").join(&saved.spec_name).join(pod_uid),
        };
    }
    let stage_dir = own.join(&saved.driver).join(hex(&Sha256::digest(&saved.handle)));
    let pod_dir = pod.join("volumes/kubernetes.io~csi").join(&saved.spec_name);
    Places { stage: stage_dir.join("globalmount"), target: pod_dir.join("mount"), stage_dir, pod_dir }
}

/// What is saved of a pod's volumes; the flag says whether it is a block device.
pub fn of_pod(pod_dir: &Path) -> Vec<(Saved, bool)> {
    let below = |kind: &str, block: bool| {
        let entries =
            fs::read_dir(pod_dir.join(kind).join("kubernetes.io~csi")).into_iter().flatten().flatten();
        entries.filter_map(move |entry| Some((Saved::read(&entry.path())?, block))).collect::<Vec<_>>()
    };
    [below("volumes", false), below("volumeDevices", true)].concat()
}

/// What is saved of the volumes of all pods.
pub fn all_below(root: &Path) -> Vec<Saved> {
    let pods = fs::read_dir(root.join("pods")).into_iter().flatten().flatten();
    pods.flat_map(|pod| of_pod(&pod.path())).map(|(saved, _)| saved).collect()
}

/// Whether a pod other than `pod_uid` has the volume.
pub fn others_have(root: &Path, pod_uid: &str, wanted: &Saved) -> bool {
    let pods = fs::read_dir(root.join("pods")).into_iter().flatten().flatten();
    pods.filter(|pod| pod.file_name().to_string_lossy() != pod_uid)
        .flat_map(|pod| of_pod(&pod.path()))
        .any(|(saved, _)| saved.driver == wanted.driver && saved.handle == wanted.handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let root = tempfile::tempdir().unwrap();
        let saved = Saved {
            driver: "d.example".into(),
            handle: "h".into(),
            spec_name: "pv".into(),
            mode: "Persistent".into(),
            ..Default::default()
        };
        for (uid, block) in [("u1", false), ("u2", true)] {
            saved.write(&places(root.path(), uid, &saved, block).pod_dir).unwrap();
        }
        assert_eq!(of_pod(&root.path().join("pods/u1")), [(saved.clone(), false)]);
        assert_eq!(of_pod(&root.path().join("pods/u2")), [(saved.clone(), true)]);
        assert!(others_have(root.path(), "u1", &saved));
        Saved::remove(&places(root.path(), "u2", &saved, true).pod_dir);
        assert!(!others_have(root.path(), "u1", &saved));
        assert_eq!(all_below(root.path()).len(), 1);
    }

    #[test]
    fn names_that_others_know() {
        assert_eq!(unique_name("d", "h"), "kubernetes.io/csi/d^h");
        let name = attachment_name("h", "d", "n");
        assert_eq!((name.len(), &name[..4]), (68, "csi-"));
        assert_ne!(ephemeral_handle("u", "v"), ephemeral_handle("u", "w"));
    }
}
