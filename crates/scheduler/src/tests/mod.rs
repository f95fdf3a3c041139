//! Decisions over small clusters.

mod devices;
mod equal;

use std::sync::Arc;

use client::Delta;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::config::Config;
use crate::core::{Core, Decision};
use crate::pod::PodInfo;

fn node(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": &name[..1]}}, "spec": spec,
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "5"}}})
}

fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        let cpu = spec.get("cpu").cloned().unwrap_or(json!("100m"));
        spec["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}]);
        spec.as_object_mut().unwrap().remove("cpu");
    }
    let value = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}}, "spec": spec});
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(value).unwrap())))
}

fn core_with(config: &Config, nodes: &[Value], pods: &[(Arc<PodInfo>, &str)]) -> Core {
    let mut core = Core::new(config);
    for node in nodes {
        core.node_changed(&added(node.clone()), Instant::now());
    }
    for (pod, node) in pods {
        core.cluster.add_pod(pod.clone(), node);
    }
    core
}

fn cluster(nodes: &[Value], pods: &[(Arc<PodInfo>, &str)]) -> Core {
    core_with(&Config::default(), nodes, pods)
}

fn added<K: serde::de::DeserializeOwned>(value: Value) -> Delta<K> {
    Delta::Added(Arc::new(serde_json::from_value(value).unwrap()))
}

/// What is decided about the pod; if it goes to a node, it is taken away from there again.
fn decide(core: &mut Core, pod: &Arc<PodInfo>) -> Decision {
    let now = Instant::now();
    core.pod_changed(&Delta::Added(pod.pod.clone()), now);
    let decision = core.decide_next(now).expect("the pod waits");
    core.pod_changed(&Delta::Deleted(pod.pod.clone()), now);
    decision
}

/// The node, or the message why there is none.
fn place(core: &mut Core, pod: &Arc<PodInfo>) -> Result<String, String> {
    match decide(core, pod) {
        Decision::Bind(assignment) => {
            let node = assignment.node.clone();
            core.unbound(assignment, Instant::now());
            Ok(node)
        }
        Decision::Refused(failure) => Err(failure.message),
        Decision::Consult { .. } => unreachable!("there are no extenders"),
    }
}

/// Where the pod goes, or the message why it goes nowhere.
fn check(core: &mut Core, spec: Value, expected: &str) {
    let pod = pod("new", spec);
    let found = place(core, &pod).unwrap_or_else(|message| message);
    assert_eq!(found, expected, "{:?}", pod.pod.spec);
}

#[test]
fn filters_say_why() {
    let tainted = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    let mut one = cluster(&[node("a1", json!({}))], &[(pod("p", json!({"cpu": "1500m"})), "a1")]);
    check(&mut one, json!({}), "a1");
    check(
        &mut one,
        json!({"cpu": "1"}),
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    );
    check(
        &mut one,
        json!({"cpu": "3"}),
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    check(
        &mut one,
        json!({"nodeSelector": {"zone": "b"}}),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    check(&mut Core::new(&Config::default()), json!({}), "no nodes available to schedule pods");
    let mut mixed = cluster(&[node("a1", tainted.clone()), node("a2", json!({"unschedulable": true}))], &[]);
    check(
        &mut mixed,
        json!({}),
        "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
    );
    check(&mut mixed, json!({"tolerations": [{"key": "k", "operator": "Exists"}]}), "a1");
    check(
        &mut mixed,
        json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}),
        "a2",
    );
    let mut full = cluster(
        &[node("a1", json!({}))],
        &(0..5).map(|n| (pod(&format!("p{n}"), json!({"cpu": "0"})), "a1")).collect::<Vec<_>>(),
    );
    check(
        &mut full,
        json!({"cpu": "0"}),
        "0/1 nodes are available: 1 Too many pods. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    );
}

#[test]
fn a_pod_may_name_its_node() {
    let named = |name: &str| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms":
        [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]}}}})
    };
    let mut two =
        cluster(&[node("a1", json!({})), node("b1", json!({}))], &[(pod("p", json!({"cpu": "1"})), "b1")]);
    check(&mut two, named("b1"), "b1");
    two.cluster.add_pod(pod("q", json!({"cpu": "1"})), "b1");
    check(
        &mut two,
        named("b1"),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
    );
    two.cluster.remove_pod("q");
    check(&mut two, named("b1"), "b1");
}

#[test]
fn ports_of_a_node_are_given_once() {
    let ports = |address: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": address}]}]});
    let mut one = cluster(&[node("a1", json!({}))], &[(pod("p", ports("127.0.0.1")), "a1")]);
    check(&mut one, ports("127.0.0.2"), "a1");
    check(
        &mut one,
        ports(""),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    );
}

