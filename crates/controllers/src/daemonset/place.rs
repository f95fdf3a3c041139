//! On which nodes a DaemonSet has pods, and which of those pods are to go. Free of IO.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
    Toleration,
};
use k8s_openapi::jiff::Timestamp;
use scheduler::fit;

use crate::kit::history::HASH_LABEL;
use crate::kit::intstr::{Round, resolve};
use crate::kit::meta;
use crate::kit::pods::{self, Availability};

const NODE_NAME_FIELD: &str = "metadata.name";

/// Whether a DaemonSet wants a pod on a node, and whether one that is there may stay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    pub run: bool,
    pub stay: bool,
}

pub fn wish(spec: &DaemonSetSpec, node: &Node) -> Wish {
    let Some(mut pod) = spec.template.spec.clone() else {
        return Wish { run: false, stay: false };
    };
    add_tolerations(&mut pod);
    let named = pod.node_name.as_deref().is_none_or(|name| name.is_empty() || name == meta::name(node));
    if !named || !fit::selects_node(&pod, node) {
        return Wish { run: false, stay: false };
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let tolerations = pod.tolerations.as_deref().unwrap_or_default();
    let intolerable = |effect: &str| {
        taints.iter().any(|taint| taint.effect == effect && !fit::tolerates(tolerations, taint))
    };
    let stay = !intolerable("NoExecute");
    Wish { run: stay && !intolerable("NoSchedule"), stay }
}

/// Daemons run on nodes that are in trouble, too.
fn add_tolerations(pod: &mut PodSpec) {
    let mut tolerated = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if pod.host_network == Some(true) {
        tolerated.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    let tolerations = pod.tolerations.get_or_insert_default();
    for (key, effect) in tolerated {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Default::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
}

/// The pod of a node, bound to it by an affinity that the scheduler obeys.
pub fn pod(set: &DaemonSet, spec: &DaemonSetSpec, hash: &str, node: &str) -> Pod {
    let owner = meta::controller_reference(set);
    let mut pod = pods::from_template(
        &spec.template,
        meta::namespace(set),
        Some(format!("{}-", meta::name(set))),
        owner,
    );
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    labels.insert("pod-template-generation".to_owned(), set.metadata.generation.unwrap_or(1).to_string());
    if let Some(pod_spec) = &mut pod.spec {
        add_tolerations(pod_spec);
        let affinity: &mut Affinity = pod_spec.affinity.get_or_insert_default();
        let node_affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
        node_affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_fields: Some(vec![NodeSelectorRequirement {
                    key: NODE_NAME_FIELD.to_owned(),
                    operator: "In".to_owned(),
                    values: Some(vec![node.to_owned()]),
                }]),
                match_expressions: None,
            }],
        });
    }
    pod
}

/// The node that a pod is on, or is bound for.
pub fn target(pod: &Pod) -> Option<&str> {
    if let Some(node) = pods::node_name(pod) {
        return Some(node);
    }
    let affinity = pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut names = fields.filter(|field| field.key == NODE_NAME_FIELD && field.operator == "In");
    names.next()?.values.as_ref()?.first().map(String::as_str)
}

/// What to do, and what the status tells.
#[derive(Debug, Default)]
pub struct Plan {
    pub create_on: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// To be deleted, too: pods that run no more.
    pub ended: Vec<Arc<Pod>>,
}

