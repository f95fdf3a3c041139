//! Decisions over small clusters.

use std::sync::Arc;

use client::Delta;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::plugins::{Events, default_plugins};
use crate::pod::PodInfo;
use crate::preemption;
use crate::schedule::{Misfit, choose};

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

fn cluster(nodes: &[Value], pods: &[(Arc<PodInfo>, &str)]) -> Cluster {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(Arc::new(serde_json::from_value(node.clone()).unwrap()));
    }
    for (pod, node) in pods {
        cluster.add_pod(pod.clone(), node);
    }
    cluster
}

fn place(cluster: &Cluster, pod: &PodInfo) -> Result<String, Misfit> {
    choose(&default_plugins(), pod, cluster, &mut 0)
}

/// Where the pod goes, or the message why it goes nowhere.
fn check(cluster: &Cluster, spec: Value, expected: &str) {
    let pod = pod("new", spec);
    let found = place(cluster, &pod).unwrap_or_else(|misfit| misfit.message() + &misfit.preemption_message());
    assert_eq!(found, expected, "{:?}", pod.pod.spec);
}

#[test]
fn filters_say_why() {
    let tainted = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    let one = cluster(&[node("a1", json!({}))], &[(pod("p", json!({"cpu": "1500m"})), "a1")]);
    check(&one, json!({}), "a1");
    check(
        &one,
        json!({"cpu": "1"}),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    );
    check(
        &one,
        json!({"cpu": "3"}),
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    check(
        &one,
        json!({"nodeSelector": {"zone": "b"}}),
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    check(&Cluster::default(), json!({}), "no nodes available to schedule pods");
    let mixed = cluster(&[node("a1", tainted.clone()), node("a2", json!({"unschedulable": true}))], &[]);
    check(
        &mixed,
        json!({}),
        "0/2 nodes are available: 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
    );
    check(&mixed, json!({"tolerations": [{"key": "k", "operator": "Exists"}]}), "a1");
    check(
        &mixed,
        json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}),
        "a2",
    );
    let full = cluster(
        &[node("a1", json!({}))],
        &(0..5).map(|n| (pod(&format!("p{n}"), json!({"cpu": "0"})), "a1")).collect::<Vec<_>>(),
    );
    check(
        &full,
        json!({"cpu": "0"}),
        "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    );
}

#[test]
fn ports_of_a_node_are_given_once() {
    let ports = |address: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": address}]}]});
    let one = cluster(&[node("a1", json!({}))], &[(pod("p", ports("127.0.0.1")), "a1")]);
    check(&one, ports("127.0.0.2"), "a1");
    check(
        &one,
        ports(""),
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    );
}

#[test]
fn the_emptier_node_is_better() {
    let two =
        cluster(&[node("a1", json!({})), node("a2", json!({}))], &[(pod("p", json!({"cpu": "1"})), "a1")]);
    check(&two, json!({}), "a2");
    let disliked = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
    let two =
        cluster(&[node("a1", json!({})), node("a2", disliked)], &[(pod("p", json!({"cpu": "1"})), "a1")]);
    check(&two, json!({}), "a1");
}

#[test]
fn constraints_spread_pods() {
    let three = cluster(
        &[node("a1", json!({})), node("a2", json!({})), node("b1", json!({}))],
        &[
            (pod("p1", json!({"cpu": "0"})), "a1"),
            (pod("p2", json!({"cpu": "0"})), "a2"),
            (pod("heavy", json!({"cpu": "1900m"})), "b1"),
        ],
    );
    let spread = |when: &str| {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "web"}}}]})
    };
    check(&three, spread("DoNotSchedule"), "b1");
    let hostname = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}}]});
    let misfit = place(&three, &pod("new", hostname)).unwrap_err();
    assert_eq!(
        misfit.message(),
        "0/3 nodes are available: 3 node(s) didn't match pod topology spread constraints (missing required label)."
    );
}

