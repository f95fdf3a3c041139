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
    let allocators = config.cluster_cidr.split(',').map(|cidr| {
        let cidr = cidr.trim();
        let is_v6 = cidr.contains(':');
        let mask_size = if is_v6 { config.node_cidr_mask_size_ipv6 } else { config.node_cidr_mask_size_ipv4 };
        Allocator::new(cidr, mask_size).map_err(|reason| Error::ClusterCidr {
            cidr: cidr.to_owned(),
            mask_size,
            reason,
        })
    });
    let allocators = Arc::new(Mutex::new(allocators.collect::<Result<Vec<_>, _>>()?));
    let queue = Queue::default();
    let (due, used) = (queue.clone(), allocators.clone());
    world.nodes.on(move |change| match (change.old, change.new) {
        (_, Some(node)) => {
            let cidrs = pod_cidrs(node);
            if cidrs.is_empty() {
                due.add(Key::of(&**node));
            }
            // Taken before any node without one is worked on: that begins only once all nodes are known.
            let mut allocators = used.lock();
            cidrs.iter().for_each(|cidr| allocators.iter_mut().for_each(|allocator| allocator.take(cidr)));
        }
        (Some(gone), None) => {
            let mut allocators = used.lock();
            pod_cidrs(gone).iter().for_each(|cidr| allocators.iter_mut().for_each(|a| a.release(cidr)));
        }
        (None, None) => {}
    });
    loops.add(NodeIpam { world: world.clone(), allocators }, queue);
    Ok(())
}

fn pod_cidrs(node: &Node) -> Vec<String> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let many = spec.pod_cidrs.iter().flatten();
    let mut cidrs: Vec<String> =
        many.chain(&spec.pod_cidr).filter(|cidr| !cidr.is_empty()).cloned().collect();
    cidrs.dedup();
    cidrs
}

struct NodeIpam {
    world: Arc<World>,
    /// One for each family.
    allocators: Arc<Mutex<Vec<Allocator>>>,
}

impl NodeIpam {
    /// A part of each network, or nothing when one of them is used up.
    fn allocate(&self) -> Option<Vec<String>> {
        let mut allocators = self.allocators.lock();
        let cidrs: Vec<String> = allocators.iter_mut().map_while(Allocator::allocate).collect();
        if cidrs.len() == allocators.len() {
            return Some(cidrs);
        }
        for (allocator, cidr) in allocators.iter_mut().zip(&cidrs) {
            allocator.release(cidr);
        }
        None
    }

    fn release(&self, cidrs: &[String]) {
        for (allocator, cidr) in self.allocators.lock().iter_mut().zip(cidrs) {
            allocator.release(cidr);
        }
    }
}

impl Controller for NodeIpam {
    const NAME: &'static str = "node-ipam-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(node) = self.world.nodes.by_key(key) else {
            return Ok(None);
        };
        if !pod_cidrs(&node).is_empty() {
            return Ok(None);
        }
        let Some(cidrs) = self.allocate() else {
            let message = "Node has no pod network: the cluster CIDR is used up by other nodes";
            self.world.events.warning("cidrAllocator", &*node, "CIDRNotAvailable", message);
            return Err(SyncError::Waiting("a free pod network".to_owned()));
        };
        let patch = json!({"spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs}});
        match self.world.nodes.strategic_patch(key, &patch).await {
            Ok(_) => Ok(None),
            Err(error) => {
                self.release(&cidrs);
                Err(error)
            }
        }
    }
}
