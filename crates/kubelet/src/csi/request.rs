//! What drivers are asked for: pure translations from the API's objects.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use plugins::csi::VolumeCapability;
use plugins::csi::volume_capability::access_mode::Mode;
use plugins::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};

use crate::pod::ext::PodExt;

/// How the volume is used: through the first access mode of a persistent volume, by one pod of an ephemeral one.
pub fn access_mode(mode: Option<&str>, tells_writers_apart: bool) -> Mode {
    match (mode, tells_writers_apart) {
        (Some("ReadOnlyMany"), _) => Mode::MultiNodeReaderOnly,
        (Some("ReadWriteMany"), _) => Mode::MultiNodeMultiWriter,
        (Some("ReadWriteOncePod"), true) => Mode::SingleNodeSingleWriter,
        (Some("ReadWriteOnce"), true) => Mode::SingleNodeMultiWriter,
        _ => Mode::SingleNodeWriter,
    }
}

pub fn capability(
    mode: Mode,
    block: bool,
    fs_type: &str,
    options: &[String],
    mount_group: Option<u32>,
) -> VolumeCapability {
    let access_type = if block {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            mount_flags: options.to_vec(),
            volume_mount_group: mount_group.map(|group| group.to_string()).unwrap_or_default(),
        })
    };
    VolumeCapability { access_type: Some(access_type), access_mode: Some(AccessMode { mode: mode as i32 }) }
}

/// `podInfoOnMount`.
pub fn pod_info(pod: &Pod, ephemeral: bool) -> HashMap<String, String> {
    let account = pod.pod_spec().service_account_name.clone().unwrap_or_default();
    [
        ("csi.storage.k8s.io/pod.name", pod.name().to_owned()),
        ("csi.storage.k8s.io/pod.namespace", pod.namespace().to_owned()),
        ("csi.storage.k8s.io/pod.uid", pod.uid().to_owned()),
        ("csi.storage.k8s.io/serviceAccount.name", account),
        ("csi.storage.k8s.io/ephemeral", ephemeral.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Whether the kubelet gives the volume to the pod's group.
pub fn sets_group(policy: Option<&str>, fs_type: &str, mode: Option<&str>) -> bool {
    match policy {
        Some("File") => true,
        Some("None") => false,
        // ReadWriteOnceWithFSType
        _ => !fs_type.is_empty() && matches!(mode, Some("ReadWriteOnce" | "ReadWriteOncePod")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_modes() {
        let check =
            |mode: &str, apart: bool, expected: Mode| assert_eq!(access_mode(Some(mode), apart), expected);
        check("ReadWriteOnce", false, Mode::SingleNodeWriter);
        check("ReadWriteOnce", true, Mode::SingleNodeMultiWriter);
        check("ReadWriteOncePod", false, Mode::SingleNodeWriter);
        check("ReadWriteOncePod", true, Mode::SingleNodeSingleWriter);
        check("ReadOnlyMany", true, Mode::MultiNodeReaderOnly);
        check("ReadWriteMany", false, Mode::MultiNodeMultiWriter);
    }

    #[test]
    fn group_policies() {
        let check = |policy: Option<&str>, fs: &str, mode: &str, expected: bool| {
            assert_eq!(sets_group(policy, fs, Some(mode)), expected, "{policy:?} {fs} {mode}");
        };
        check(None, "ext4", "ReadWriteOnce", true);
        check(None, "", "ReadWriteOnce", false);
        check(Some("ReadWriteOnceWithFSType"), "ext4", "ReadWriteMany", false);
        check(Some("File"), "", "ReadWriteMany", true);
        check(Some("None"), "ext4", "ReadWriteOnce", false);
    }
}
