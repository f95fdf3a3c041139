//! Choosing a node for a pod. Free of IO.

mod misfit;
pub mod preemption;

pub use misfit::Misfit;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::classes::{Classes, CrossClass, LocalClass};
use crate::cluster::{Cluster, NodeState, Slot};
use crate::config::Profile;
use crate::devices::has_claims;
use crate::plugins::{Check, Claims, Conflict, Disks, Limits, PluginId, Promised, Refusal, Zones};
use crate::pod::PodInfo;
use crate::random::Random;
use crate::storage::ClaimState;

/// Below this many nodes all are looked at, whatever the profile's percentage.
const LOOK_AT_ALL: usize = 100;

/// Pods for which room was made, by node: what they will take is as good as taken for less important ones.
pub type Nominated = HashMap<String, Vec<Arc<PodInfo>>>;

/// Why a pod can go nowhere, whatever the nodes.
#[derive(Debug)]
pub struct Hopeless {
    pub plugin: PluginId,
    pub message: String,
}

/// Everything there is to say about one pod at this moment.
pub struct Attempt<'a> {
    pub pod: &'a PodInfo,
    pub profile: &'a Profile,
    pub cluster: &'a Cluster,
    local: &'a LocalClass,
    cross: Option<&'a CrossClass>,
    checks: Vec<(PluginId, Box<dyn Check + 'a>)>,
    floors: Vec<i64>,
    /// Nodes on which room is kept for pods that matter at least as much.
    kept: Vec<(Slot, Vec<Arc<PodInfo>>)>,
}

impl<'a> Attempt<'a> {
    pub fn new(
        classes: &'a mut Classes,
        at: usize,
        profile: &'a Profile,
        pod: &'a PodInfo,
        cluster: &'a Cluster,
        nominated: &Nominated,
    ) -> Result<Self, Hopeless> {
        let checks = checks(pod, profile, cluster)?;
        let (local, cross) = classes.of(at, profile, pod, cluster);
        let floors = cross.map(|cross| cross.spread.floors()).unwrap_or_default();
        let mut kept = Vec::new();
        for (node, pods) in nominated {
            let counts = |other: &&Arc<PodInfo>| other.priority >= pod.priority && other.uid != pod.uid;
            let pods: Vec<_> = pods.iter().filter(counts).cloned().collect();
            if let Some(slot) = cluster.slot_of(node).filter(|_| !pods.is_empty()) {
                kept.push((slot, pods));
            }
        }
        Ok(Self { pod, profile, cluster, local, cross, checks, floors, kept })
    }

    pub fn fits(&self, slot: Slot) -> bool {
        self.local.fits(slot)
            && self.cross.is_none_or(|cross| self.fits_across(cross, slot))
            && (self.checks.is_empty() || self.passes(slot))
            && (self.kept.is_empty() || self.fits_beside_nominated(slot))
    }

    fn fits_across(&self, cross: &CrossClass, slot: Slot) -> bool {
        (!self.profile.filters.contains(PluginId::PodTopologySpread) || cross.spread.fits(slot, &self.floors))
            && (!self.profile.filters.contains(PluginId::InterPodAffinity) || cross.affinity.fits(slot))
    }

    fn passes(&self, slot: Slot) -> bool {
        let Some(node) = self.cluster.nodes.get(slot) else { return false };
        self.checks.iter().all(|(_, check)| check.filter(node).is_ok())
    }

    fn fits_beside_nominated(&self, slot: Slot) -> bool {
        let Some((_, pods)) = self.kept.iter().find(|(kept, _)| *kept == slot) else { return true };
        let Some(node) = self.cluster.nodes.get(slot) else { return false };
        let mut node = node.clone();
        pods.iter().for_each(|pod| node.add_pod(pod.clone()));
        self.refusal_if(slot, &node).is_none()
    }

    /// Who refuses the node as it is, and why.
    pub fn refusal(&self, slot: Slot) -> Option<(PluginId, Refusal)> {
        let node = self.cluster.nodes.get(slot)?;
        let refusal = self.judge(slot, node, None);
        if refusal.is_some() {
            return refusal;
        }
        let (_, pods) = self.kept.iter().find(|(kept, _)| *kept == slot)?;
        let mut node = node.clone();
        pods.iter().for_each(|pod| node.add_pod(pod.clone()));
        self.refusal_if(slot, &node)
    }

    /// Who would refuse the node if this were on it, and why.
    pub fn refusal_if(&self, slot: Slot, node: &NodeState) -> Option<(PluginId, Refusal)> {
        self.judge(slot, node, Some(node))
    }

    fn judge(
        &self,
        slot: Slot,
        node: &NodeState,
        supposed: Option<&NodeState>,
    ) -> Option<(PluginId, Refusal)> {
        let local = self.local.judges.refusal(node);
        let checked = || self.checks.iter().find_map(|(id, check)| Some((*id, check.filter(node).err()?)));
        local.or_else(checked).or_else(|| self.cross?.refusal(slot, supposed, self.profile, self.cluster))
    }

