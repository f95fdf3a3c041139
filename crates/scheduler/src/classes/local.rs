//! What can be said of each node for itself: whether pods of a class fit there, and what speaks for it. Only nodes
//! that have changed are looked at again.

use crate::cluster::{Cluster, Missed, NodeState, Slot};
use crate::config::Profile;
use crate::devices::Backed;
use crate::plugins::{
    Balance, Fit, Images, Local, MAX_SCORE, Named, Needed, Picky, PluginId, Refusal, Tolerant, Unschedulable,
    Wanted,
};
use crate::pod::PodInfo;

/// The plugins that judge one node at a time, made for a class of pods.
pub struct Judges {
    filters: Vec<(PluginId, Box<dyn Local>)>,
    fit: Option<(i64, Fit)>,
    balance: Option<(i64, Balance)>,
    images: Option<(i64, Images)>,
    tolerant: Tolerant,
    taint_weight: i64,
    picky: Option<Picky>,
    affinity_weight: i64,
}

impl Judges {
    pub fn new(pod: &PodInfo, profile: &Profile, cluster: &Cluster) -> Self {
        let mut filters: Vec<(PluginId, Box<dyn Local>)> = Vec::new();
        for id in profile.filters.iter() {
            filters.extend(judge(id, pod, profile, cluster).map(|local| (id, local)));
        }
        let weight = |id: PluginId| Some(profile.weight(id)).filter(|weight| *weight > 0);
        let added = profile.added_affinity.as_ref();
        let picky = Picky::new(pod, added);
        Self {
            filters,
            fit: weight(PluginId::NodeResourcesFit).map(|weight| (weight, fit(pod, profile, cluster))),
            balance: weight(PluginId::NodeResourcesBalancedAllocation)
                .and_then(|weight| Some((weight, Balance::new(pod, &profile.balanced)?))),
            images: weight(PluginId::ImageLocality).map(|weight| (weight, Images::new(pod))),
            tolerant: Tolerant::new(pod),
            taint_weight: profile.weight(PluginId::TaintToleration),
            affinity_weight: match &picky {
                Some(picky) if picky.prefers() => profile.weight(PluginId::NodeAffinity),
                _ => 0,
            },
            picky,
        }
    }

    pub fn refusal(&self, node: &NodeState) -> Option<(PluginId, Refusal)> {
        self.filters.iter().find_map(|(id, local)| Some((*id, local.filter(node).err()?)))
    }

    /// Whether the pod's own node selector and affinity pick the node.
    pub fn picks(&self, node: &NodeState) -> bool {
        self.picky.as_ref().is_none_or(|picky| picky.picks(node))
    }

    pub fn tolerates(&self, node: &NodeState) -> bool {
        self.tolerant.filter(node).is_ok()
    }

    /// What needs no comparison with other nodes.
    fn flat(&self, node: &NodeState) -> i64 {
        let fit = self.fit.as_ref().map_or(0, |(weight, fit)| weight * fit.score(node));
        let balance = self.balance.as_ref().map_or(0, |(weight, balance)| weight * balance.score(node));
        let images = self.images.as_ref().map_or(0, |(weight, images)| weight * images.score(node));
        fit + balance + images
    }
}

/// What one plugin has to say of single nodes to such a pod.
pub fn judge(id: PluginId, pod: &PodInfo, profile: &Profile, cluster: &Cluster) -> Option<Box<dyn Local>> {
    fn boxed<L: Local + 'static>(local: L) -> Box<dyn Local> {
        Box::new(local)
    }
    match id {
        PluginId::NodeUnschedulable => Some(boxed(Unschedulable::new(pod))),
        PluginId::NodeName => Named::new(pod).map(boxed),
        PluginId::TaintToleration => Some(boxed(Tolerant::new(pod))),
        PluginId::NodeAffinity => Picky::new(pod, profile.added_affinity.as_ref()).map(boxed),
        PluginId::NodePorts => Wanted::new(pod).map(boxed),
        PluginId::NodeResourcesFit => Some(boxed(fit(pod, profile, cluster))),
        PluginId::NodeDeclaredFeatures => Needed::new(pod).map(boxed),
        _ => None,
    }
}

fn fit(pod: &PodInfo, profile: &Profile, cluster: &Cluster) -> Fit {
    let claims = profile.filters.contains(PluginId::DynamicResources);
    let backed = if claims { cluster.devices.backed(pod) } else { Backed::default() };
    Fit::new(pod, &profile.fit, &backed)
}

