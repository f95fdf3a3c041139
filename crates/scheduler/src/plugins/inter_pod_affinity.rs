//! Brings pods together, or keeps them apart, by labels of the pods that are there already.
//!
//! Here are the terms of a pod and whom they pick; who is where is counted in [`crate::classes::affinity`].

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::labels::{Labels, selects};

pub const NO_AFFINITY: &str = "node(s) didn't match pod affinity rules";
pub const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
pub const OTHERS_ANTI_AFFINITY: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// Labels of each namespace.
pub type Namespaces = BTreeMap<String, Labels>;

/// Which pods, and over which domains.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    pub topology_key: String,
    namespaces: Vec<String>,
    namespace_selector: Option<LabelSelector>,
    selector: Option<LabelSelector>,
}

/// All terms of one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    pub required: Vec<Term>,
    pub anti: Vec<Term>,
    /// With their weights, those of anti-affinity negative.
    pub preferred: Vec<(i64, Term)>,
}

impl Terms {
    pub fn of(pod: &Pod) -> Option<Self> {
        let affinity = pod.spec.as_ref()?.affinity.as_ref()?;
        let term = |term: &PodAffinityTerm| Term::new(term, pod);
        let weighted = |sign: i64| {
            move |weighted: &WeightedPodAffinityTerm| {
                (sign * i64::from(weighted.weight), Term::new(&weighted.pod_affinity_term, pod))
            }
        };
        let mut terms = Self::default();
        if let Some(affinity) = &affinity.pod_affinity {
            let required = affinity.required_during_scheduling_ignored_during_execution.iter().flatten();
            terms.required = required.map(term).collect();
            let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms.preferred.extend(preferred.map(weighted(1)));
        }
        if let Some(affinity) = &affinity.pod_anti_affinity {
            let required = affinity.required_during_scheduling_ignored_during_execution.iter().flatten();
            terms.anti = required.map(term).collect();
            let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
            terms.preferred.extend(preferred.map(weighted(-1)));
        }
        let some = !(terms.required.is_empty() && terms.anti.is_empty() && terms.preferred.is_empty());
        some.then_some(terms)
    }

    pub fn all(&self) -> impl Iterator<Item = &Term> {
        self.required.iter().chain(&self.anti).chain(self.preferred.iter().map(|(_, term)| term))
    }

    pub fn looks_at_namespaces(&self) -> bool {
        self.all().any(|term| term.namespace_selector.is_some())
    }

    /// Whether all required terms pick a pod.
    pub fn requires(&self, namespace: &str, labels: Option<&Labels>, namespaces: &Namespaces) -> bool {
        !self.required.is_empty()
            && self.required.iter().all(|term| term.picks(namespace, labels, namespaces))
    }
}

impl Term {
    fn new(term: &PodAffinityTerm, owner: &Pod) -> Self {
        let namespaces = match (term.namespaces.as_deref().unwrap_or_default(), &term.namespace_selector) {
            ([], None) => vec![owner.metadata.namespace.clone().unwrap_or_default()],
            (named, _) => named.to_vec(),
        };
        Self {
            topology_key: term.topology_key.clone(),
            namespaces,
            namespace_selector: term.namespace_selector.clone(),
            selector: narrowed(term, owner.metadata.labels.as_ref()),
        }
    }

    pub fn picks(&self, namespace: &str, labels: Option<&Labels>, namespaces: &Namespaces) -> bool {
        let there = self.namespaces.iter().any(|name| name == namespace)
            || (self.namespace_selector.is_some()
                && selects(self.namespace_selector.as_ref(), namespaces.get(namespace)));
        there && selects(self.selector.as_ref(), labels)
    }

    /// The label keys that it looks at.
    pub fn label_keys(&self) -> impl Iterator<Item = &str> {
        label_keys(self.selector.as_ref())
    }
}

pub fn label_keys(selector: Option<&LabelSelector>) -> impl Iterator<Item = &str> {
    let equal = selector.and_then(|selector| selector.match_labels.as_ref()).into_iter().flatten();
    let others = selector.and_then(|selector| selector.match_expressions.as_ref()).into_iter().flatten();
    equal.map(|(key, _)| key.as_str()).chain(others.map(|requirement| requirement.key.as_str()))
}

/// The label selector, narrowed to pods that share, or do not share, some of the owner's label values.
fn narrowed(term: &PodAffinityTerm, labels: Option<&Labels>) -> Option<LabelSelector> {
    let mut selector = term.label_selector.clone()?;
    let same = term.match_label_keys.iter().flatten().map(|key| (key, "In"));
    let other = term.mismatch_label_keys.iter().flatten().map(|key| (key, "NotIn"));
    for (key, operator) in same.chain(other) {
        let Some(value) = labels.and_then(|labels| labels.get(key)) else { continue };
        let requirement = LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: Some(vec![value.clone()]),
        };
        let requirements = selector.match_expressions.get_or_insert_default();
        // The API server may have written it there already.
        if !requirements.contains(&requirement) {
            requirements.push(requirement);
        }
    }
    Some(selector)
}