#[test]
fn the_emptier_node_is_better() {
    let mut two =
        cluster(&[node("a1", json!({})), node("a2", json!({}))], &[(pod("p", json!({"cpu": "1"})), "a1")]);
    check(&mut two, json!({}), "a2");
    let disliked = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
    let mut two =
        cluster(&[node("a1", json!({})), node("a2", disliked)], &[(pod("p", json!({"cpu": "1"})), "a1")]);
    check(&mut two, json!({}), "a1");
}

#[test]
fn constraints_spread_pods() {
    let mut three = cluster(
        &[node("a1", json!({})), node("a2", json!({})), node("b1", json!({}))],
        &[
            (pod("p1", json!({"cpu": "0"})), "a1"),
            (pod("p2", json!({"cpu": "0"})), "a2"),
            (pod("heavy", json!({"cpu": "1900m"})), "b1"),
        ],
    );
    let spread = |key: &str, more: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}}});
        constraint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"topologySpreadConstraints": [constraint]})
    };
    check(&mut three, spread("zone", json!({})), "b1");
    let refused = |core: &mut Core, spec: Value, expected: &str| {
        let message = place(core, &pod("new", spec)).unwrap_err();
        assert!(message.contains(expected), "{message}");
    };
    refused(
        &mut three,
        spread("rack", json!({})),
        "3 node(s) didn't match pod topology spread constraints (missing required label).",
    );
    refused(
        &mut three,
        spread("zone", json!({"minDomains": 3})),
        "3 node(s) didn't match pod topology spread constraints.",
    );
    // Only nodes that the pod may go to take part, unless it says otherwise.
    let mut selected = spread("zone", json!({}));
    selected["nodeSelector"] = json!({"zone": "a"});
    assert!(place(&mut three, &pod("new", selected)).is_ok());
    let mut selected = spread("zone", json!({"nodeAffinityPolicy": "Ignore"}));
    selected["nodeSelector"] = json!({"zone": "a"});
    refused(&mut three, selected, "2 node(s) didn't match pod topology spread constraints");
}

#[test]
fn pods_of_a_service_are_spread_without_being_told() {
    let mut core = cluster(
        &[node("a1", json!({})), node("b1", json!({}))],
        &[(pod("p1", json!({})), "a1"), (pod("heavy", json!({"cpu": "200m", "other": 1})), "b1")],
    );
    check(&mut core, json!({}), "a1");
    let service =
        json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": {"selector": {"app": "web"}}});
    core.cluster.workloads.service_changed(&added(service));
    let other = json!({"metadata": {"name": "x", "namespace": "ns", "uid": "heavy", "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m"}}}]}});
    core.cluster.add_pod(Arc::new(PodInfo::new(Arc::new(serde_json::from_value(other).unwrap()))), "b1");
    check(&mut core, json!({}), "b1");
}

#[test]
fn pods_keep_together_or_apart() {
    let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let wish = |kind: &str, when: &str, terms: Value| json!({"affinity": {kind: {when: terms}}});
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let together = wish("podAffinity", required, term.clone());
    let apart = wish("podAntiAffinity", required, term);
    let nodes = [node("a1", json!({})), node("b1", json!({}))];
    let mut empty = cluster(&nodes, &[]);
    assert!(place(&mut empty, &pod("first", together.clone())).is_ok(), "the first of a group goes anywhere");
    let others = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]);
    assert!(place(&mut empty, &pod("lonely", wish("podAffinity", required, others))).is_err());
    let mut one = cluster(&nodes, &[(pod("p", json!({})), "a1")]);
    check(&mut one, together, "a1");
    check(&mut one, apart.clone(), "b1");
    let mut refusing = cluster(&nodes, &[(pod("p", apart), "a1")]);
    check(&mut refusing, json!({}), "b1");
    check(
        &mut refusing,
        json!({"nodeSelector": {"zone": "a"}}),
        "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't satisfy existing pods anti-affinity rules. no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
    );
    // Labels of namespaces, and own labels as part of the selector.
    let namespace = |labels: Value| added(json!({"metadata": {"name": "ns", "labels": labels}}));
    let selected = json!([{"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": {"matchLabels": {"team": "x"}}}]);
    let selected = wish("podAntiAffinity", required, selected);
    one.namespace_changed(&namespace(json!({"team": "x"})));
    check(&mut one, selected.clone(), "b1");
    one.namespace_changed(&namespace(json!({"team": "y"})));
    one.cluster.add_pod(pod("weight", json!({"cpu": "1"})), "b1");
    check(&mut one, selected, "a1");
    let same = json!([{"topologyKey": "zone", "labelSelector": {}, "mismatchLabelKeys": ["app"]}]);
    check(&mut one, wish("podAntiAffinity", required, same), "a1");
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    let near_a = json!([{"weight": 100, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}}]);
    let mut crowded = cluster(&nodes, &[(pod("p", json!({"cpu": "300m"})), "a1")]);
    check(&mut crowded, json!({}), "b1");
    check(&mut crowded, wish("podAffinity", preferred, near_a), "a1");
}

