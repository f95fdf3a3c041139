//! What differs between ReplicaSet and ReplicationController.

use client::Watched;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use serde::Serialize;

use super::decide::{Counts, Failure};
use crate::kit::meta::{self, Labels};
use crate::kit::{View, World};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// A kind that keeps a number of equal pods.
pub trait Replicated: Watched + Serialize + Resource<Scope = NamespaceResourceScope> {
    const CONTROLLER: &'static str;
    const QUEUE: &'static str;

    fn view(world: &World) -> &View<Self>;
    fn replicas(&self) -> i32;
    fn min_ready_seconds(&self) -> i32;
    fn selects(&self, labels: Option<&Labels>) -> bool;
    fn template(&self) -> PodTemplateSpec;
    /// The object with a status that tells these counts, if that differs from what it tells now.
    fn with_status(&self, counts: &Counts, failure: Option<&Failure>, now: Time) -> Option<Self>;
}

impl Replicated for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";
    const QUEUE: &'static str = "replicaset";

    fn view(world: &World) -> &View<Self> {
        &world.replica_sets
    }

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn selects(&self, labels: Option<&Labels>) -> bool {
        self.spec.as_ref().is_some_and(|spec| meta::selects_strictly(&spec.selector, labels))
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
    }

    fn with_status(&self, counts: &Counts, failure: Option<&Failure>, now: Time) -> Option<Self> {
        let mut old = self.status.clone().unwrap_or_default();
        let make = |failure: &Failure| ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(now.clone()),
        };
        let told = |condition: &ReplicaSetCondition| (condition.type_.clone(), condition.reason.clone());
        let new = ReplicaSetStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: Some(counts.fully_labeled),
            ready_replicas: Some(counts.ready),
            available_replicas: Some(counts.available),
            terminating_replicas: Some(counts.terminating),
            observed_generation: self.metadata.generation,
            conditions: with_failure(old.conditions.as_ref(), failure, told, make),
        };
        // A counter that is absent is one that is zero.
        old.fully_labeled_replicas.get_or_insert(0);
        old.ready_replicas.get_or_insert(0);
        old.available_replicas.get_or_insert(0);
        old.terminating_replicas.get_or_insert(0);
        (new != old).then(|| Self { status: Some(new), ..self.clone() })
    }
}

impl Replicated for ReplicationController {
    const CONTROLLER: &'static str = "replication-controller";
    const QUEUE: &'static str = "replicationmanager";

    fn view(world: &World) -> &View<Self> {
        &world.replication_controllers
    }

    fn replicas(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
    }

    fn selects(&self, labels: Option<&Labels>) -> bool {
        let selector = self.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.is_empty() && meta::labels_match(selector, labels))
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default()
    }

    fn with_status(&self, counts: &Counts, failure: Option<&Failure>, now: Time) -> Option<Self> {
        let mut old = self.status.clone().unwrap_or_default();
        let make = |failure: &Failure| ReplicationControllerCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(now.clone()),
        };
        let told =
            |condition: &ReplicationControllerCondition| (condition.type_.clone(), condition.reason.clone());
        let new = ReplicationControllerStatus {
            replicas: counts.replicas,
            fully_labeled_replicas: Some(counts.fully_labeled),
            ready_replicas: Some(counts.ready),
            available_replicas: Some(counts.available),
            observed_generation: self.metadata.generation,
            conditions: with_failure(old.conditions.as_ref(), failure, told, make),
        };
        old.fully_labeled_replicas.get_or_insert(0);
        old.ready_replicas.get_or_insert(0);
        old.available_replicas.get_or_insert(0);
        (new != old).then(|| Self { status: Some(new), ..self.clone() })
    }
}

/// The conditions with this failure in the place of the one told before; `told` gives the type and reason of one.
fn with_failure<C: Clone>(
    old: Option<&Vec<C>>,
    failure: Option<&Failure>,
    told: impl Fn(&C) -> (String, Option<String>),
    make: impl Fn(&Failure) -> C,
) -> Option<Vec<C>> {
    let is_failure = |condition: &C| told(condition).0 == REPLICA_FAILURE;
    let found = old.into_iter().flatten().find(|condition| is_failure(condition));
    let condition = failure.map(|failure| match found {
        Some(found) if told(found).1.as_deref() == Some(failure.reason) => found.clone(),
        _ => make(failure),
    });
    let others = old.into_iter().flatten().filter(|condition| !is_failure(condition));
    let conditions: Vec<C> = others.cloned().chain(condition).collect();
    (!conditions.is_empty()).then_some(conditions)
}
