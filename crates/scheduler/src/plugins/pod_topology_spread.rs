//! Spreads the pods of a workload over zones, nodes or whatever a label tells apart.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{PodSpec, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::taint_toleration::tolerates;
use super::{Check, Events, MAX_SCORE, Plugin, Refusal, node_affinity};
use crate::cluster::{Cluster, NodeState};
use crate::labels::{Labels, selects};
use crate::pod::PodInfo;

const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

pub struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn prepare<'a>(&self, pod: &'a PodInfo, cluster: &'a Cluster) -> Option<Box<dyn Check + 'a>> {
        let spec = pod.spec()?;
        let constraints = spec.topology_spread_constraints.as_deref().unwrap_or_default();
        if constraints.is_empty() {
            return None;
        }
        let kind =
            |wanted: &str| constraints.iter().filter(|c| c.when_unsatisfiable == wanted).collect::<Vec<_>>();
        let count = |constraints: Vec<&'a TopologySpreadConstraint>| {
            let keys: Vec<&str> =
                constraints.iter().map(|constraint| constraint.topology_key.as_str()).collect();
            let count = |constraint| Count::new(constraint, &keys, pod, spec, cluster);
            constraints.into_iter().map(count).collect()
        };
        Some(Box::new(Spread {
            required: count(kind("DoNotSchedule")),
            preferred: count(kind("ScheduleAnyway")),
        }))
    }

    fn helped_by(&self) -> Events {
        Events::NODE_ADDED.or(Events::NODE_LABELS).or(Events::POD_ADDED).or(Events::POD_REMOVED)
    }

    fn weight(&self) -> i64 {
        2
    }
}

/// The matching pods of one constraint, by the value of its label.
struct Count<'a> {
    constraint: &'a TopologySpreadConstraint,
    /// Whether the pod counts itself.
    counts_itself: i64,
    domains: HashMap<&'a str, i64>,
}

impl<'a> Count<'a> {
    fn new(
        constraint: &'a TopologySpreadConstraint,
        all_keys: &[&str],
        pod: &PodInfo,
        spec: &PodSpec,
        cluster: &'a Cluster,
    ) -> Self {
        let selector = selector(constraint, pod.pod.metadata.labels.as_ref());
        let counts = |labels: Option<&Labels>| selects(selector.as_ref(), labels);
        let mut domains = HashMap::new();
        for node in cluster.live_nodes().filter(|node| is_eligible(constraint, spec, node)) {
            if !all_keys.iter().all(|key| node.label(key).is_some()) {
                continue;
            }
            let Some(domain) = node.label(&constraint.topology_key) else { continue };
            let matching = node.pods.values().filter(|other| {
                other.namespace() == pod.namespace()
                    && !other.is_terminating()
                    && counts(other.pod.metadata.labels.as_ref())
            });
            *domains.entry(domain).or_default() += i64::try_from(matching.count()).unwrap_or(0);
        }
        Self { constraint, counts_itself: i64::from(counts(pod.pod.metadata.labels.as_ref())), domains }
    }

    fn fewest(&self) -> i64 {
        let enough = i64::try_from(self.domains.len()).unwrap_or(0)
            >= i64::from(self.constraint.min_domains.unwrap_or(1));
        if enough { self.domains.values().copied().min().unwrap_or(0) } else { 0 }
    }
}

/// The label selector, narrowed to pods that share some of this pod's label values.
fn selector(constraint: &TopologySpreadConstraint, labels: Option<&Labels>) -> Option<LabelSelector> {
    let mut selector = constraint.label_selector.clone()?;
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.and_then(|labels| labels.get(key)) {
            selector.match_labels.get_or_insert_with(BTreeMap::new).insert(key.clone(), value.clone());
        }
    }
    Some(selector)
}

/// Whether a node takes part: by default if the pod's affinity picks it, whatever its taints.
fn is_eligible(constraint: &TopologySpreadConstraint, spec: &PodSpec, node: &NodeState) -> bool {
    let honors_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let honors_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    let taints = node.node.as_ref().and_then(|node| node.spec.as_ref()).and_then(|spec| spec.taints.as_ref());
    let tolerated = || {
        let mut hard = taints.into_iter().flatten().filter(|taint| taint.effect != "PreferNoSchedule");
        hard.all(|taint| tolerates(spec.tolerations.as_deref(), taint))
    };
    (!honors_affinity || node_affinity::picks(spec, node)) && (!honors_taints || tolerated())
}

struct Spread<'a> {
    required: Vec<Count<'a>>,
    preferred: Vec<Count<'a>>,
}

impl Check for Spread<'_> {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        for count in &self.required {
            let Some(domain) = node.label(&count.constraint.topology_key) else {
                return Err(Refusal::for_good(NO_LABEL));
            };
            let here = count.domains.get(domain).copied().unwrap_or(0);
            if here + count.counts_itself - count.fewest() > i64::from(count.constraint.max_skew) {
                return Err(Refusal::new(UNEVEN));
            }
        }
        Ok(())
    }

    fn scores(&self) -> bool {
        !self.preferred.is_empty()
    }

    fn score(&self, node: &NodeState) -> i64 {
        let crowd = |count: &Count<'_>| {
            let domain = node.label(&count.constraint.topology_key)?;
            let here = count.domains.get(domain).copied().unwrap_or(0);
            // Labels with many values weigh more: an uneven spread over them is harder to make up for.
            let weight = (count.domains.len() as f64 + 2.0).ln();
            Some(here as f64 * weight + f64::from(count.constraint.max_skew - 1))
        };
        // A node without the label is the last choice.
        let total: Option<f64> = self.preferred.iter().map(crowd).sum();
        total.map_or(UNLABELLED, |total| total.round() as i64)
    }

    fn normalize(&self, scores: &mut [i64]) {
        let known = || scores.iter().copied().filter(|score| *score != UNLABELLED);
        let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
        for score in scores {
            *score = match *score {
                UNLABELLED => 0,
                _ if most == 0 => MAX_SCORE,
                score => MAX_SCORE * (most + least - score) / most,
            };
        }
    }
}

const UNLABELLED: i64 = i64::MAX;
