//! Watches over the nodes: one that has fallen silent is marked so, and what its conditions say becomes taints.
//!
//! Heartbeats are timed by when they arrive here, not by what their sender's clock says.

pub mod health;
mod zones;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::Loops;
use crate::kit::meters::{EVICTIONS, METERS};
use crate::kit::{Controller, Key, Queue, SyncError, World, meta, pods};
use health::STARTUP_GRACE;
use zones::{Permit, Zones};

/// The namespace of the Leases of nodes.
const LEASES: &str = "kube-node-lease";

type Heartbeats = Arc<Mutex<HashMap<String, Instant>>>;

pub fn start(world: &Arc<World>, loops: &mut Loops, grace: Duration) {
    let queue = Queue::default();
    let heartbeats = Heartbeats::default();
    let (due, heard, seen) = (queue.clone(), heartbeats.clone(), world.clone());
    world.nodes.on(move |change| {
        if !change.is_update()
            && let Some(node) = change.object()
        {
            tell_known(&seen, node, change.new.is_some());
        }
        let Some(node) = change.new else {
            heard.lock().remove(change.old.map(|node| meta::name(&**node)).unwrap_or_default());
            return;
        };
        let beat = |node: &Arc<Node>| {
            health::condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.clone())
        };
        if change.old.is_none() || change.old.and_then(beat) != change.new.and_then(beat) {
            heard.lock().insert(meta::name(&**node).to_owned(), Instant::now());
        }
        due.add(Key::of(&**node));
        // What may be done about the failed nodes depends on how many there are.
        let readiness = |node: &Arc<Node>| health::readiness(node).map(str::to_owned);
        if change.old.and_then(readiness) != readiness(node) {
            let all = seen.nodes.list();
            let failed =
                all.iter().filter(|node| health::readiness(node).is_some_and(|ready| ready != "True"));
            failed.for_each(|node| due.add(Key::of(&**node)));
        }
    });
    let (due, heard, seen) = (queue.clone(), heartbeats.clone(), world.clone());
    world.leases.on(move |change| {
        let Some(lease) = change.new.filter(|lease| meta::namespace(&***lease) == LEASES) else { return };
        let name = meta::name(&**lease);
        if let Some(node) = seen.nodes.get("", name) {
            heard.lock().insert(name.to_owned(), Instant::now());
            // A heartbeat in time changes nothing: the timer that runs out next looks at the last one.
            if health::readiness(&node) == Some("Unknown") {
                due.add(Key::cluster(name));
            }
        }
    });
    let controller = NodeLifecycle { world: world.clone(), heartbeats, grace, zones: Mutex::default() };
    loops.add(controller, queue);
}

fn tell_known(world: &World, node: &Node, comes: bool) {
    let name = meta::name(node);
    let (reason, message) = if comes {
        ("RegisteredNode", format!("Node {name} event: Registered Node {name} in Controller"))
    } else {
        ("RemovingNode", format!("Node {name} event: Removing Node {name} from Controller"))
    };
    world.events.normal(NodeLifecycle::NAME, node, reason, message);
}

struct NodeLifecycle {
    world: Arc<World>,
    heartbeats: Heartbeats,
    grace: Duration,
    zones: Mutex<Zones>,
}

impl Controller for NodeLifecycle {
    const NAME: &'static str = "node-controller";
    const QUEUE: &'static str = "node_lifecycle_controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(mut node) = self.world.nodes.by_key(key) else {
            return Ok(None);
        };
        let left = self.time_left(&node);
        if left.is_none() {
            node = self.mark_silent(node).await?;
        }
        let (evict, again) = self.may_evict(&node);
        if let Some(taints) = health::taints(&node, evict, &meta::now()) {
            let version = &node.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            self.world.nodes.merge_patch(key, &patch).await?;
        }
        if health::readiness(&node).is_some_and(|ready| ready != "True") {
            self.mark_pods_not_ready(key).await?;
        }
        Ok([left, again].into_iter().flatten().min())
    }
}

impl NodeLifecycle {
    /// Whether pods may be made to go from a node that is not ready, and otherwise when to ask again.
    fn may_evict(&self, node: &Node) -> (bool, Option<Duration>) {
        if health::readiness(node).is_none_or(|ready| ready == "True") {
            return (false, None);
        }
        let all = self.world.nodes.list();
        let mut zones = self.zones.lock();
        // One that has the taint keeps it without another permit, unless everything is down.
        if zones::is_tainted(node) && !zones::all_down(&all) {
            return (true, None);
        }
        match zones.permit(node, &all, Instant::now()) {
            Permit::Now => {
                METERS.count(EVICTIONS, &[("zone", &zones::name(node))]);
                (true, None)
            }
            Permit::Later(left) => (false, Some(left)),
            Permit::NotNow | Permit::Never => (false, None),
        }
    }

    /// How long the node may still be silent; nothing when it has been for too long.
    fn time_left(&self, node: &Node) -> Option<Duration> {
        let heard = self.heartbeats.lock().get(meta::name(node)).copied();
        let silent_for = heard.map(|heard| heard.elapsed()).unwrap_or_default();
        let grace = if health::readiness(node).is_some() { self.grace } else { STARTUP_GRACE };
        grace.checked_sub(silent_for).filter(|left| !left.is_zero())
    }

    async fn mark_silent(&self, node: Arc<Node>) -> Result<Arc<Node>, SyncError> {
        let Some(conditions) = health::silent(&node, &meta::now()) else {
            return Ok(node);
        };
        let mut told = (*node).clone();
        told.status.get_or_insert_default().conditions = Some(conditions);
        let told = self.world.nodes.replace_status(&told).await?;
        let name = meta::name(&*told);
        self.world.events.normal(
            Self::NAME,
            &*told,
            "NodeNotReady",
            format!("Node {name} status is now: NodeNotReady"),
        );
        Ok(told)
    }

    /// Nothing there is known to serve any more, so that Services stop sending it requests.
    async fn mark_pods_not_ready(&self, node: &Key) -> Result<(), SyncError> {
        for pod in self.world.pods.by_index(&node.name) {
            if !pods::is_ready(&pod) {
                continue;
            }
            let patch = json!({"metadata": {"uid": meta::uid(&*pod)}, "status": {"conditions": [
                {"type": "Ready", "status": "False", "lastTransitionTime": meta::now()}]}});
            match self.world.pods.strategic_patch_status(&Key::of(&*pod), &patch).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => self.world.events.warning(Self::NAME, &*pod, "NodeNotReady", "Node is not ready"),
            }
        }
        Ok(())
    }
}
