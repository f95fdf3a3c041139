//! Room for critical pods: which pods have to go when a pod that the node itself needs does not fit.
//!
//! Pods of the least quality of service go first, and no more of them than needed.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::admission::{Allocatable, shortage};
use super::ext::PodExt;
use crate::container::qos;

/// What ends the pods that have to go.
pub const REASON: &str = "Preempting";
pub const MESSAGE: &str = "Preempted in order to admit critical pod";

/// Pods of at least this priority are what the node itself needs.
const CRITICAL: i32 = 2_000_000_000;

/// Whether the node itself needs the pod.
pub fn is_critical(pod: &Pod) -> bool {
    pod.is_mirror() || crate::static_pods::is_static(pod) || priority(pod) >= CRITICAL
}

fn priority(pod: &Pod) -> i32 {
    pod.pod_spec().priority.unwrap_or(0)
}

fn may_go_for(critical: &Pod, pod: &Pod) -> bool {
    !is_critical(pod) || priority(critical) > priority(pod)
}

/// The UIDs of pods of `others` without which `pod` fits; nothing when it does not fit even so.
pub fn victims(
    pod: &Pod,
    others: &[Arc<Pod>],
    allocatable: &Allocatable,
    max_pods: u32,
) -> Option<Vec<String>> {
    let mut going: Vec<&Arc<Pod>> = others.iter().filter(|other| may_go_for(pod, other)).collect();
    // The last of them stay first: the better the class, the larger the priority.
    let rank = |pod: &Pod| match qos::class(pod.pod_spec()) {
        qos::Class::BestEffort => 0,
        qos::Class::Burstable => 1,
        qos::Class::Guaranteed => 2,
    };
    going.sort_by_key(|other| (rank(other), priority(other)));
    let fits_without = |going: &[&Arc<Pod>]| {
        let stays = |other: &&Arc<Pod>| going.iter().all(|gone| gone.uid() != other.uid());
        let rest: Vec<Arc<Pod>> = others.iter().filter(stays).cloned().collect();
        shortage(pod, &rest, allocatable, max_pods).is_none()
    };
    if !fits_without(&going) {
        return None;
    }
    let mut index = going.len();
    while let Some(next) = index.checked_sub(1) {
        index = next;
        let spared = going.remove(index);
        if !fits_without(&going) {
            going.insert(index, spared);
        }
    }
    Some(going.iter().map(|other| other.uid().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, cpu: &str, priority: i32, guaranteed: bool) -> Arc<Pod> {
        let amounts = json!({"cpu": cpu, "memory": "1Mi"});
        let mut resources = json!({"requests": amounts});
        if guaranteed {
            resources["limits"] = amounts;
        }
        Arc::new(
            serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"priority": priority,
                "containers": [{"name": "c", "resources": resources}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn the_least_go_and_no_more_than_needed() {
        let allocatable: Allocatable = [("cpu".to_owned(), 2000)].into();
        let others = [
            pod("small", "200m", 0, false),
            pod("large", "1", 0, false),
            pod("good", "500m", 0, true),
            pod("system", "300m", CRITICAL, false),
        ];
        let check = |cpu: &str, priority: i32, expected: Option<&[&str]>| {
            let found = victims(&pod("new", cpu, priority, false), &others, &allocatable, 10);
            let expected = expected.map(|uids| uids.iter().map(|uid| (*uid).to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expected, "{cpu} {priority}");
        };
        check("200m", CRITICAL, Some(&["small"]));
        check("1", CRITICAL, Some(&["large"]));
        check("1200m", CRITICAL, Some(&["small", "large"]));
        check("1700m", CRITICAL, Some(&["small", "large", "good"]));
        check("2", CRITICAL, None);
        check("2", CRITICAL + 1000, Some(&["small", "large", "system", "good"]));
    }
}
