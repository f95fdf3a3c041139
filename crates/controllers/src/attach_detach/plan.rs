//! Which volumes are to be attached to a node, and which are not (any longer). Free of IO.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{AttachedVolume, Node, PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

use crate::kit::{meta, pods};

/// A volume that a pod on the node uses.
#[derive(Clone, Debug)]
pub struct Needed {
    pub volume: Arc<PersistentVolume>,
    pub pod: Arc<Pod>,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub attach: Vec<(VolumeAttachment, Needed)>,
    /// Needed here, but attached to another node, from which it first has to go.
    pub blocked: Vec<Needed>,
    pub detach: Vec<Arc<VolumeAttachment>>,
    /// For `status.volumesAttached`.
    pub attached: Vec<AttachedVolume>,
}

/// How the kubelet and the controller call a volume of a CSI driver.
pub fn unique_name(volume: &PersistentVolume) -> Option<String> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    Some(format!("kubernetes.io/csi/{}^{}", csi.driver, csi.volume_handle))
}

/// Kubelets find an attachment by this name.
pub fn attachment_name(handle: &str, driver: &str, node: &str) -> String {
    let digest = Sha256::digest(format!("{handle}{driver}{node}"));
    digest.iter().fold("csi-".to_owned(), |mut name, byte| {
        // Writing to a String never fails.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// Whether an attachment was made by a controller such as this one: what others have made is theirs.
pub fn is_ours(attachment: &VolumeAttachment) -> bool {
    let digest = meta::name(attachment).strip_prefix("csi-");
    digest.is_some_and(|digest| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub fn volume_name(attachment: &VolumeAttachment) -> &str {
    attachment.spec.source.persistent_volume_name.as_deref().unwrap_or_default()
}

fn attachment(volume: &PersistentVolume, node: &str) -> Option<VolumeAttachment> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    Some(VolumeAttachment {
        metadata: ObjectMeta {
            name: Some(attachment_name(&csi.volume_handle, &csi.driver, node)),
            ..Default::default()
        },
        spec: VolumeAttachmentSpec {
            attacher: csi.driver.clone(),
            node_name: node.to_owned(),
            source: VolumeAttachmentSource {
                persistent_volume_name: volume.metadata.name.clone(),
                ..Default::default()
            },
        },
        status: None,
    })
}

fn is_for_one_node(volume: &PersistentVolume) -> bool {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    !modes.is_empty()
        && modes.iter().all(|mode| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"))
}

/// `here` are the attachments to this node, `elsewhere` tells the other nodes that a volume is attached to; `gone` says
/// that the node no longer writes to any volume, whatever it has told.
pub fn plan(
    node: &str,
    status: Option<&Node>,
    needed: &[Needed],
    here: &[Arc<VolumeAttachment>],
    elsewhere: impl Fn(&str) -> bool,
    gone: bool,
) -> Plan {
    let mut plan = Plan::default();
    let mut wanted: BTreeMap<&str, &Needed> = BTreeMap::new();
    for needed in needed {
        wanted.entry(meta::name(&*needed.volume)).or_insert(needed);
    }
    let in_use = |volume: Option<&str>| {
        let list =
            status.and_then(|node| node.status.as_ref()).and_then(|status| status.volumes_in_use.as_ref());
        volume.is_some_and(|volume| list.into_iter().flatten().any(|name| name == volume))
    };
    for attachment in here {
        let attached = attachment.status.as_ref().is_some_and(|status| status.attached);
        match wanted.remove(volume_name(attachment)) {
            Some(needed) if !meta::is_terminating(&**attachment) => {
                if attached && let Some(name) = unique_name(&needed.volume) {
                    plan.attached.push(AttachedVolume { name, device_path: String::new() });
                }
            }
            // It comes back once the old attachment has gone.
            Some(_) => {}
            None if meta::is_terminating(&**attachment) => {}
            None => {
                let name = told_name(attachment, status);
                if gone || status.is_none() || !in_use(name.as_deref()) {
                    plan.detach.push(attachment.clone());
                } else if let Some(name) = name.filter(|_| attached) {
                    plan.attached.push(AttachedVolume { name, device_path: String::new() });
                }
            }
        }
    }
    for needed in wanted.into_values() {
        let Some(new) = attachment(&needed.volume, node) else { continue };
        if is_for_one_node(&needed.volume) && elsewhere(meta::name(&*needed.volume)) {
            plan.blocked.push(needed.clone());
        } else {
            plan.attach.push((new, needed.clone()));
        }
    }
    plan.attached.sort_by(|a, b| a.name.cmp(&b.name));
    plan
}

/// The name that a kubelet has told for an attachment's volume, which may be gone by now: the attachment's own name
/// follows from it.
fn told_name(attachment: &VolumeAttachment, node: Option<&Node>) -> Option<String> {
    let status = node?.status.as_ref()?;
    let told = status.volumes_in_use.iter().flatten();
    let attached = status.volumes_attached.iter().flatten().map(|volume| &volume.name);
    told.chain(attached)
        .find(|name| {
            let parts = name.strip_prefix("kubernetes.io/csi/").and_then(|rest| rest.split_once('^'));
            parts.is_some_and(|(driver, handle)| {
                attachment_name(handle, driver, &attachment.spec.node_name) == meta::name(attachment)
            })
        })
        .cloned()
}

/// Whether a pod needs its volumes on its node.
pub fn needs_volumes(pod: &Pod) -> bool {
    pods::node_name(pod).is_some() && !pods::is_finished(pod)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str) -> Arc<PersistentVolume> {
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "d", "volumeHandle": name}}}),
            )
            .unwrap(),
        )
    }

    fn attached(name: &str, node: &str, attached: bool) -> Arc<VolumeAttachment> {
        let mut new = attachment(&volume(name), node).unwrap();
        new.status = Some(serde_json::from_value(json!({"attached": attached})).unwrap());
        Arc::new(new)
    }

    #[test]
    fn volumes_follow_pods() {
        let pod = Arc::new(Pod::default());
        let check = |needed: &[&str],
                     here: &[(&str, bool)],
                     in_use: &[&str],
                     elsewhere: &[&str],
                     gone: bool,
                     expected: Value| {
            let needed: Vec<_> =
                needed.iter().map(|name| Needed { volume: volume(name), pod: pod.clone() }).collect();
            let here: Vec<_> = here.iter().map(|(name, done)| attached(name, "n", *done)).collect();
            let in_use: Vec<_> = in_use.iter().map(|name| format!("kubernetes.io/csi/d^{name}")).collect();
            let node: Node = serde_json::from_value(json!({"status": {"volumesInUse": in_use}})).unwrap();
            let plan = plan("n", Some(&node), &needed, &here, |name| elsewhere.contains(&name), gone);
            let found = json!([
                plan.attach.iter().map(|(new, _)| volume_name(new)).collect::<Vec<_>>(),
                plan.blocked.iter().map(|needed| meta::name(&*needed.volume)).collect::<Vec<_>>(),
                plan.detach.iter().map(|old| volume_name(old)).collect::<Vec<_>>(),
                plan.attached
                    .iter()
                    .map(|volume| volume.name.rsplit('^').next().unwrap())
                    .collect::<Vec<_>>(),
            ]);
            assert_eq!(found, expected);
        };
        check(&["a"], &[], &[], &[], false, json!([["a"], [], [], []]));
        check(&["a"], &[("a", false)], &[], &[], false, json!([[], [], [], []]));
        check(&["a"], &[("a", true)], &[], &[], false, json!([[], [], [], ["a"]]));
        check(&["a"], &[], &[], &["a"], false, json!([[], ["a"], [], []]));
        check(&[], &[("a", true)], &[], &[], false, json!([[], [], ["a"], []]));
        check(&[], &[("a", true)], &["a"], &[], false, json!([[], [], [], ["a"]]));
        check(&[], &[("a", true)], &["a"], &[], true, json!([[], [], ["a"], []]));
    }

    #[test]
    fn attachments_have_the_names_that_kubelets_look_for() {
        let name = attachment_name("vol", "driver", "node");
        assert_eq!((name.len(), &name[..4]), (68, "csi-"));
        assert_ne!(name, attachment_name("vol", "driver", "other"));
    }
}
