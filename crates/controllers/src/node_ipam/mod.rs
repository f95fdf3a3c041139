//! Gives each node its part of the pod network: `spec.podCIDR`.

mod allocator;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;

use crate::kit::{Controller, Key, Queue, SyncError, World};
use crate::{Config, Error, Loops};
use allocator::Allocator;

pub fn start(world: &Arc<World>, loops: &mut Loops, config: &Config) -> Result<(), Error> {
    let allocator = Allocator::new(&config.cluster_cidr, config.node_cidr_mask_size).map_err(|reason| {
        Error::ClusterCidr {
            cidr: config.cluster_cidr.clone(),
            mask_size: config.node_cidr_mask_size,
            reason,
        }
    })?;
    let allocator = Arc::new(Mutex::new(allocator));
    let queue = Queue::default();
    let (due, used) = (queue.clone(), allocator.clone());
    world.nodes.on(move |change| match (change.old, change.new) {
        (_, Some(node)) => match pod_cidr(node) {
            // Taken before any node without one is worked on: that begins only once all nodes are known.
            Some(cidr) => used.lock().take(cidr),
            None => due.add(Key::of(&**node)),
        },
        (Some(gone), None) => {
            if let Some(cidr) = pod_cidr(gone) {
                used.lock().release(cidr);
            }
        }
        (None, None) => {}
    });
    loops.add(NodeIpam { world: world.clone(), allocator }, queue);
    Ok(())
}

fn pod_cidr(node: &Node) -> Option<&str> {
    let cidr = node.spec.as_ref()?.pod_cidr.as_deref()?;
    (!cidr.is_empty()).then_some(cidr)
}

struct NodeIpam {
    world: Arc<World>,
    allocator: Arc<Mutex<Allocator>>,
}

impl Controller for NodeIpam {
    const NAME: &'static str = "node-ipam-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(node) = self.world.nodes.by_key(key) else {
            return Ok(None);
        };
        if pod_cidr(&node).is_some() {
            return Ok(None);
        }
        let Some(cidr) = self.allocator.lock().allocate() else {
            let message = "Node has no pod network: the cluster CIDR is used up by other nodes";
            self.world.events.warning(Self::NAME, &*node, "CIDRNotAvailable", message);
            return Err(SyncError::Waiting("a free pod network".to_owned()));
        };
        let patch = json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
        match self.world.nodes.strategic_patch(key, &patch).await {
            Ok(_) => Ok(None),
            Err(error) => {
                self.allocator.lock().release(&cidr);
                Err(error)
            }
        }
    }
}
