//! Prefers nodes that have a pod's images already; images that many nodes have count more, so that one node's
//! cache does not attract everything.

use super::MAX_SCORE;
use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;

const MEGABYTE: i64 = 1024 * 1024;
/// Below this an image is not worth a preference; above the other it makes no difference any more.
const LEAST: i64 = 23 * MEGABYTE;
const MOST_PER_CONTAINER: i64 = 1000 * MEGABYTE;

/// The images of a pod, and which share of the nodes has each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Images {
    names: Vec<String>,
    containers: i64,
    spread: Vec<usize>,
    nodes: usize,
}

impl Images {
    pub fn new(pod: &PodInfo) -> Self {
        let Some(spec) = pod.spec() else { return Self::default() };
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let images = containers.clone().filter_map(|container| container.image.as_deref());
        let mut names: Vec<String> = images.map(full_name).collect();
        let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref());
        names.extend(volumes.filter_map(|image| image.reference.as_deref()).map(full_name));
        let containers = i64::try_from(containers.count()).unwrap_or(1).max(1);
        let spread = vec![0; names.len()];
        Self { names, containers, spread, nodes: 0 }
    }

    /// Takes in how many nodes have the images by now. Whether that has changed, and with it every node's score.
    pub fn refresh(&mut self, cluster: &Cluster) -> bool {
        let mut changed = false;
        for (name, spread) in self.names.iter().zip(&mut self.spread) {
            let now = cluster.image_spread.get(name).copied().unwrap_or(0);
            changed |= *spread != now;
            *spread = now;
        }
        // The number of nodes counts only where a node has one of the images.
        if self.spread.iter().any(|spread| *spread > 0) {
            changed |= self.nodes != cluster.live;
            self.nodes = cluster.live;
        }
        changed
    }

    pub fn score(&self, node: &NodeState) -> i64 {
        if self.spread.iter().all(|spread| *spread == 0) {
            return 0;
        }
        let sizes = self.names.iter().zip(&self.spread).filter_map(|(image, spread)| {
            let size = *node.images.get(image)?;
            Some((size as f64 * *spread as f64 / self.nodes.max(1) as f64) as i64)
        });
        let sum: i64 = sizes.sum();
        let most = MOST_PER_CONTAINER.saturating_mul(self.containers);
        MAX_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
    }
}

/// Names without a tag mean the latest.
fn full_name(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
