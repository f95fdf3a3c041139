//! Brings pods together, or keeps them apart, by labels of the pods that are there already.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};

use super::{Check, Events, MAX_SCORE, Plugin, Refusal};
use crate::cluster::{Cluster, NodeState};
use crate::labels::selects;
use crate::pod::PodInfo;

pub struct InterPodAffinity;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        let affinity = pod.spec().and_then(|spec| spec.affinity.as_ref());
        let asks = affinity
            .is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some());
        if !asks && !cluster.live_nodes().any(|node| node.with_anti_affinity > 0) {
            return None;
        }
        Some(Box::new(Neighbours::new(pod, cluster)))
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.or(Events::NODE_LABELS).or(Events::POD_ADDED).or(Events::POD_REMOVED)
    }

    fn weight(&self) -> i64 {
        2
    }
}

/// Values of a topology label, and how many pods count there.
type Domains<'a> = HashMap<(&'a str, &'a str), i64>;

struct Neighbours<'a> {
    pod: &'a PodInfo,
    /// For each required affinity term, where pods that it picks are.
    wanted: Vec<Domains<'a>>,
    /// No pod anywhere is what the pod wants, but it is so itself: the first of a group.
    is_first: bool,
    /// Where the pod itself refuses to be.
    refused: Domains<'a>,
    /// Where others refuse the pod.
    refusing: Domains<'a>,
    preferred: Domains<'a>,
}

impl<'a> Neighbours<'a> {
    fn new(pod: &'a PodInfo, cluster: &'a Cluster) -> Self {
        let required = pod.required_affinity();
        let anti = pod.required_anti_affinity();
        let mut wanted: Vec<Domains<'a>> = required.iter().map(|_| Domains::new()).collect();
        let mut refused = Domains::new();
        let mut refusing = Domains::new();
        let mut preferred = Domains::new();
        let likes = preferences(pod);
        let asks = !required.is_empty() || !anti.is_empty() || !likes.is_empty();
        for node in cluster.live_nodes() {
            if node.with_anti_affinity > 0 {
                for other in node.pods.values() {
                    for term in other.required_anti_affinity() {
                        if picks(term, other, pod, cluster) {
                            count(&mut refusing, term, node, 1);
                        }
                    }
                }
            }
            if !asks {
                continue;
            }
            for other in node.pods.values() {
                for (term, domains) in required.iter().zip(&mut wanted) {
                    if picks(term, pod, other, cluster) {
                        count(domains, term, node, 1);
                    }
                }
                for term in anti {
                    if picks(term, pod, other, cluster) {
                        count(&mut refused, term, node, 1);
                    }
                }
                for (weight, term) in &likes {
                    if picks(term, pod, other, cluster) {
                        count(&mut preferred, term, node, *weight);
                    }
                }
            }
        }
        let is_first = wanted.iter().all(HashMap::is_empty)
            && required.iter().all(|term| picks(term, pod, pod, cluster));
        Self { pod, wanted, is_first, refused, refusing, preferred }
    }
}

fn count<'a>(domains: &mut Domains<'a>, term: &'a PodAffinityTerm, node: &'a NodeState, weight: i64) {
    if let Some(value) = node.label(&term.topology_key) {
        *domains.entry((&term.topology_key, value)).or_default() += weight;
    }
}

/// The preferred terms of a pod, those of anti-affinity with negative weight.
fn preferences(pod: &PodInfo) -> Vec<(i64, &PodAffinityTerm)> {
    let affinity = pod.spec().and_then(|spec| spec.affinity.as_ref());
    let likes = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let likes = likes.and_then(|likes| likes.preferred_during_scheduling_ignored_during_execution.as_ref());
    let dislikes = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let dislikes =
        dislikes.and_then(|dislikes| dislikes.preferred_during_scheduling_ignored_during_execution.as_ref());
    let weighted = |sign: i64| move |term: &'_ WeightedPodAffinityTerm| sign * i64::from(term.weight);
    let likes = likes.into_iter().flatten().map(|term| (weighted(1)(term), &term.pod_affinity_term));
    let dislikes = dislikes.into_iter().flatten().map(|term| (weighted(-1)(term), &term.pod_affinity_term));
    likes.chain(dislikes).collect()
}

/// Whether a term of `owner` picks `other`.
fn picks(term: &PodAffinityTerm, owner: &PodInfo, other: &PodInfo, cluster: &Cluster) -> bool {
    in_namespaces(term, owner, other.namespace(), cluster) && {
        let labels = other.pod.metadata.labels.as_ref();
        let same = |key: &String| {
            let own = owner.pod.metadata.labels.as_ref().and_then(|labels| labels.get(key));
            own.is_none() || own == labels.and_then(|labels| labels.get(key))
        };
        let differs = |key: &String| {
            let own = owner.pod.metadata.labels.as_ref().and_then(|labels| labels.get(key));
            own.is_none() || own != labels.and_then(|labels| labels.get(key))
        };
        selects(term.label_selector.as_ref(), labels)
            && term.match_label_keys.iter().flatten().all(same)
            && term.mismatch_label_keys.iter().flatten().all(differs)
    }
}

fn in_namespaces(term: &PodAffinityTerm, owner: &PodInfo, namespace: &str, cluster: &Cluster) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    if named.is_empty() && term.namespace_selector.is_none() {
        return namespace == owner.namespace();
    }
    named.iter().any(|name| name == namespace)
        || selects(term.namespace_selector.as_ref(), cluster.namespace_labels(namespace))
}

impl Check for Neighbours<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let among = |domains: &Domains<'_>, key: &str| {
            node.label(key).is_some_and(|value| domains.contains_key(&(key, value)))
        };
        for (term, domains) in self.pod.required_affinity().iter().zip(&self.wanted) {
            if node.label(&term.topology_key).is_none()
                || !(self.is_first || among(domains, &term.topology_key))
            {
                return Err(Refusal::for_good("node(s) didn't match pod affinity rules"));
            }
        }
        for term in self.pod.required_anti_affinity() {
            if among(&self.refused, &term.topology_key) {
                return Err(Refusal::new("node(s) didn't match pod anti-affinity rules"));
            }
        }
        if self.refusing.keys().any(|(key, value)| node.label(key) == Some(value)) {
            return Err(Refusal::new("node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }

    fn scores(&self) -> bool {
        !self.preferred.is_empty()
    }

    fn score(&self, node: &NodeState) -> i64 {
        let here = self.preferred.iter().filter(|((key, value), _)| node.label(key) == Some(value));
        here.map(|(_, weight)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let (least, most) =
            (scores.iter().copied().min().unwrap_or(0), scores.iter().copied().max().unwrap_or(0));
        for score in scores {
            *score = if most > least { MAX_SCORE * (*score - least) / (most - least) } else { 0 };
        }
    }
}
