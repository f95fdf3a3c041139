//! Spreads the pods of a workload over zones, nodes or whatever a label tells apart.
//!
//! Here are a pod's constraints, its own or the profile's defaults; how many pods are where is counted in
//! [`crate::classes::spread`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::labels::{Labels, selects};
use crate::pod::PodInfo;

pub const UNEVEN: &str = "node(s) didn't match pod topology spread constraints";
pub const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// One constraint, as it counts for one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    pub topology_key: String,
    pub required: bool,
    pub max_skew: i64,
    pub min_domains: i64,
    pub honors_affinity: bool,
    pub honors_taints: bool,
    selector: Option<LabelSelector>,
}

/// A pod's constraints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Constraints {
    pub all: Vec<Constraint>,
    /// Of the built-in defaults a node may lack a label.
    pub every_label_needed: bool,
}

impl Constraints {
    pub fn of(pod: &PodInfo, defaults: &Defaults, workload: impl FnOnce() -> Option<LabelSelector>) -> Self {
        let own = pod.spec().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default();
        let labels = pod.pod.metadata.labels.as_ref();
        if !own.is_empty() {
            let all = own.iter().map(|constraint| Constraint::new(constraint, labels)).collect();
            return Self { all, every_label_needed: true };
        }
        if defaults.constraints.is_empty() {
            return Self::default();
        }
        let Some(selector) = workload() else { return Self::default() };
        let with_selector = |constraint: &TopologySpreadConstraint| {
            let constraint =
                TopologySpreadConstraint { label_selector: Some(selector.clone()), ..constraint.clone() };
            Constraint::new(&constraint, labels)
        };
        Self {
            all: defaults.constraints.iter().map(with_selector).collect(),
            every_label_needed: !defaults.built_in,
        }
    }

    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        let selectors = self.all.iter().map(|constraint| constraint.selector.as_ref());
        selectors.flat_map(super::inter_pod_affinity::label_keys)
    }
}

/// What counts for pods without constraints of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Defaults {
    pub constraints: Vec<TopologySpreadConstraint>,
    pub built_in: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        let constraint = |key: &str, max_skew: i32| TopologySpreadConstraint {
            topology_key: key.to_owned(),
            max_skew,
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            ..Default::default()
        };
        Self {
            constraints: vec![constraint(HOSTNAME, 3), constraint("topology.kubernetes.io/zone", 5)],
            built_in: true,
        }
    }
}

impl Constraint {
    fn new(constraint: &TopologySpreadConstraint, labels: Option<&Labels>) -> Self {
        Self {
            topology_key: constraint.topology_key.clone(),
            required: constraint.when_unsatisfiable == "DoNotSchedule",
            max_skew: i64::from(constraint.max_skew),
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            selector: narrowed(constraint, labels),
        }
    }

    pub fn counts(&self, labels: Option<&Labels>) -> bool {
        selects(self.selector.as_ref(), labels)
    }
}

/// The label selector, narrowed to pods that share some of this pod's label values.
fn narrowed(constraint: &TopologySpreadConstraint, labels: Option<&Labels>) -> Option<LabelSelector> {
    let mut selector = constraint.label_selector.clone()?;
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.and_then(|labels| labels.get(key)) {
            selector.match_labels.get_or_insert_with(BTreeMap::new).insert(key.clone(), value.clone());
        }
    }
    Some(selector)
}