#[test]
fn pods_keep_together_or_apart() {
    let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let together =
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
    let apart =
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": term}}});
    let nodes = [node("a1", json!({})), node("b1", json!({}))];
    let empty = cluster(&nodes, &[]);
    assert!(place(&empty, &pod("first", together.clone())).is_ok(), "the first of a group goes anywhere");
    let one = cluster(&nodes, &[(pod("p", json!({})), "a1")]);
    check(&one, together, "a1");
    check(&one, apart.clone(), "b1");
    let refusing = cluster(&nodes, &[(pod("p", apart), "a1")]);
    check(&refusing, json!({}), "b1");
}

#[test]
fn important_pods_push_out_as_few_as_possible() {
    let low =
        |name: &str, cpu: &str, priority: i32| (pod(name, json!({"cpu": cpu, "priority": priority})), "a1");
    let one = cluster(
        &[node("a1", json!({}))],
        &[low("small", "500m", 1), low("big", "1", 1), low("vip", "500m", 9)],
    );
    let find = |spec: Value| {
        let pod = pod("new", spec);
        let misfit = place(&one, &pod).unwrap_err();
        let victims = preemption::find(&default_plugins(), &pod, &one, &misfit)?;
        let mut names: Vec<_> = victims.pods.iter().map(|pod| pod.uid.clone()).collect();
        names.sort();
        Some(names)
    };
    let check = |spec: Value, expected: Option<&[&str]>| {
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(find(spec.clone()), expected, "{spec}");
    };
    check(json!({"cpu": "1500m", "priority": 5}), Some(&["big", "small"]));
    check(json!({"cpu": "1", "priority": 1}), None);
    check(json!({"cpu": "2", "priority": 5}), None);
    check(json!({"cpu": "1", "priority": 5, "preemptionPolicy": "Never"}), None);
    assert_eq!(find(json!({"cpu": "500m", "priority": 5})).map(|names| names.len()), Some(1));
}

#[test]
fn a_misfit_names_what_may_help() {
    let one = cluster(&[node("a1", json!({"unschedulable": true}))], &[]);
    let misfit = place(&one, &pod("new", json!({}))).unwrap_err();
    assert!(misfit.helped_by.intersects(Events::NODE_TAINTS));
    assert!(!misfit.helped_by.intersects(Events::POD_REMOVED));
}

#[test]
fn volumes_hold_pods_to_their_nodes() {
    let mut two = cluster(&[node("a1", json!({})), node("b1", json!({}))], &[]);
    let in_zone_b = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]}});
    let added = |value: Value| Delta::Added(Arc::new(serde_json::from_value(value).unwrap()));
    two.storage.volume_changed(&added(json!({"metadata": {"name": "v"}, "spec": {"storageClassName": "late", "nodeAffinity": in_zone_b}, "status": {"phase": "Available"}})));
    let class = json!({"metadata": {"name": "late"}, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"});
    two.storage.class_changed(&Delta::Added(Arc::new(serde_json::from_value(class).unwrap())));
    let claim = |name: &str, spec: Value, phase: &str| {
        Delta::Added(Arc::new(serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec, "status": {"phase": phase}})).unwrap()))
    };
    two.storage.claim_changed(&claim("bound", json!({"volumeName": "v"}), "Bound"));
    two.storage.claim_changed(&claim("late", json!({"storageClassName": "late"}), "Pending"));
    two.storage.claim_changed(&claim("now", json!({}), "Pending"));
    let using =
        |claim: &str| json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]});
    check(&two, using("bound"), "b1");
    check(&two, using("late"), "b1");
    let refused = |claim: &str| place(&two, &pod("new", using(claim))).unwrap_err().message();
    assert_eq!(
        refused("now"),
        "0/2 nodes are available: 2 pod has unbound immediate PersistentVolumeClaims."
    );
    assert_eq!(refused("none"), "0/2 nodes are available: 2 persistentvolumeclaim \"none\" not found.");
    assert_eq!(two.storage.waiting_claims(&pod("new", using("late")).pod), ["late"]);
}
