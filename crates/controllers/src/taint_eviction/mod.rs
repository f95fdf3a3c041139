//! Deletes pods from nodes whose `NoExecute` taints they do not tolerate (any longer).

mod tolerance;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use parking_lot::Mutex;
use serde_json::json;

use crate::Loops;
use crate::kit::meters::{METERS, TAINT_EVICTIONS};
use crate::kit::{Controller, Key, Queue, SyncError, World, meta, pods};
use crate::node_lifecycle::health::NO_EXECUTE;
use tolerance::{Stay, Tolerance, tolerance};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let (due, seen) = (queue.clone(), world.clone());
    world.nodes.on(move |change| {
        if let Some(node) = change.new
            && change.old.map(|node| evicting(node)) != Some(evicting(node))
        {
            for pod in seen.pods.by_index(meta::name(&**node)) {
                due.add(Key::of(&*pod));
            }
        }
    });
    let since = Since::default();
    let (due, seen, known) = (queue.clone(), world.clone(), since.clone());
    world.pods.on(move |change| {
        let Some(pod) = change.new else {
            if let Some(pod) = change.old {
                known.lock().remove(meta::uid(&**pod));
            }
            return;
        };
        // Tolerations may be added to a pod.
        let concerned = |pod: &Arc<Pod>| {
            (
                pods::node_name(pod).map(str::to_owned),
                pod.spec.as_ref().and_then(|spec| spec.tolerations.clone()),
            )
        };
        let changed = change.old.map(concerned) != Some(concerned(pod));
        let node = pods::node_name(pod).filter(|_| changed).and_then(|node| seen.nodes.get("", node));
        if node.is_some_and(|node| !evicting(&node).is_empty()) {
            due.add(Key::of(&**pod));
        }
    });
    loops.add(TaintEviction { world: world.clone(), since }, queue);
}

fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    taints.filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
}

/// Since when pods are known to stand taints of their nodes, by UID: a taint that its maker gave no time counts from
/// then on.
type Since = Arc<Mutex<HashMap<String, Timestamp>>>;

struct TaintEviction {
    world: Arc<World>,
    since: Since,
}

impl Controller for TaintEviction {
    const NAME: &'static str = "taint-eviction-controller";
    const QUEUE: &'static str = "noexec_taint_pod_queue";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(pod) = self.world.pods.by_key(key) else { return Ok(None) };
        let uid = meta::uid(&*pod);
        let node = pods::node_name(&pod).and_then(|node| self.world.nodes.get("", node));
        let Some(node) = node.filter(|_| !meta::is_terminating(&*pod)) else { return Ok(None) };
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let taints = evicting(&node);
        let now = Timestamp::now();
        let known = *self.since.lock().entry(uid.to_owned()).or_insert(now);
        match tolerance(&taints, tolerations, Stay { known, began: began(&pod) }, now) {
            Tolerance::ForEver => {
                let counted = self.since.lock().remove(uid).is_some();
                if counted && taints.is_empty() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.world.events.normal(Self::NAME, &*pod, "TaintManagerEviction", message);
                }
                return Ok(None);
            }
            Tolerance::For(left) => return Ok(Some(left)),
            Tolerance::NoLonger => {}
        }
        let message = format!("Marking for deletion Pod {key}");
        self.world.events.normal(Self::NAME, &*pod, "TaintManagerEviction", message);
        let patch = json!({"metadata": {"uid": meta::uid(&*pod)}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": meta::now(),
            "observedGeneration": pod.metadata.generation}]}});
        match self.world.pods.strategic_patch_status(key, &patch).await {
            Err(error) if error.is_not_found() => return Ok(None),
            result => result.map(drop)?,
        }
        self.world.pods.delete(&*pod, DeleteParams::default()).await?;
        METERS.count(TAINT_EVICTIONS, &[]);
        Ok(None)
    }
}

/// Since when a pod is on its node, as near as that is told.
fn began(pod: &Pod) -> Timestamp {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    started.or(pod.metadata.creation_timestamp.as_ref()).map_or(Timestamp::MIN, |time| time.0)
}