fn victims(core: &mut Core, spec: Value) -> Option<(String, Vec<String>)> {
    match decide(core, &pod("new", spec)) {
        Decision::Refused(failure) => {
            let best = failure.candidates.into_iter().next()?;
            let mut names: Vec<_> = best.pods.iter().map(|pod| pod.uid.to_string()).collect();
            names.sort();
            Some((best.node, names))
        }
        decision => panic!("{decision:?}"),
    }
}

#[test]
fn important_pods_push_out_as_few_as_possible() {
    let low =
        |name: &str, cpu: &str, priority: i32| (pod(name, json!({"cpu": cpu, "priority": priority})), "a1");
    let mut one = cluster(
        &[node("a1", json!({}))],
        &[low("small", "500m", 1), low("big", "1", 1), low("vip", "500m", 9)],
    );
    let mut check = |spec: Value, expected: Option<&[&str]>| {
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(victims(&mut one, spec.clone()).map(|(_, names)| names), expected, "{spec}");
    };
    check(json!({"cpu": "1500m", "priority": 5}), Some(&["big", "small"]));
    check(json!({"cpu": "1", "priority": 1}), None);
    check(json!({"cpu": "2", "priority": 5}), None);
    check(json!({"cpu": "1", "priority": 5, "preemptionPolicy": "Never"}), None);
    assert_eq!(
        victims(&mut one, json!({"cpu": "500m", "priority": 5})).map(|(_, names)| names.len()),
        Some(1)
    );
}

#[test]
fn the_least_harm_is_done() {
    let on = |name: &str, priority: i32, node: &'static str| {
        (pod(name, json!({"cpu": "2", "priority": priority})), node)
    };
    let mut two =
        cluster(&[node("a1", json!({})), node("b1", json!({}))], &[on("p3", 3, "a1"), on("p2", 2, "b1")]);
    let wanted = json!({"cpu": "2", "priority": 5});
    assert_eq!(victims(&mut two, wanted.clone()), Some(("b1".to_owned(), vec!["p2".to_owned()])));
    // A budget that covers everything says nothing; one for b1's pod alone sends a1's away.
    let budget = json!({"metadata": {"namespace": "ns", "name": "b"}, "status": {"disruptionsAllowed": 0},
        "spec": {"selector": {"matchLabels": {"keep": "yes"}}}});
    two.budgets.changed(&added(budget));
    let mut kept = (*pod("p2", json!({"cpu": "2", "priority": 2})).pod).clone();
    kept.metadata.labels.get_or_insert_default().insert("keep".to_owned(), "yes".to_owned());
    two.cluster.add_pod(Arc::new(PodInfo::new(Arc::new(kept))), "b1");
    assert_eq!(victims(&mut two, wanted), Some(("a1".to_owned(), vec!["p3".to_owned()])));
}

#[test]
fn room_that_was_made_is_kept() {
    let now = Instant::now();
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    let vip = pod("vip", json!({"cpu": "2", "priority": 5}));
    one.nominate(&vip, "a1");
    assert!(place(&mut one, &pod("low", json!({"cpu": "1"}))).unwrap_err().contains("1 Insufficient cpu"));
    check(&mut one, json!({"cpu": "1", "priority": 6}), "a1");
    let emperor = pod("emperor", json!({"cpu": "2", "priority": 9}));
    assert_eq!(one.nominate(&emperor, "a1").len(), 1, "the less important lose it");
    assert!(place(&mut one, &vip).is_err());
    one.pod_changed(&Delta::Deleted(emperor.pod.clone()), now);
    assert_eq!(place(&mut one, &vip), Ok("a1".to_owned()));
}

