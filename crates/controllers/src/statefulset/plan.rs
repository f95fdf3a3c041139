//! The next step of a StatefulSet: one pod after the other, in order, unless it says that order does not matter.
//! Free of IO.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::pods::{ordinal, start_ordinal};
use crate::kit::history::HASH_LABEL;
use crate::kit::intstr::{Round, resolve};
use crate::kit::meta;
use crate::kit::pods::{self, Availability};

/// The names of the revisions that pods may have: while a rollout is under way there are two.
#[derive(Clone, Debug)]
pub struct Revisions {
    pub current: String,
    pub update: String,
}

/// A pod to be created: its ordinal, and the name of its revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Birth {
    pub ordinal: i32,
    pub revision: String,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub create: Vec<Birth>,
    pub delete: Vec<Arc<Pod>>,
    pub again: Option<Duration>,
}

/// The name of the revision that a pod has.
pub fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HASH_LABEL)).map_or("", String::as_str)
}

fn is_rolling(spec: &StatefulSetSpec) -> bool {
    let strategy = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    strategy != Some("OnDelete")
}

fn partition(spec: &StatefulSetSpec) -> Option<i32> {
    spec.update_strategy.as_ref()?.rolling_update.as_ref()?.partition
}

fn max_unavailable(spec: &StatefulSetSpec) -> usize {
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let value = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    let value = value.and_then(|value| resolve(value, spec.replicas.unwrap_or(1), Round::Down));
    usize::try_from(value.unwrap_or(1)).unwrap_or(1).max(1)
}

/// The revision that a new pod gets: below the partition of a rollout still the current one.
fn birth(set: &StatefulSet, spec: &StatefulSetSpec, revisions: &Revisions, ordinal: i32) -> Birth {
    let kept = match partition(spec) {
        _ if !is_rolling(spec) => 0,
        Some(partition) => partition,
        None => set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
    };
    let is_current = ordinal < start_ordinal(spec).saturating_add(kept);
    let revision = if is_current { &revisions.current } else { &revisions.update };
    Birth { ordinal, revision: revision.clone() }
}

pub fn plan(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    all: &[Arc<Pod>],
    revisions: &Revisions,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    if meta::is_terminating(set) {
        return plan;
    }
    let in_order = spec.pod_management_policy.as_deref() != Some("Parallel");
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let availability = |pod: &Pod| pods::availability(pod, min_ready, now);
    let is_healthy =
        |pod: &Pod| pods::is_ready(pod) && pods::phase(pod) == "Running" && !meta::is_terminating(pod);
    let start = start_ordinal(spec);
    let end = start.saturating_add(spec.replicas.unwrap_or(1).max(0));
    let mut wanted: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
    let mut condemned: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
    for pod in all {
        if let Some(ordinal) = ordinal(set, pod) {
            if (start..end).contains(&ordinal) { &mut wanted } else { &mut condemned }.insert(ordinal, pod);
        }
    }

    for ordinal in start..end {
        let Some(pod) = wanted.get(&ordinal) else {
            plan.create.push(birth(set, spec, revisions, ordinal));
            if in_order {
                return plan;
            }
            continue;
        };
        if pods::is_finished(pod) && !meta::is_terminating(&***pod) {
            plan.delete.push((*pod).clone());
        }
        if let Availability::In(left) = availability(pod) {
            plan.again = Some(plan.again.map_or(left, |again| again.min(left)));
        }
        // In order, each waits until the one before it serves.
        if in_order && !(is_healthy(pod) && availability(pod) == Availability::Available) {
            return plan;
        }
    }

    let first_unhealthy = wanted.values().chain(condemned.values()).find(|pod| !is_healthy(pod)).copied();
    for pod in condemned.values().rev() {
        if meta::is_terminating(&***pod) {
            if in_order {
                return plan;
            }
            continue;
        }
        if in_order && !is_healthy(pod) && first_unhealthy.is_some_and(|first| !Arc::ptr_eq(first, pod)) {
            return plan;
        }
        plan.delete.push((*pod).clone());
        if in_order {
            return plan;
        }
    }

    if is_rolling(spec) && plan.create.is_empty() {
        update(spec, revisions, &wanted, &mut plan, |pod| {
            is_healthy(pod) && availability(pod) == Availability::Available
        });
    }
    plan
}

/// Takes pods of other revisions away, the highest ordinal first, so many that not too many are missing.
fn update(
    spec: &StatefulSetSpec,
    revisions: &Revisions,
    wanted: &BTreeMap<i32, &Arc<Pod>>,
    plan: &mut Plan,
    serves: impl Fn(&Pod) -> bool,
) {
    let limit = max_unavailable(spec);
    let from = start_ordinal(spec).saturating_add(partition(spec).unwrap_or(0));
    let mut unavailable = wanted.values().filter(|pod| !serves(pod)).count();
    for pod in wanted.range(from..).rev().map(|(_, pod)| pod) {
        let outdated = revision(pod) != revisions.update && !meta::is_terminating(&***pod);
        // What does not serve can go without making anything worse.
        if outdated && (!serves(pod) || unavailable < limit) {
            unavailable += usize::from(serves(pod));
            plan.delete.push((*pod).clone());
            if unavailable >= limit {
                return;
            }
        } else if !serves(pod) && unavailable >= limit {
            return;
        }
    }
}