    /// The nodes that fit. `start` is where the search begins where not all are looked at, so that large clusters
    /// are used evenly.
    pub fn fitting(&self, start: &mut usize) -> Vec<Slot> {
        // Room was made there for this pod.
        let nominated = self.pod.nominated_node().and_then(|name| self.cluster.slot_of(name));
        if let Some(slot) = nominated.filter(|slot| self.fits(*slot)) {
            return vec![slot];
        }
        let total = self.cluster.nodes.len();
        let enough = self.enough();
        let first = if enough < total { *start % total } else { 0 };
        let mut fitting = Vec::new();
        for slot in (first..total).chain(0..first) {
            if self.fits(slot) {
                fitting.push(slot);
                if fitting.len() >= enough {
                    *start = slot + 1;
                    break;
                }
            }
        }
        fitting
    }

    fn enough(&self) -> usize {
        let live = self.cluster.live;
        match self.profile.percentage_of_nodes_to_score {
            Some(percentage) if percentage < 100 && live > LOOK_AT_ALL => {
                (live * percentage as usize / 100).max(LOOK_AT_ALL)
            }
            _ => usize::MAX,
        }
    }

    /// What speaks for each of the nodes.
    pub fn scores(&self, fitting: &[Slot]) -> Vec<i64> {
        let mut scores = vec![0_i64; fitting.len()];
        self.local.score(fitting, &mut scores);
        if let Some(cross) = self.cross {
            let weight = self.profile.weight(PluginId::PodTopologySpread);
            if weight > 0 && cross.spread.scores() {
                cross.spread.score(fitting, weight, &mut scores);
            }
            let weight = self.profile.weight(PluginId::InterPodAffinity);
            if weight > 0 && cross.affinity.scores() {
                cross.affinity.score(fitting, weight, &mut scores);
            }
        }
        for (id, check) in self.checks.iter().filter(|(_, check)| check.scores()) {
            let weight = self.profile.weight(*id);
            for (slot, score) in fitting.iter().zip(&mut scores) {
                *score += self.cluster.nodes.get(*slot).map_or(0, |node| weight * check.score(node));
            }
        }
        scores
    }

    /// The best of the fitting nodes.
    pub fn best(&self, fitting: &[Slot], random: &mut Random) -> Option<Slot> {
        match fitting {
            [] => None,
            [only] => Some(*only),
            _ => pick(fitting, &self.scores(fitting), random),
        }
    }

    /// Why none of the nodes fits.
    pub fn misfit(&self) -> Misfit {
        let mut misfit = Misfit::default();
        for (slot, _) in self.cluster.live_nodes() {
            misfit.nodes += 1;
            if let Some((plugin, refusal)) = self.refusal(slot) {
                misfit.refused(plugin, refusal, slot);
            }
        }
        misfit
    }
}

/// One of those with the highest score, each as likely as the other.
pub fn pick(fitting: &[Slot], scores: &[i64], random: &mut Random) -> Option<Slot> {
    let most = scores.iter().copied().max()?;
    let winners = scores.iter().filter(|score| **score == most).count();
    let chosen = random.below(winners);
    fitting.iter().zip(scores).filter(|(_, score)| **score == most).nth(chosen).map(|(slot, _)| *slot)
}

type Checks<'a> = Vec<(PluginId, Box<dyn Check + 'a>)>;

/// What is to be asked about this very pod: its claims.
fn checks<'a>(pod: &'a PodInfo, profile: &'a Profile, cluster: &'a Cluster) -> Result<Checks<'a>, Hopeless> {
    fn boxed<'a>(check: impl Check + 'a) -> Box<dyn Check + 'a> {
        Box::new(check)
    }
    let mut checks: Checks<'a> = Vec::new();
    let asked = |id: PluginId| profile.filters.contains(id);
    if asked(PluginId::DynamicResources) {
        let backed = cluster.devices.backed(pod);
        if has_claims(&pod.pod) || !backed.is_empty() {
            let hopeless = |message| Hopeless { plugin: PluginId::DynamicResources, message };
            let claims = cluster.devices.claims_of(&pod.pod, backed).map_err(hopeless)?;
            checks.push((PluginId::DynamicResources, boxed(Promised::new(&cluster.devices, claims))));
        }
    }
    if pod.spec().is_none_or(|spec| spec.volumes.is_none()) {
        return Ok(checks);
    }
    let hopeless = |message| Hopeless { plugin: PluginId::VolumeBinding, message };
    let claims = cluster.storage.claims_of(&pod.pod);
    if asked(PluginId::VolumeRestrictions) {
        checks.extend(Disks::new(pod).map(|check| (PluginId::VolumeRestrictions, boxed(check))));
        checks.extend(Conflict::new(pod, cluster).map(|check| (PluginId::VolumeRestrictions, boxed(check))));
    }
    if asked(PluginId::NodeVolumeLimits) {
        checks.extend(
            Limits::new(pod, &cluster.storage).map(|check| (PluginId::NodeVolumeLimits, boxed(check))),
        );
    }
    let claims = match claims {
        Err(message) if asked(PluginId::VolumeBinding) => return Err(hopeless(message)),
        Err(_) => Vec::new(),
        Ok(claims) => claims,
    };
    if claims.is_empty() {
        return Ok(checks);
    }
    let claims = Rc::new(claims);
    if asked(PluginId::VolumeBinding) {
        checks.push((PluginId::VolumeBinding, boxed(Claims::new(&cluster.storage, claims.clone()))));
    }
    if asked(PluginId::VolumeZone) && claims.iter().any(|claim| matches!(claim.state, ClaimState::Bound(_))) {
        checks.push((PluginId::VolumeZone, boxed(Zones(claims))));
    }
    Ok(checks)
}
