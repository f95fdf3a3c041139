//! Prefers nodes that have a pod's images already; images that many nodes have count more, so that one node's
//! cache does not attract everything.

use super::{Check, Events, MAX_SCORE, Plugin};
use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;

const MEGABYTE: i64 = 1024 * 1024;
/// Below this an image is not worth a preference; above the other it makes no difference any more.
const LEAST: i64 = 23 * MEGABYTE;
const MOST_PER_CONTAINER: i64 = 1000 * MEGABYTE;

pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        // With a single node there is nothing to prefer.
        if cluster.nodes.len() < 2 {
            return None;
        }
        let spec = pod.spec()?;
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let images: Vec<_> =
            containers.filter_map(|container| container.image.as_deref()).map(full_name).collect();
        let total = cluster.live_nodes().count();
        Some(Box::new(Images { images, cluster, total }))
    }

    fn helped_by(&self) -> Events {
        Events::NONE
    }
}

/// Names without a tag mean the latest.
fn full_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}

struct Images<'a> {
    images: Vec<String>,
    cluster: &'a Cluster,
    total: usize,
}

impl Check for Images<'_> {
    fn scores(&self) -> bool {
        true
    }

    fn score(&self, node: &NodeState) -> i64 {
        let sizes = self.images.iter().filter_map(|image| {
            let size = *node.images.get(image)?;
            let spread = self.cluster.image_spread.get(image).copied().unwrap_or(0);
            Some((size as f64 * spread as f64 / self.total.max(1) as f64) as i64)
        });
        let sum: i64 = sizes.sum();
        let most = MOST_PER_CONTAINER * i64::try_from(self.images.len().max(1)).unwrap_or(1);
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}
