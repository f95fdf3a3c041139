//! How many pods are too many or too few, and what the status tells. Free of IO.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::kinds::Replicated;
use crate::kit::meta;
use crate::kit::pods::{self, Availability};

#[derive(Debug, PartialEq)]
pub enum Step {
    Nothing,
    Create(usize),
    Delete(usize),
}

pub fn step<K: Replicated>(set: &K, pods: &[Arc<Pod>], burst: usize) -> Step {
    if meta::is_terminating(set) {
        return Step::Nothing;
    }
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    let active = pods.iter().filter(|pod| pods::is_active(pod)).count();
    if active < wanted {
        Step::Create((wanted - active).min(burst))
    } else if active > wanted {
        Step::Delete((active - wanted).min(burst))
    } else {
        Step::Nothing
    }
}

/// Why the number of pods is not what it should be.
#[derive(Debug)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
}

impl Failure {
    pub fn create(message: String) -> Self {
        Self { reason: "FailedCreate", message }
    }

    pub fn delete(message: String) -> Self {
        Self { reason: "FailedDelete", message }
    }
}

/// The counters of a status.
#[derive(Debug, Default, PartialEq)]
pub struct Counts {
    pub replicas: i32,
    pub fully_labeled: i32,
    pub ready: i32,
    pub available: i32,
    pub terminating: i32,
}

impl Counts {
    /// Counts pods; also says when the next of them becomes available by mere waiting.
    pub fn of<K: Replicated>(set: &K, pods: &[Arc<Pod>], now: Timestamp) -> (Self, Option<Duration>) {
        let template = set.template();
        let labels = template.metadata.and_then(|meta| meta.labels).unwrap_or_default();
        let mut counts = Self::default();
        let mut again: Option<Duration> = None;
        for pod in pods {
            if !pods::is_active(pod) {
                counts.terminating += i32::from(!pods::is_finished(pod));
                continue;
            }
            counts.replicas += 1;
            counts.fully_labeled += i32::from(meta::labels_match(&labels, pod.metadata.labels.as_ref()));
            counts.ready += i32::from(pods::is_ready(pod));
            match pods::availability(pod, set.min_ready_seconds(), now) {
                Availability::Available => counts.available += 1,
                Availability::In(left) => again = Some(again.map_or(left, |again| again.min(left))),
                Availability::NotReady => {}
            }
        }
        (counts, again)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::ReplicaSet;
    use serde_json::json;

    use super::*;

    fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"name": "web", "generation": 3}, "spec": {
            "replicas": replicas, "minReadySeconds": min_ready_seconds, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web", "v": "1"}}}}}))
        .unwrap()
    }

    fn pod(phase: &str, ready: bool, terminating: bool) -> Arc<Pod> {
        let mut value = json!({"metadata": {"name": "p", "labels": {"app": "web", "v": "1"}}, "status": {"phase": phase,
            "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"},
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
        if terminating {
            value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn finished_and_terminating_pods_are_replaced() {
        let pods = [pod("Running", true, false), pod("Failed", false, false), pod("Running", true, true)];
        let check = |replicas, expected| assert_eq!(step(&set(replicas, 0), &pods, 500), expected);
        check(0, Step::Delete(1));
        check(1, Step::Nothing);
        check(3, Step::Create(2));
        check(9999, Step::Create(500));
        check(-1, Step::Delete(1));
    }

    #[test]
    fn counts_tell_what_serves() {
        let pods = [
            pod("Running", true, false),
            pod("Pending", false, false),
            pod("Running", true, true),
            pod("Failed", false, true),
        ];
        let now = "2026-01-01T00:00:10Z".parse().unwrap();
        let expected = Counts { replicas: 2, fully_labeled: 2, ready: 1, available: 1, terminating: 1 };
        assert_eq!(Counts::of(&set(2, 10), &pods, now), (expected, None));
        let expected = Counts { replicas: 2, fully_labeled: 2, ready: 1, available: 0, terminating: 1 };
        assert_eq!(Counts::of(&set(2, 15), &pods, now), (expected, Some(Duration::from_secs(5))));
    }

    #[test]
    fn unchanged_status_is_not_written() {
        let (counts, _) = Counts::of(&set(0, 0), &[], Timestamp::UNIX_EPOCH);
        let told = set(0, 0).with_status(&counts, None, meta::now()).expect("the generation is new");
        assert!(told.with_status(&counts, None, meta::now()).is_none());
        let failed =
            told.with_status(&counts, Some(&Failure::create("no".into())), meta::now()).expect("a condition");
        assert!(failed.with_status(&counts, Some(&Failure::create("other".into())), meta::now()).is_none());
        assert!(failed.with_status(&counts, None, meta::now()).is_some(), "the condition goes");
    }
}
