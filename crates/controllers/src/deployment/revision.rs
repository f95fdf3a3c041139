//! Which ReplicaSet is the current one, and which revision each of them is. Free of IO.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::rolling;
use crate::kit::hash::template_hash;
use crate::kit::meta::{self, Labels};

pub const HASH_LABEL: &str = "pod-template-hash";
pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that say nothing about its ReplicaSets.
const NOT_INHERITED: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];
/// A long history of one set that was rolled back to again and again is cut to this many characters.
const HISTORY_LENGTH: usize = 2000;

/// The ReplicaSets of a Deployment: the one of its current template, and all others, oldest first.
pub struct Sets {
    pub new: Option<ReplicaSet>,
    pub old: Vec<ReplicaSet>,
}

impl Sets {
    pub fn of(spec: &DeploymentSpec, sets: &[Arc<ReplicaSet>]) -> Self {
        let mut old: Vec<ReplicaSet> = sets.iter().map(|set| (**set).clone()).collect();
        old.sort_by(|a, b| {
            let age = |set: &ReplicaSet| set.metadata.creation_timestamp.clone();
            age(a).cmp(&age(b)).then_with(|| meta::name(a).cmp(meta::name(b)))
        });
        let is_new = |set: &ReplicaSet| {
            let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            template.is_some_and(|template| same_template(template, &spec.template))
        };
        let new = old.iter().position(is_new).map(|at| old.remove(at));
        Self { new, old }
    }

    pub fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    /// The revision that the current template has, or gets.
    pub fn next_revision(&self) -> i64 {
        self.old.iter().map(revision).max().unwrap_or(0) + 1
    }
}

pub fn revision(set: &ReplicaSet) -> i64 {
    meta::annotation(set, REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

/// Whether two templates make the same pods, apart from the label that tells their hash.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a.spec == b.spec && without_hash(a) == without_hash(b)
}

fn without_hash(template: &PodTemplateSpec) -> ObjectMeta {
    let mut meta = template.metadata.clone().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH_LABEL);
    }
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    meta
}

/// The ReplicaSet of the current template, yet to be created, with as many replicas as the strategy allows now.
pub fn new_set(deployment: &Deployment, spec: &DeploymentSpec, sets: &Sets) -> ReplicaSet {
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(deployment))),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![meta::controller_reference(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(0),
            selector,
            template: Some(template),
        }),
        status: None,
    };
    let replicas = rolling::new_replicas(spec, sets, 0);
    rolling::resize(spec, &mut set, replicas);
    inherit(deployment, spec, &mut set, sets.next_revision());
    set
}

/// Brings what the current ReplicaSet takes over from its Deployment up to date.
pub fn inherit(deployment: &Deployment, spec: &DeploymentSpec, set: &mut ReplicaSet, new_revision: i64) {
    let old_revision = revision(set);
    let existed = meta::annotation(set, REVISION).is_some();
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_INHERITED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    if old_revision < new_revision {
        annotations.insert(REVISION.to_owned(), new_revision.to_string());
        if existed && old_revision > 0 {
            remember(annotations, old_revision);
        }
    }
    if let Some(set_spec) = &mut set.spec {
        set_spec.min_ready_seconds = spec.min_ready_seconds;
    }
}

/// Adds a revision that a set was before to its history.
fn remember(annotations: &mut Labels, revision: i64) {
    let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
    if !history.is_empty() {
        history.push(',');
    }
    history.push_str(&revision.to_string());
    while history.len() > HISTORY_LENGTH {
        match history.split_once(',') {
            Some((_, rest)) => *history = rest.to_owned(),
            None => break,
        }
    }
}

/// The old sets that the history limit leaves no room for: the oldest revisions, once they are idle.
pub fn surplus<'a>(spec: &DeploymentSpec, sets: &'a Sets) -> Vec<&'a ReplicaSet> {
    let Some(limit) = spec.revision_history_limit.filter(|limit| *limit < i32::MAX) else {
        return Vec::new();
    };
    let mut old: Vec<_> = sets.old.iter().filter(|set| !meta::is_terminating(*set)).collect();
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    old.sort_by_key(|set| revision(set));
    old.truncate(surplus);
    old.retain(|set| {
        let status = set.status.clone().unwrap_or_default();
        rolling::size(set) == 0
            && status.replicas == 0
            && status.observed_generation >= set.metadata.generation
    });
    old
}
