//! Deletes pods from nodes whose `NoExecute` taints they do not tolerate (any longer).

mod tolerance;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;
use serde_json::json;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta, pods};
use crate::node_lifecycle::health::NO_EXECUTE;
use tolerance::{Tolerance, tolerance};

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
    let (due, seen) = (queue.clone(), world.clone());
    world.pods.on(move |change| {
        let Some(pod) = change.new else { return };
        let placed = change.old.and_then(|pod| pods::node_name(pod)) != pods::node_name(pod);
        let node = pods::node_name(pod).filter(|_| placed).and_then(|node| seen.nodes.get("", node));
        if node.is_some_and(|node| !evicting(&node).is_empty()) {
            due.add(Key::of(&**pod));
        }
    });
    loops.add(TaintEviction { world: world.clone() }, queue);
}

fn evicting(node: &Node) -> Vec<Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    taints.filter(|taint| taint.effect == NO_EXECUTE).cloned().collect()
}

struct TaintEviction {
    world: Arc<World>,
}

impl Controller for TaintEviction {
    const NAME: &'static str = "taint-eviction-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(pod) = self.world.pods.by_key(key) else { return Ok(None) };
        let node = pods::node_name(&pod).and_then(|node| self.world.nodes.get("", node));
        let Some(node) = node.filter(|_| !meta::is_terminating(&*pod)) else { return Ok(None) };
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        match tolerance(&evicting(&node), tolerations, Timestamp::now()) {
            Tolerance::ForEver => return Ok(None),
            Tolerance::For(left) => return Ok(Some(left)),
            Tolerance::NoLonger => {}
        }
        let message = format!("Marking for deletion Pod {key}");
        self.world.events.normal(Self::NAME, &*pod, "TaintManagerEviction", message);
        let patch = json!({"metadata": {"uid": meta::uid(&*pod)}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": meta::now()}]}});
        match self.world.pods.strategic_patch_status(key, &patch).await {
            Err(error) if error.is_not_found() => return Ok(None),
            result => result.map(drop)?,
        }
        self.world.pods.delete(&*pod, DeleteParams::default()).await?;
        Ok(None)
    }
}