#[test]
fn refused_pods_are_tried_when_it_helps() {
    let now = Instant::now();
    let mut one = cluster(&[node("a1", json!({"unschedulable": true}))], &[(pod("p", json!({})), "a1")]);
    let waiting = pod("new", json!({}));
    one.pod_changed(&Delta::Added(waiting.pod.clone()), now);
    assert!(matches!(one.decide_next(now), Some(Decision::Refused(_))));
    one.pod_changed(&Delta::Deleted(pod("p", json!({})).pod.clone()), now);
    assert!(one.decide_next(now).is_none(), "another pod's end makes the node no more schedulable");
    let object = |spec: Value| Arc::new(serde_json::from_value(node("a1", spec)).unwrap());
    let (old, tainted) = (
        object(json!({"unschedulable": true})),
        object(json!({"unschedulable": true, "taints": [{"key": "k", "effect": "PreferNoSchedule"}]})),
    );
    one.node_changed(&Delta::Updated { old, new: tainted.clone() }, now);
    assert!(one.decide_next(now).is_none(), "still unschedulable");
    one.node_changed(&Delta::Updated { old: tainted, new: object(json!({})) }, now);
    assert!(matches!(one.decide_next(now), Some(Decision::Bind(_))));
}

#[test]
fn a_binding_that_failed_is_undone() {
    let now = Instant::now();
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    one.pod_changed(&Delta::Added(pod("big", json!({"cpu": "2"})).pod.clone()), now);
    let Some(Decision::Bind(assignment)) = one.decide_next(now) else { panic!("it fits") };
    check(
        &mut one,
        json!({"cpu": "1"}),
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    );
    one.unbound(assignment, now);
    check(&mut one, json!({"cpu": "1"}), "a1");
    assert_eq!(one.pending().backoff, 1);
}

#[test]
fn other_schedulers_pods_are_left_alone() {
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    let now = Instant::now();
    one.pod_changed(&Delta::Added(pod("p", json!({"schedulerName": "other"})).pod.clone()), now);
    one.pod_changed(&Delta::Added(pod("q", json!({"schedulingGates": [{"name": "x"}]})).pod.clone()), now);
    assert!(one.decide_next(now).is_none());
    assert_eq!(one.pending().gated, 1);
}

#[test]
fn profiles_decide_differently() {
    let config = "{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration, profiles: [{schedulerName: default-scheduler}, {schedulerName: packing, plugins: {score: {disabled: [{name: NodeResourcesBalancedAllocation}]}}, pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}]}]}";
    let config = Config::parse(config).unwrap();
    let mut two = core_with(
        &config,
        &[node("a1", json!({})), node("b1", json!({}))],
        &[(pod("p", json!({"cpu": "1"})), "a1")],
    );
    check(&mut two, json!({}), "b1");
    check(&mut two, json!({"schedulerName": "packing"}), "a1");
}

#[test]
fn volumes_hold_pods_to_their_nodes() {
    let mut two = cluster(&[node("a1", json!({})), node("b1", json!({}))], &[]);
    let in_zone_b = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]}});
    let storage = &mut two.cluster.storage;
    let volume = |name: &str| {
        added(
            json!({"metadata": {"name": name}, "spec": {"storageClassName": "late", "nodeAffinity": in_zone_b,
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Available"}}),
        )
    };
    storage.volume_changed(&volume("v"));
    let class = |name: &str, provisioner: &str| {
        added(
            json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer"}),
        )
    };
    storage.class_changed(&class("late", "kubernetes.io/no-provisioner"));
    storage.class_changed(&class("made", "csi.example.com"));
    let claim = |name: &str, mut spec: Value, phase: &str| {
        spec["resources"] = json!({"requests": {"storage": "1Gi"}});
        added(
            json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec, "status": {"phase": phase}}),
        )
    };
    storage.claim_changed(&claim("bound", json!({"volumeName": "v"}), "Bound"));
    storage.claim_changed(&claim("late", json!({"storageClassName": "late"}), "Pending"));
    storage.claim_changed(&claim("later", json!({"storageClassName": "late"}), "Pending"));
    storage.claim_changed(&claim("made", json!({"storageClassName": "made"}), "Pending"));
    storage.claim_changed(&claim("now", json!({}), "Pending"));
    let using = |claims: &[&str]| json!({"volumes": claims.iter().map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}})).collect::<Vec<_>>()});
    check(&mut two, using(&["bound"]), "b1");
    let refused = |core: &mut Core, claims: &[&str]| place(core, &pod("new", using(claims))).unwrap_err();
    let unhelpful = "no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    assert_eq!(
        refused(&mut two, &["now"]),
        format!("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. {unhelpful}")
    );
    assert_eq!(
        refused(&mut two, &["none"]),
        format!("0/2 nodes are available: persistentvolumeclaim \"none\" not found. {unhelpful}")
    );
    assert!(
        refused(&mut two, &["late", "later"])
            .contains("2 node(s) didn't find available persistent volumes to bind")
    );
    // A volume that one pod is being bound to is not another's.
    let Decision::Bind(assignment) = decide(&mut two, &pod("new", using(&["late"]))) else {
        panic!("it fits")
    };
    assert_eq!(assignment.node, "b1");
    assert_eq!(assignment.plan.bindings, [("v".to_owned(), ("ns".to_owned(), "late".to_owned()))]);
    assert!(refused(&mut two, &["later"]).contains("didn't find available persistent volumes"));
    two.bound(&assignment);
    check(&mut two, using(&["later"]), "b1");
    let Decision::Bind(assignment) = decide(&mut two, &pod("new", using(&["made"]))) else {
        panic!("it fits")
    };
    assert_eq!(assignment.plan.provisions, [("ns".to_owned(), "made".to_owned())]);
    // A driver that tells of its space has to have enough of it.
    let storage = &mut two.cluster.storage;
    storage.driver_changed(&added(
        json!({"metadata": {"name": "csi.example.com"}, "spec": {"storageCapacity": true}}),
    ));
    assert!(refused(&mut two, &["made"]).contains("2 node(s) did not have enough free storage"));
    let space = json!({"metadata": {"namespace": "x", "name": "x"}, "storageClassName": "made", "capacity": "5Gi", "nodeTopology": {"matchLabels": {"zone": "a"}}});
    two.cluster.storage.capacity_changed(&added(space));
    check(&mut two, using(&["made"]), "a1");
}