pub fn plan(
    spec: &DaemonSetSpec,
    hash: &str,
    nodes: &[Arc<Node>],
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut by_node: HashMap<&str, Vec<&Arc<Pod>>> = HashMap::new();
    for pod in pods {
        by_node.entry(target(pod).unwrap_or_default()).or_default().push(pod);
    }
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let is_new = |pod: &Pod| {
        pod.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(HASH_LABEL))
            .is_some_and(|found| found == hash)
    };
    let is_available = |pod: &Pod| {
        pods::availability(pod, min_ready, now) == Availability::Available && !meta::is_terminating(pod)
    };

    let wanting: Vec<&Arc<Node>> = nodes.iter().filter(|node| wish(spec, node).run).collect();
    let limits = Limits::new(spec, wanting.len());
    let mut unavailable = 0;
    let mut surging = 0;
    // Old pods that serve; whether they may go depends on how many others do not.
    let mut replaceable: Vec<(&str, &Arc<Pod>)> = Vec::new();
    for node in nodes {
        let name = meta::name(&**node);
        let wish = wish(spec, node);
        let mut here = by_node.remove(name).unwrap_or_default();
        if !wish.stay {
            plan.delete.extend(here.into_iter().filter(|pod| !meta::is_terminating(&***pod)).cloned());
            continue;
        }
        // A daemon is never done.
        for pod in here.extract_if(.., |pod| pods::is_finished(pod)) {
            if !meta::is_terminating(&**pod) {
                plan.ended.push(pod.clone());
            }
        }
        let (mut new, mut old): (Vec<_>, Vec<_>) = here.into_iter().partition(|pod| is_new(pod));
        for superfluous in [&mut new, &mut old] {
            superfluous.sort_by_key(|pod| {
                (
                    meta::is_terminating(&***pod),
                    pods::node_name(pod).is_none(),
                    pod.metadata.creation_timestamp.clone(),
                )
            });
            let extra = superfluous.split_off(superfluous.len().min(1));
            plan.delete.extend(extra.into_iter().filter(|pod| !meta::is_terminating(&***pod)).cloned());
        }
        let serves = new.iter().chain(&old).any(|pod| is_available(pod));
        unavailable += usize::from(wish.run && !serves);
        match (new.first(), old.first()) {
            (None, None) if wish.run => plan.create_on.push(name.to_owned()),
            (None, Some(old)) if meta::is_terminating(&***old) => {}
            (None, Some(_)) if limits.on_delete => {}
            (None, Some(old)) if is_available(old) => replaceable.push((name, old)),
            // It serves nobody: replacing it costs nothing.
            (None, Some(old)) if limits.surge == 0 => plan.delete.push((*old).clone()),
            (None, Some(_)) => plan.create_on.push(name.to_owned()),
            (Some(_), Some(old)) if meta::is_terminating(&***old) => {}
            (Some(new), Some(old)) if is_available(new) || !is_available(old) => {
                plan.delete.push((*old).clone());
            }
            (Some(_), Some(_)) => surging += 1,
            _ => {}
        }
    }
    // Pods of nodes that are gone are the pod garbage collector's.
    for (node, old) in replaceable {
        if limits.surge > 0 {
            if surging < limits.surge {
                surging += 1;
                plan.create_on.push(node.to_owned());
            }
        } else if unavailable < limits.unavailable {
            unavailable += 1;
            plan.delete.push(old.clone());
        }
    }
    plan
}

struct Limits {
    on_delete: bool,
    surge: usize,
    unavailable: usize,
}

