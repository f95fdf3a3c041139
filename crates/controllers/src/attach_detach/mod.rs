//! Has CSI drivers attach volumes to the nodes whose pods need them, and detach those that no pod needs: by
//! VolumeAttachments, which the drivers' attachers act on.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use kube::api::DeleteParams;
use serde_json::json;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta, pods};
use crate::node_lifecycle::health;
use plan::{Needed, needs_volumes};

/// Kubelets whose volumes are attached from here say so.
const MANAGED: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// A node that has been unhealthy for so long is taken to write no more.
const FORCED_AFTER: Duration = Duration::from_secs(6 * 60);

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.pods.on(move |change| {
        let placed = |pod: &Arc<Pod>| (pods::node_name(pod).map(str::to_owned), needs_volumes(pod));
        if change.old.map(placed) == change.new.map(placed) {
            return;
        }
        for pod in change.old.iter().chain(&change.new).filter(|pod| claims(pod).next().is_some()) {
            if let Some(node) = pods::node_name(pod) {
                due.add_lazily(Key::cluster(node));
            }
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.volume_attachments.on(move |change| {
        let Some(attachment) = change.object() else { return };
        due.add(Key::cluster(&attachment.spec.node_name));
        if change.new.is_none() {
            // It may be what another node waits for.
            for pod in seen.volume_users(plan::volume_name(attachment)) {
                if let Some(node) = pods::node_name(&pod) {
                    due.add(Key::cluster(node));
                }
            }
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.persistent_volume_claims.on(move |change| {
        let Some(claim) = change.new else { return };
        let bound = |claim: &Arc<k8s_openapi::api::core::v1::PersistentVolumeClaim>| {
            claim.status.as_ref().and_then(|status| status.phase.clone())
        };
        if change.old.and_then(bound) != bound(claim) {
            for pod in seen.pods.by_namespace(meta::namespace(&**claim)) {
                if claims(&pod).any(|name| name == meta::name(&**claim))
                    && let Some(node) = pods::node_name(&pod)
                {
                    due.add(Key::cluster(node));
                }
            }
        }
    });
    let due = queue.clone();
    world.nodes.on(move |change| {
        let told = |node: &Arc<Node>| {
            let status = node.status.as_ref();
            (
                status.and_then(|status| status.volumes_in_use.clone()),
                node.spec.as_ref().and_then(|spec| spec.taints.clone()),
                meta::annotation(&**node, MANAGED).map(str::to_owned),
            )
        };
        if change.old.map(told) != change.new.map(told)
            && let Some(node) = change.object()
        {
            due.add(Key::of(&**node));
        }
    });
    loops.add(AttachDetach { world: world.clone() }, queue);
}

/// The claims that a pod uses, those made for it included.
fn claims(pod: &Pod) -> impl Iterator<Item = String> {
    crate::volume_protection::claims(pod)
}

impl World {
    /// The pods that use a volume, by the claim that it is bound to.
    fn volume_users(&self, volume: &str) -> Vec<Arc<Pod>> {
        let volume = self.persistent_volumes.get("", volume);
        let claim = volume.and_then(|volume| volume.spec.as_ref()?.claim_ref.clone());
        let Some(claim) = claim else { return Vec::new() };
        let mut users = self.pods.by_namespace(claim.namespace.as_deref().unwrap_or_default());
        users.retain(|pod| needs_volumes(pod) && claims(pod).any(|name| Some(&name) == claim.name.as_ref()));
        users
    }
}

struct AttachDetach {
    world: Arc<World>,
}

impl Controller for AttachDetach {
    const NAME: &'static str = "attachdetach-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let world = &self.world;
        let node = world.nodes.by_key(key);
        let managed = node.as_ref().is_some_and(|node| meta::annotation(&**node, MANAGED) == Some("true"));
        let mut here = world.volume_attachments.by_index(&key.name);
        here.retain(|attachment| plan::is_ours(attachment));
        if node.is_some() && !managed {
            return Ok(None);
        }
        let needed = if node.is_some() { self.needed(&key.name) } else { Vec::new() };
        let (gone, again) = node.as_ref().map_or((true, None), |node| is_gone(node, Timestamp::now()));
        let elsewhere = |volume: &str| {
            let attachments = world.volume_attachments.list();
            attachments
                .iter()
                .any(|other| plan::volume_name(other) == volume && other.spec.node_name != key.name)
        };
        let plan = plan::plan(&key.name, node.as_deref(), &needed, &here, elsewhere, gone);

        // The kubelet is told first, so that it starts no pod with a volume that is about to go.
        if let Some(node) = &node {
            let told = node
                .status
                .as_ref()
                .and_then(|status| status.volumes_attached.as_deref())
                .unwrap_or_default();
            if told != plan.attached {
                let patch = json!({"status": {"volumesAttached": plan.attached}});
                world.nodes.merge_patch_status(key, &patch).await?;
                self.tell_attached(told, &plan.attached, &needed);
            }
        }
        for attachment in &plan.detach {
            world.volume_attachments.delete(&**attachment, DeleteParams::default()).await?;
        }
        for blocked in &plan.blocked {
            let message = format!(
                "Multi-Attach error for volume \"{}\" Volume is already exclusively attached to one node and can't \
                 be attached to another",
                meta::name(&*blocked.volume)
            );
            world.events.warning(Self::NAME, &*blocked.pod, "FailedAttachVolume", message);
        }
        for (attachment, needed) in &plan.attach {
            self.attach(attachment, needed).await?;
        }
        self.tell_errors(&here, &needed);
        let waits = !plan.attached.is_empty() || !plan.detach.is_empty();
        Ok(again.filter(|_| waits))
    }
}

impl AttachDetach {
    async fn attach(&self, attachment: &VolumeAttachment, needed: &Needed) -> Result<(), SyncError> {
        match self.world.volume_attachments.create(attachment).await {
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                let message = format!(
                    "AttachVolume.Attach failed for volume \"{}\" : {}",
                    meta::name(&*needed.volume),
                    error.api_message()
                );
                self.world.events.warning(Self::NAME, &*needed.pod, "FailedAttachVolume", message);
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }

    /// The attachable volumes that the pods of a node need.
    fn needed(&self, node: &str) -> Vec<Needed> {
        let mut needed = Vec::new();
        for pod in self.world.pods.by_index(node).into_iter().filter(|pod| needs_volumes(pod)) {
            for claim in claims(&pod) {
                let claim = self.world.persistent_volume_claims.get(meta::namespace(&*pod), &claim);
                let bound = claim.filter(|claim| {
                    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
                });
                let volume = bound.and_then(|claim| claim.spec.as_ref()?.volume_name.clone());
                let volume = volume.and_then(|name| self.world.persistent_volumes.get("", &name));
                if let Some(volume) = volume.filter(|volume| self.is_attachable(volume)) {
                    needed.push(Needed { volume, pod: pod.clone() });
                }
            }
        }
        needed
    }

    fn is_attachable(&self, volume: &PersistentVolume) -> bool {
        let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else { return false };
        let driver = self.world.csi_drivers.get("", &csi.driver);
        driver.is_none_or(|driver: Arc<CSIDriver>| driver.spec.attach_required != Some(false))
    }

    fn tell_attached(
        &self,
        before: &[k8s_openapi::api::core::v1::AttachedVolume],
        now: &[k8s_openapi::api::core::v1::AttachedVolume],
        needed: &[Needed],
    ) {
        for needed in needed {
            let name = plan::unique_name(&needed.volume);
            let is_in = |list: &[k8s_openapi::api::core::v1::AttachedVolume]| {
                list.iter().any(|volume| Some(&volume.name) == name.as_ref())
            };
            if is_in(now) && !is_in(before) {
                let message =
                    format!("AttachVolume.Attach succeeded for volume \"{}\" ", meta::name(&*needed.volume));
                self.world.events.normal(Self::NAME, &*needed.pod, "SuccessfulAttachVolume", message);
            }
        }
    }

    /// What the drivers could not do, to those whom it keeps waiting.
    fn tell_errors(&self, here: &[Arc<VolumeAttachment>], needed: &[Needed]) {
        for attachment in here {
            let error = attachment.status.as_ref().and_then(|status| status.attach_error.as_ref());
            let Some(message) = error.and_then(|error| error.message.as_ref()) else { continue };
            let volume = plan::volume_name(attachment);
            for needed in needed.iter().filter(|needed| meta::name(&*needed.volume) == volume) {
                let message = format!("AttachVolume.Attach failed for volume \"{volume}\" : {message}");
                self.world.events.warning(Self::NAME, &*needed.pod, "FailedAttachVolume", message);
            }
        }
    }
}

/// Whether a node writes to no volume any more, and otherwise when that is to be asked again.
fn is_gone(node: &Node, now: Timestamp) -> (bool, Option<Duration>) {
    if health::is_out_of_service(node) {
        return (true, None);
    }
    let Some(ready) = health::condition(node, "Ready").filter(|ready| ready.status != "True") else {
        return (false, None);
    };
    let since = ready.last_transition_time.as_ref().map(|time| now.duration_since(time.0));
    let passed = since.and_then(|since| Duration::try_from(since).ok()).unwrap_or_default();
    let left = FORCED_AFTER.saturating_sub(passed);
    (left.is_zero(), (!left.is_zero()).then_some(left))
}