#[test]
fn volumes_have_one_user_and_nodes_so_many_volumes() {
    let using = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]});
    let mut two =
        cluster(&[node("a1", json!({})), node("b1", json!({}))], &[(pod("user", using.clone()), "a1")]);
    let storage = &mut two.cluster.storage;
    let claim = |name: &str, mode: &str| {
        added(
            json!({"metadata": {"namespace": "ns", "name": name}, "spec": {"volumeName": name, "accessModes": [mode]}, "status": {"phase": "Bound"}}),
        )
    };
    storage.claim_changed(&claim("c", "ReadWriteOncePod"));
    let volume = |name: &str, zone: &str| {
        added(json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"csi": {"driver": "d", "volumeHandle": name}}, "status": {"phase": "Bound"}}))
    };
    storage.volume_changed(&volume("c", "x"));
    check(
        &mut two,
        using.clone(),
        "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode. no new claims to deallocate, preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
    );
    let mut important = using;
    important["priority"] = json!(5);
    assert_eq!(victims(&mut two, important), Some(("a1".to_owned(), vec!["user".to_owned()])));
    let storage = &mut two.cluster.storage;
    storage.claim_changed(&claim("e", "ReadWriteOnce"));
    storage.volume_changed(&volume("e", "x"));
    for name in ["a1", "b1"] {
        let count = if name == "a1" { 1 } else { 0 };
        storage.csi_node_changed(&added(json!({"metadata": {"name": name}, "spec": {"drivers": [{"name": "d", "nodeID": name, "allocatable": {"count": count}}]}})));
    }
    let other = json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "e"}}]});
    let message = place(&mut two, &pod("new", other.clone())).unwrap_err();
    assert!(message.contains("2 node(s) exceed max volume count"), "{message}");
    let zoned = json!({"metadata": {"name": "z", "labels": {"topology.kubernetes.io/zone": "y"}}, "status": {"allocatable": {"cpu": "2", "pods": "5"}}});
    two.node_changed(&added(zoned), Instant::now());
    let message = place(&mut two, &pod("new", other)).unwrap_err();
    assert!(message.contains("1 node(s) had no available volume zone"), "{message}");
}

#[test]
fn pods_go_where_the_features_are_that_they_need() {
    let mut able = node("b1", json!({}));
    able["status"]["declaredFeatures"] =
        json!(["InPlacePodLevelResourcesVerticalScaling", "RestartAllContainersOnContainerExits"]);
    let rules = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]);
    let needing = json!({"containers": [{"name": "c", "restartPolicyRules": rules}]});
    let mut one = cluster(&[node("a1", json!({}))], &[]);
    check(
        &mut one,
        needing.clone(),
        "0/1 nodes are available: 1 node declared features check failed - unsatisfied requirements: RestartAllContainersOnContainerExits. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    check(&mut one, json!({}), "a1");
    check(&mut cluster(&[node("a1", json!({})), able], &[]), needing, "b1");
}
