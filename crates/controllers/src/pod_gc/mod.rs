//! Removes pods that no kubelet will: those of nodes that are gone, those that were deleted before they had a node,
//! and the oldest of very many that have finished.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::json;

use crate::Loops;
use crate::kit::{Context, Controller, Key, Queue, SyncError, World, meta, pods};
use crate::node_lifecycle::health;

/// A node may come back within this time (or only be seen late), and its pods with it.
const QUARANTINE: Duration = Duration::from_secs(40);

/// Keeps `most_finished` of the pods that have finished, or all.
pub fn start(world: &Arc<World>, loops: &mut Loops, most_finished: Option<usize>) {
    let queue = Queue::default();
    let (due, seen) = (queue.clone(), world.clone());
    world.nodes.on(move |change| {
        if let (Some(gone), None) = (change.old, change.new) {
            for pod in seen.pods.by_index(meta::name(&**gone)) {
                due.add_after(Key::of(&*pod), QUARANTINE);
            }
        }
        if let Some(node) = change.new.filter(|node| is_down(node))
            && !change.old.is_some_and(|node| is_down(node))
        {
            for pod in seen.pods.by_index(meta::name(&**node)) {
                due.add(Key::of(&*pod));
            }
        }
    });
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| {
        let Some(pod) = change.new else { return };
        match pods::node_name(pod) {
            None if meta::is_terminating(&**pod) => due.add(Key::of(&**pod)),
            None => {}
            Some(node) => match seen.nodes.get("", node) {
                None => due.add_after(Key::of(&**pod), QUARANTINE),
                Some(node) if is_down(&node) && meta::is_terminating(&**pod) => due.add(Key::of(&**pod)),
                Some(_) => {}
            },
        }
        let finished = |pod: &Arc<Pod>| pods::is_finished(pod);
        if finished(pod) && !change.old.is_some_and(finished) {
            due.add_lazily(Key::default());
        }
    });
    loops.add(PodGc { world: world.clone(), most_finished }, queue);
}

/// A node that is not ready, and that an administrator says will not come back with what ran on it.
fn is_down(node: &Node) -> bool {
    health::is_out_of_service(node) && health::readiness(node) != Some("True")
}

struct PodGc {
    world: Arc<World>,
    most_finished: Option<usize>,
}

impl Controller for PodGc {
    const NAME: &'static str = "pod-garbage-collector";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        // No pod has an empty name: this stands for the question whether too many have finished.
        if *key == Key::default() {
            return self.trim_finished().await.map(|()| None);
        }
        let Some(pod) = self.world.pods.by_key(key) else { return Ok(None) };
        match pods::node_name(&pod) {
            None if meta::is_terminating(&*pod) => self.remove(&pod, None).await?,
            Some(node) if !self.node_exists(node).await? => {
                self.remove(&pod, Some("PodGC: node no longer exists")).await?;
            }
            Some(node)
                if meta::is_terminating(&*pod)
                    && self.world.nodes.get("", node).is_some_and(|node| is_down(&node)) =>
            {
                self.remove(&pod, None).await?;
            }
            _ => {}
        }
        Ok(None)
    }
}

impl PodGc {
    async fn node_exists(&self, node: &str) -> Result<bool, SyncError> {
        if self.world.nodes.get("", node).is_some() {
            return Ok(true);
        }
        let found = self.world.nodes.api("").get_metadata_opt(node).await;
        Ok(found.context("get", || format!("Node {node}"))?.is_some())
    }

    async fn remove(&self, pod: &Arc<Pod>, orphaned: Option<&str>) -> Result<(), SyncError> {
        let key = Key::of(&**pod);
        if !pods::is_finished(pod) {
            let mut patch = json!({"metadata": {"uid": meta::uid(&**pod)}, "status": {"phase": "Failed"}});
            if let Some(message) = orphaned
                && let Some(status) = patch.get_mut("status").and_then(|status| status.as_object_mut())
            {
                let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                    "message": message, "lastTransitionTime": meta::now(),
                    "observedGeneration": pod.metadata.generation});
                status.insert("conditions".to_owned(), json!([condition]));
            }
            match self.world.pods.strategic_patch_status(&key, &patch).await {
                Err(error) if error.is_not_found() => return Ok(()),
                result => result.map(drop)?,
            }
        }
        self.world.pods.delete(&**pod, DeleteParams::default().grace_period(0)).await
    }

    async fn trim_finished(&self) -> Result<(), SyncError> {
        let Some(most) = self.most_finished else { return Ok(()) };
        let mut finished = self.world.pods.list();
        finished.retain(|pod| pods::is_finished(pod));
        let surplus = finished.len().saturating_sub(most);
        if surplus == 0 {
            return Ok(());
        }
        let age =
            |pod: &Arc<Pod>| pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
        finished.sort_by_key(age);
        for pod in finished.iter().take(surplus) {
            self.world.pods.delete(&**pod, DeleteParams::default().grace_period(0)).await?;
        }
        Ok(())
    }
}
