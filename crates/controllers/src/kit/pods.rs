//! What controllers know about pods: readiness, creation from a template, whom to delete first.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;

use super::meta::{self, seconds_between};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub fn phase(pod: &Pod) -> &str {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or("Pending")
}

pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !meta::is_terminating(pod)
}

pub fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn node_name(pod: &Pod) -> Option<&str> {
    let name = pod.spec.as_ref()?.node_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

/// When the last container of a pod ended, as far as that is told.
pub fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let ended = statuses.into_iter().flatten().filter_map(|status| {
        let terminated = status.state.as_ref()?.terminated.as_ref()?;
        terminated.finished_at.as_ref().map(|time| time.0)
    });
    let not_ready = condition(pod, "Ready").filter(|ready| ready.status != "True");
    let since = not_ready.and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0);
    ended.max().or(since).or(pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
}

/// How available a pod is to its workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Availability {
    NotReady,
    /// Ready, but it has to stay so for this much longer.
    In(Duration),
    Available,
}

pub fn availability(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Availability {
    let Some(ready) = condition(pod, "Ready").filter(|ready| ready.status == "True") else {
        return Availability::NotReady;
    };
    if min_ready_seconds <= 0 {
        return Availability::Available;
    }
    let Some(since) = &ready.last_transition_time else {
        return Availability::NotReady;
    };
    let left = f64::from(min_ready_seconds) - seconds_between(since, now);
    if left <= 0.0 { Availability::Available } else { Availability::In(Duration::from_secs_f64(left)) }
}

/// A pod of a workload, not yet created.
pub fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    generate_name: Option<String>,
    owner: OwnerReference,
) -> Pod {
    let from = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name,
            labels: from.labels,
            annotations: from.annotations,
            finalizers: from.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Sorts pods so that those whose loss hurts least come first.
///
/// `related` are the pods that serve the same purpose (those of all ReplicaSets of a Deployment): a node that
/// has many of them gives one up first.
pub fn sort_for_deletion(pods: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| is_active(pod)) {
        if let Some(node) = node_name(pod) {
            *on_node.entry(node).or_default() += 1;
        }
    }
    pods.sort_by(|a, b| {
        let crowd = |pod: &Pod| node_name(pod).and_then(|node| on_node.get(node)).copied().unwrap_or(0);
        (node_name(a).is_some().cmp(&node_name(b).is_some()))
            .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
            .then_with(|| is_ready(a).cmp(&is_ready(b)))
            .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| crowd(b).cmp(&crowd(a)))
            .then_with(|| by_age(ready_since(a), ready_since(b), now))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| by_age(created(a), created(b), now))
            .then_with(|| meta::name(&**a).cmp(meta::name(&**b)))
    });
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    meta::annotation(pod, DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

/// The younger first. Ages count on a logarithmic scale, so that of pods of about the same age not always the
/// youngest goes.
fn by_age(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    let bucket = |time: Option<Timestamp>| {
        time.map(|time| now.duration_since(time).as_secs().max(1).unsigned_abs().ilog2())
    };
    bucket(a).cmp(&bucket(b))
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, value: serde_json::Value) -> Arc<Pod> {
        let mut pod: Pod = serde_json::from_value(value).unwrap();
        pod.metadata.name = Some(name.to_owned());
        Arc::new(pod)
    }

    fn running(node: &str, ready: bool, since: &str) -> serde_json::Value {
        json!({"spec": {"containers": [], "nodeName": node}, "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": if ready {"True"} else {"False"}, "lastTransitionTime": since}]}})
    }

    #[test]
    fn those_whose_loss_hurts_least_go_first() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let mut costly = running("n1", true, "2026-01-01T23:00:00Z");
        costly["metadata"] = json!({"annotations": {DELETION_COST: "5"}});
        let mut pods = vec![
            pod("costly", costly),
            pod("old", running("n1", true, "2026-01-01T00:00:00Z")),
            pod("young", running("n1", true, "2026-01-01T23:59:00Z")),
            pod("crowded", running("n2", true, "2026-01-01T00:00:00Z")),
            pod("unready", running("n1", false, "2026-01-01T00:00:00Z")),
            pod(
                "pending",
                json!({"spec": {"containers": [], "nodeName": "n1"}, "status": {"phase": "Pending"}}),
            ),
            pod("unscheduled", json!({"spec": {"containers": []}})),
        ];
        let related: Vec<_> = (0..9).map(|_| pod("x", running("n2", true, "2026-01-01T00:00:00Z"))).collect();
        sort_for_deletion(&mut pods, &related, now);
        let order: Vec<_> = pods.iter().map(|pod| meta::name(&**pod)).collect();
        assert_eq!(order, ["unscheduled", "pending", "unready", "crowded", "young", "old", "costly"]);
    }

    #[test]
    fn availability_needs_time() {
        let now: Timestamp = "2026-01-02T00:00:10Z".parse().unwrap();
        let check = |ready, seconds, expected| {
            let pod = pod("p", running("n", ready, "2026-01-02T00:00:00Z"));
            assert_eq!(availability(&pod, seconds, now), expected);
        };
        check(false, 0, Availability::NotReady);
        check(true, 0, Availability::Available);
        check(true, 10, Availability::Available);
        check(true, 30, Availability::In(Duration::from_secs(20)));
    }
}