impl Limits {
    fn new(spec: &DaemonSetSpec, nodes: usize) -> Self {
        let strategy = spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let total = i32::try_from(nodes).unwrap_or(i32::MAX);
        let number = |value: Option<i32>| usize::try_from(value.unwrap_or(0)).unwrap_or(0);
        let surge = rolling
            .and_then(|rolling| rolling.max_surge.as_ref())
            .and_then(|surge| resolve(surge, total, Round::Up));
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let unavailable = unavailable.map_or(Some(1), |unavailable| resolve(unavailable, total, Round::Up));
        let surge = number(surge);
        Self {
            on_delete: strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete"),
            surge,
            unavailable: number(unavailable).max(usize::from(surge == 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(template: Value, strategy: Value) -> DaemonSetSpec {
        serde_json::from_value(
            json!({"selector": {}, "updateStrategy": strategy, "template": {"spec": template}}),
        )
        .unwrap()
    }

    fn node(name: &str, taints: Value) -> Arc<Node> {
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name, "labels": {"disk": "ssd"}}, "spec": {"taints": taints}}),
            )
            .unwrap(),
        )
    }

    fn pod_on(name: &str, node: &str, hash: &str, phase: &str, ready: bool) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "uid": name, "labels": {HASH_LABEL: hash}}, "spec": {"containers": [], "nodeName": node},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"}}]}}))
        .unwrap())
    }

    #[test]
    fn nodes_are_wanted_by_selector_and_taints() {
        let check = |template: Value, taints: Value, run: bool, stay: bool| {
            let found = wish(&spec(template, json!({})), &node("n", taints));
            assert_eq!(found, Wish { run, stay });
        };
        let plain = || json!({"containers": []});
        let taint = |key: &str, effect: &str| json!([{"key": key, "effect": effect}]);
        check(plain(), json!([]), true, true);
        check(json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), json!([]), false, false);
        check(plain(), taint("mine", "NoSchedule"), false, true);
        check(plain(), taint("mine", "NoExecute"), false, false);
        check(plain(), taint("node.kubernetes.io/not-ready", "NoExecute"), true, true);
        check(plain(), taint("node.kubernetes.io/unschedulable", "NoSchedule"), true, true);
        check(plain(), taint("node.kubernetes.io/network-unavailable", "NoSchedule"), false, true);
        check(
            json!({"containers": [], "hostNetwork": true}),
            taint("node.kubernetes.io/network-unavailable", "NoSchedule"),
            true,
            true,
        );
    }

    #[test]
    fn every_node_gets_one_pod() {
        let nodes = [node("a", json!([])), node("b", json!([])), node("c", json!([]))];
        let pods = [
            pod_on("1", "a", "new", "Running", true),
            pod_on("2", "a", "new", "Running", true),
            pod_on("3", "b", "new", "Failed", false),
            pod_on("4", "c", "new", "Succeeded", false),
        ];
        let plan = plan(&spec(json!({"containers": []}), json!({})), "new", &nodes, &pods, Timestamp::now());
        assert_eq!(plan.create_on, ["b", "c"]);
        assert_eq!((plan.delete.len(), plan.ended.len()), (1, 2));
    }

    #[test]
    fn updates_keep_within_their_limits() {
        let nodes: Vec<_> = ["a", "b", "c"].map(|name| node(name, json!([]))).into();
        let old = |ready: [bool; 3]| -> Vec<Arc<Pod>> {
            ["a", "b", "c"]
                .iter()
                .zip(ready)
                .map(|(name, ready)| pod_on(name, name, "old", "Running", ready))
                .collect()
        };
        let check = |strategy: Value, pods: Vec<Arc<Pod>>, expected: (usize, usize)| {
            let plan = plan(
                &spec(json!({"containers": []}), strategy.clone()),
                "new",
                &nodes,
                &pods,
                Timestamp::now(),
            );
            assert_eq!((plan.create_on.len(), plan.delete.len()), expected, "{strategy}");
        };
        let rolling = |surge: i32, unavailable: i32| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        check(rolling(0, 1), old([true; 3]), (0, 1));
        check(rolling(0, 2), old([true; 3]), (0, 2));
        check(rolling(0, 1), old([false, true, true]), (0, 1));
        check(rolling(1, 0), old([true; 3]), (1, 0));
        check(json!({"type": "OnDelete"}), old([true; 3]), (0, 0));
        let mut half = old([true; 3]);
        half.push(pod_on("a2", "a", "new", "Running", true));
        check(rolling(1, 0), half, (1, 1));
    }

    #[test]
    fn a_pod_is_bound_to_its_node() {
        let set = DaemonSet::default();
        let pod = pod(&set, &spec(json!({"containers": []}), json!({})), "hash", "n1");
        assert_eq!(target(&pod), Some("n1"));
    }
}
