//! Keeps pods apart that cannot have the same volume: disks that only one node or pod can write to.

use k8s_openapi::api::core::v1::Volume;

use super::{Check, Refusal};
use crate::cluster::{Cluster, NodeState};
use crate::pod::PodInfo;
use crate::storage::{Key, claim_names};

/// Claims with access mode `ReadWriteOncePod` that another pod has.
pub struct Conflict<'a> {
    cluster: &'a Cluster,
    /// By namespace and name.
    taken: Vec<Key>,
}

impl<'a> Conflict<'a> {
    pub fn new(pod: &PodInfo, cluster: &'a Cluster) -> Option<Self> {
        let namespace = pod.namespace();
        let one_pod = |name: &String| {
            let claim = cluster.storage.claim(namespace, name);
            let modes = claim.and_then(|claim| claim.spec.as_ref()?.access_modes.as_ref());
            modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod"))
        };
        let claims = claim_names(&pod.pod).filter(one_pod).map(|name| (namespace.to_owned(), name));
        let taken: Vec<_> = claims.filter(|claim| cluster.claim_users.contains_key(claim)).collect();
        (!taken.is_empty()).then_some(Self { cluster, taken })
    }
}

fn users(node: &NodeState, (namespace, name): &Key) -> usize {
    let uses =
        |pod: &PodInfo| pod.namespace() == namespace && claim_names(&pod.pod).any(|other| other == *name);
    node.pods.values().filter(|pod| uses(pod)).count()
}

impl Check for Conflict<'_> {
    /// The claim is taken wherever the pod goes, unless its user is on this very node and goes.
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let reason =
            "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        for claim in &self.taken {
            let all = self.cluster.claim_users.get(claim).copied().unwrap_or(0);
            let were_here = self.cluster.node(&node.name).map_or(0, |node| users(node, claim));
            let here = users(node, claim);
            if all - were_here.min(all) + here > 0 {
                return Err(Refusal { reasons: vec![reason.into()], preemption_helps: here > 0 });
            }
        }
        Ok(())
    }
}

/// Disks named in the pod itself.
pub struct Disks<'a>(Vec<&'a Volume>);

impl<'a> Disks<'a> {
    pub fn new(pod: &'a PodInfo) -> Option<Self> {
        let volumes = disks(pod);
        (!volumes.is_empty()).then_some(Self(volumes))
    }
}

fn disks(pod: &PodInfo) -> Vec<&Volume> {
    let volumes = pod.spec().into_iter().flat_map(|spec| spec.volumes.iter().flatten());
    let named = volumes.filter(|volume| {
        volume.gce_persistent_disk.is_some()
            || volume.aws_elastic_block_store.is_some()
            || volume.iscsi.is_some()
            || volume.rbd.is_some()
    });
    named.collect()
}

impl Check for Disks<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let mut there = node.pods.values().flat_map(|pod| disks(pod));
        if there.any(|taken| self.0.iter().any(|wanted| clash(wanted, taken))) {
            return Err(Refusal::new("node(s) had no available disk"));
        }
        Ok(())
    }
}

fn clash(a: &Volume, b: &Volume) -> bool {
    let both_read = |a: Option<bool>, b: Option<bool>| a == Some(true) && b == Some(true);
    if let (Some(a), Some(b)) = (&a.gce_persistent_disk, &b.gce_persistent_disk) {
        return a.pd_name == b.pd_name && !both_read(a.read_only, b.read_only);
    }
    if let (Some(a), Some(b)) = (&a.aws_elastic_block_store, &b.aws_elastic_block_store) {
        return a.volume_id == b.volume_id;
    }
    if let (Some(a), Some(b)) = (&a.iscsi, &b.iscsi) {
        return a.iqn == b.iqn && !both_read(a.read_only, b.read_only);
    }
    if let (Some(a), Some(b)) = (&a.rbd, &b.rbd) {
        let pool = |pool: &Option<String>| pool.clone().unwrap_or_else(|| "rbd".to_owned());
        return a.monitors.iter().any(|monitor| b.monitors.contains(monitor))
            && pool(&a.pool) == pool(&b.pool)
            && a.image == b.image
            && !both_read(a.read_only, b.read_only);
    }
    false
}