pub struct LocalClass {
    pub judges: Judges,
    /// The log's version up to which this is right.
    seen: u64,
    verdicts: Vec<Verdict>,
    /// The only nodes worth looking at, if it is so.
    only: Option<Vec<String>>,
    pub used: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    pub fits: bool,
    flat: i64,
    /// Taints that would rather not have the pod.
    disliked: i64,
    /// Weights of the preferences that pick the node.
    liked: i64,
    version: u64,
}

impl LocalClass {
    pub fn new(pod: &PodInfo, profile: &Profile, cluster: &Cluster) -> Self {
        let judges = Judges::new(pod, profile, cluster);
        let only = judges.picky.as_ref().and_then(Picky::only);
        let only = only.filter(|_| profile.filters.contains(PluginId::NodeAffinity));
        let mut class = Self { judges, seen: 0, verdicts: Vec::new(), only, used: 0 };
        if let Some((_, images)) = &mut class.judges.images {
            images.refresh(cluster);
        }
        class.look_at_all(cluster);
        class
    }

    /// Looks at what has changed.
    pub fn refresh(&mut self, cluster: &Cluster) {
        let images_moved = self.judges.images.as_mut().is_some_and(|(_, images)| images.refresh(cluster));
        match cluster.log.since(self.seen) {
            Missed::Some(changed) if !images_moved && self.only.is_none() => {
                changed.for_each(|(_, slot, _)| self.look_at(slot, cluster));
                self.seen = cluster.log.version();
            }
            _ => self.look_at_all(cluster),
        }
    }

    fn look_at_all(&mut self, cluster: &Cluster) {
        self.verdicts.clear();
        match self.only.take() {
            None => (0..cluster.nodes.len()).for_each(|slot| self.look_at(slot, cluster)),
            Some(names) => {
                let slots = names.iter().filter_map(|name| cluster.slot_of(name));
                slots.for_each(|slot| self.look_at(slot, cluster));
                self.only = Some(names);
            }
        }
        self.seen = cluster.log.version();
    }

    fn look_at(&mut self, slot: Slot, cluster: &Cluster) {
        let Some(node) = cluster.nodes.get(slot) else { return };
        if self.verdicts.len() <= slot {
            self.verdicts.resize(slot + 1, Verdict::default());
        }
        let Some(verdict) = self.verdicts.get_mut(slot) else { return };
        if verdict.version == node.version && node.version != 0 {
            return;
        }
        *verdict = Verdict { version: node.version, ..Verdict::default() };
        if node.node.is_none() || self.judges.refusal(node).is_some() {
            return;
        }
        verdict.fits = true;
        verdict.flat = self.judges.flat(node);
        if self.judges.taint_weight > 0 {
            verdict.disliked = self.judges.tolerant.disliked(node);
        }
        if self.judges.affinity_weight > 0 {
            verdict.liked = self.judges.picky.as_ref().map_or(0, |picky| picky.preference(node));
        }
    }

    pub fn fits(&self, slot: Slot) -> bool {
        self.verdicts.get(slot).is_some_and(|verdict| verdict.fits)
    }

    /// Adds up what speaks for each of the nodes.
    pub fn score(&self, fitting: &[Slot], scores: &mut [i64]) {
        let (mut disliked, mut liked) = (0, 0);
        for (slot, score) in fitting.iter().zip(scores.iter_mut()) {
            let Some(verdict) = self.verdicts.get(*slot) else { continue };
            *score += verdict.flat;
            disliked = disliked.max(verdict.disliked);
            liked = liked.max(verdict.liked);
        }
        if disliked == 0 && liked == 0 {
            // Every node gets the same for its taints, and nothing for affinity.
            let same = self.judges.taint_weight * MAX_SCORE;
            scores.iter_mut().for_each(|score| *score += same);
            return;
        }
        for (slot, score) in fitting.iter().zip(scores) {
            let Some(verdict) = self.verdicts.get(*slot) else { continue };
            let scaled = |part: i64, most: i64| if most == 0 { 0 } else { part * MAX_SCORE / most };
            *score += self.judges.taint_weight * (MAX_SCORE - scaled(verdict.disliked, disliked));
            *score += self.judges.affinity_weight * scaled(verdict.liked, liked);
        }
    }

    #[cfg(test)]
    pub fn verdicts(&self, cluster: &Cluster) -> Vec<(String, Verdict)> {
        let known = cluster.live_nodes().map(|(slot, node)| {
            (
                node.name.clone(),
                Verdict { version: 0, ..self.verdicts.get(slot).copied().unwrap_or_default() },
            )
        });
        known.collect()
    }
}