/// What the status tells; also whether the rollout is over, so that the update revision becomes the current one.
pub fn status(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    all: &[Arc<Pod>],
    revisions: &Revisions,
    now: Timestamp,
) -> StatefulSetStatus {
    let old = set.status.clone().unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let ours: Vec<_> = all.iter().filter(|pod| ordinal(set, pod).is_some()).collect();
    let count = |fits: &dyn Fn(&Pod) -> bool| {
        i32::try_from(ours.iter().filter(|pod| fits(pod)).count()).unwrap_or(i32::MAX)
    };
    let of = |name: &str| count(&|pod| revision(pod) == name && !meta::is_terminating(pod));
    let mut current_name = &revisions.current;
    let ready = count(&|pod| pods::is_ready(pod) && pods::phase(pod) == "Running");
    let replicas = count(&|_| true);
    let updated = of(&revisions.update);
    let mut current = of(&revisions.current);
    let rolled_out = updated == replicas && ready == replicas && replicas == spec.replicas.unwrap_or(1);
    if is_rolling(spec) && rolled_out {
        current_name = &revisions.update;
        current = updated;
    }
    StatefulSetStatus {
        replicas,
        ready_replicas: Some(ready),
        available_replicas: Some(count(&|pod| {
            pods::availability(pod, min_ready, now) == Availability::Available
        })),
        current_replicas: Some(current),
        updated_replicas: Some(updated),
        current_revision: Some(current_name.clone()),
        update_revision: Some(revisions.update.clone()),
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count.or(Some(0)),
        conditions: old.conditions,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(spec: Value) -> (StatefulSet, StatefulSetSpec) {
        let mut value = json!({"selector": {}, "template": {}, "replicas": 3});
        value.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let set: StatefulSet =
            serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": value}))
                .unwrap();
        let spec = set.spec.clone().unwrap();
        (set, spec)
    }

    fn pod(ordinal: i32, hash: &str, state: &str) -> Arc<Pod> {
        let ready = if matches!(state, "ready" | "leaving") { "True" } else { "False" };
        let phase = if state == "failed" { "Failed" } else { "Running" };
        let mut value = json!({"metadata": {"name": format!("web-{ordinal}"), "labels": {HASH_LABEL: hash}},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}});
        if state == "leaving" {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn check(spec: Value, pods: &[Arc<Pod>], create: &[(i32, &str)], delete: &[&str]) {
        let (set, spec) = set(spec);
        let revisions = Revisions { current: "old".into(), update: "new".into() };
        let plan = plan(&set, &spec, pods, &revisions, Timestamp::now());
        let created: Vec<_> =
            plan.create.iter().map(|birth| (birth.ordinal, birth.revision.as_str())).collect();
        let deleted: Vec<_> = plan.delete.iter().map(|pod| meta::name(&**pod)).collect();
        assert_eq!((created.as_slice(), deleted.as_slice()), (create, delete), "{:?}", spec.update_strategy);
    }

    #[test]
    fn pods_come_one_after_the_other() {
        check(json!({}), &[], &[(0, "new")], &[]);
        check(json!({}), &[pod(0, "new", "starting")], &[], &[]);
        check(json!({}), &[pod(0, "new", "ready")], &[(1, "new")], &[]);
        check(json!({}), &[pod(0, "new", "ready"), pod(2, "new", "ready")], &[(1, "new")], &[]);
        check(json!({}), &[pod(0, "new", "failed")], &[], &["web-0"]);
        check(
            json!({"podManagementPolicy": "Parallel"}),
            &[pod(1, "new", "starting")],
            &[(0, "new"), (2, "new")],
            &[],
        );
        check(json!({"ordinals": {"start": 5}}), &[pod(5, "new", "ready")], &[(6, "new")], &[]);
    }

    #[test]
    fn pods_go_from_the_highest() {
        let ready: Vec<_> = (0..5).map(|ordinal| pod(ordinal, "new", "ready")).collect();
        check(json!({"replicas": 2}), &ready, &[], &["web-4"]);
        check(
            json!({"replicas": 2, "podManagementPolicy": "Parallel"}),
            &ready,
            &[],
            &["web-4", "web-3", "web-2"],
        );
        let mut leaving = ready.clone();
        leaving[4] = pod(4, "new", "leaving");
        check(json!({"replicas": 2}), &leaving, &[], &[]);
    }

    #[test]
    fn updates_go_from_the_highest_down_to_the_partition() {
        let old: Vec<_> = (0..3).map(|ordinal| pod(ordinal, "old", "ready")).collect();
        let rolling = |partition: i32| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}});
        check(rolling(0), &old, &[], &["web-2"]);
        check(rolling(3), &old, &[], &[]);
        let mut half = old.clone();
        half[2] = pod(2, "new", "ready");
        check(rolling(0), &half, &[], &["web-1"]);
        check(rolling(2), &half, &[], &[]);
        check(rolling(2), &[old[0].clone(), half[2].clone()], &[(1, "old")], &[]);
        half[2] = pod(2, "new", "starting");
        check(rolling(0), &half, &[], &[]);
        check(json!({"updateStrategy": {"type": "OnDelete"}}), &old, &[], &[]);
        let two = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 2}}});
        check(two, &old, &[], &["web-2", "web-1"]);
    }

    #[test]
    fn the_update_revision_becomes_current_when_all_have_it() {
        let (set, spec) = set(json!({}));
        let revisions = Revisions { current: "old".into(), update: "new".into() };
        let status = |pods: &[Arc<Pod>]| status(&set, &spec, pods, &revisions, Timestamp::now());
        let mut pods: Vec<_> = (0..3).map(|ordinal| pod(ordinal, "new", "ready")).collect();
        pods[0] = pod(0, "old", "ready");
        assert_eq!(status(&pods).current_revision.as_deref(), Some("old"));
        pods[0] = pod(0, "new", "ready");
        let told = status(&pods);
        assert_eq!((told.current_revision.as_deref(), told.current_replicas), (Some("new"), Some(3)));
    }
}
