//! What is kept up to date event by event equals what is counted from scratch, whatever has happened.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::classes::{Classes, CrossClass, LocalClass, cross};
use crate::cluster::Cluster;
use crate::config::{Config, Profile};
use crate::pod::PodInfo;

#[derive(Clone, Debug)]
enum Step {
    Node {
        name: u8,
        zone: u8,
        cpu: u8,
        tainted: bool,
        image: bool,
    },
    NoNode(u8),
    Pod {
        uid: u8,
        node: u8,
        kind: u8,
        terminating: bool,
    },
    NoPod(u8),
    Namespace {
        name: u8,
        team: u8,
    },
    /// The classes of these pods are brought up to date.
    Look(u8),
}

const NODES: u8 = 6;
const PODS: u8 = 12;
const KINDS: u8 = 7;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..NODES, 0..3_u8, 1..4_u8, any::<bool>(), any::<bool>())
            .prop_map(|(name, zone, cpu, tainted, image)| Step::Node { name, zone, cpu, tainted, image }),
        1 => (0..NODES).prop_map(Step::NoNode),
        5 => (0..PODS, 0..NODES, 0..KINDS, any::<bool>())
            .prop_map(|(uid, node, kind, terminating)| Step::Pod { uid, node, kind, terminating }),
        2 => (0..PODS).prop_map(Step::NoPod),
        1 => (0..2_u8, 0..2_u8).prop_map(|(name, team)| Step::Namespace { name, team }),
        2 => (0..KINDS).prop_map(Step::Look),
    ]
}

fn affinity(kind: &str, key: &str, term: Value) -> Value {
    json!({"affinity": {kind: {key: [term]}}})
}

/// Pods that look at each other in all the ways there are.
fn pod(uid: u8, kind: u8, terminating: bool) -> Arc<PodInfo> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let selector = json!({"matchLabels": {"app": "web"}});
    let term = |key: &str| json!({"topologyKey": key, "labelSelector": selector});
    let mut spec = match kind {
        0 => json!({}),
        1 => affinity("podAntiAffinity", REQUIRED, term("host")),
        2 => affinity("podAffinity", REQUIRED, term("zone")),
        3 => affinity(
            "podAntiAffinity",
            "preferredDuringSchedulingIgnoredDuringExecution",
            json!({"weight": 5, "podAffinityTerm": term("zone")}),
        ),
        4 => json!({"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector},
            {"maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector}]}),
        5 => affinity(
            "podAntiAffinity",
            REQUIRED,
            json!({"topologyKey": "zone", "labelSelector": selector,
            "namespaceSelector": {"matchLabels": {"team": "t0"}}}),
        ),
        _ => json!({"nodeSelector": {"zone": "z1"}, "tolerations": [{"operator": "Exists"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "host", "whenUnsatisfiable": "DoNotSchedule",
                "nodeTaintsPolicy": "Honor", "labelSelector": selector}]}),
    };
    spec["containers"] = json!([{"name": "c", "image": "a:1", "resources": {"requests": {"cpu": "500m", "x.com/y": kind}},
        "ports": [{"containerPort": 1, "hostPort": if kind == 0 { 80 } else { 0 }}]}]);
    let app = if uid.is_multiple_of(3) { "db" } else { "web" };
    let mut value = json!({"metadata": {"name": uid.to_string(), "namespace": format!("n{}", uid % 2), "uid": uid.to_string(),
        "labels": {"app": app, "unique": uid.to_string()}}, "spec": spec});
    if terminating {
        value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    Arc::new(PodInfo::new(Arc::new(serde_json::from_value(value).unwrap())))
}

fn apply(cluster: &mut Cluster, step: &Step) {
    match step {
        Step::Node { name, zone, cpu, tainted, image } => {
            let taints = if *tainted { json!([{"key": "k", "effect": "NoSchedule"}]) } else { json!([]) };
            let images =
                if *image { json!([{"names": ["a:1"], "sizeBytes": 500_000_000}]) } else { json!([]) };
            let node = json!({"metadata": {"name": format!("n{name}"), "labels": {"host": format!("n{name}"), "zone": format!("z{zone}")}},
                "spec": {"taints": taints}, "status": {"allocatable": {"cpu": cpu.to_string(), "pods": "4", "x.com/y": "9"}, "images": images}});
            cluster.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        }
        Step::NoNode(name) => cluster.remove_node(&format!("n{name}")),
        Step::Pod { uid, node, kind, terminating } => {
            cluster.add_pod(pod(*uid, *kind, *terminating), &format!("n{node}"));
        }
        Step::NoPod(uid) => drop(cluster.remove_pod(&uid.to_string())),
        Step::Namespace { name, team } => {
            let namespace =
                json!({"metadata": {"name": format!("n{name}"), "labels": {"team": format!("t{team}")}}});
            cluster.set_namespace(&serde_json::from_value(namespace).unwrap());
        }
        Step::Look(_) => {}
    }
}

/// The same nodes and pods, told of in another order.
fn again(cluster: &Cluster) -> Cluster {
    let mut copy = Cluster::default();
    copy.namespaces = cluster.namespaces.clone();
    for node in cluster.nodes.iter().rev() {
        node.pods.values().for_each(|pod| copy.add_pod(pod.clone(), &node.name));
    }
    for node in &cluster.nodes {
        node.node.iter().for_each(|node| copy.set_node(node.clone()));
    }
    copy
}

fn check_counts(kept: &Cluster, fresh: &Cluster) {
    assert_eq!(kept.live, fresh.live);
    assert_eq!(kept.image_spread, fresh.image_spread);
    assert_eq!(kept.term_keys, fresh.term_keys);
    assert_eq!((kept.with_terms, kept.selecting_namespaces), (fresh.with_terms, fresh.selecting_namespaces));
    for (_, node) in kept.live_nodes() {
        let same = fresh.node(&node.name).expect("it is there");
        assert_eq!((&node.requested, &node.scored), (&same.requested, &same.scored));
        let sorted = |ports: &[crate::pod::HostPort]| {
            let mut ports = ports.to_vec();
            ports.sort();
            ports
        };
        assert_eq!(sorted(&node.host_ports), sorted(&same.host_ports));
        assert_eq!((node.pods.len(), node.with_terms.len()), (same.pods.len(), same.with_terms.len()));
    }
}

fn sorted<T>(mut verdicts: Vec<(String, T)>) -> Vec<(String, T)> {
    verdicts.sort_by(|(a, _), (b, _)| a.cmp(b));
    verdicts
}

fn check_class(classes: &mut Classes, profile: &Profile, kind: u8, cluster: &Cluster) {
    let wanted = pod(100 + kind, kind, false);
    let (local, cross) = classes.of(0, profile, &wanted, cluster);
    let fresh = again(cluster);
    let new = LocalClass::new(&wanted, profile, &fresh);
    assert_eq!(sorted(local.verdicts(cluster)), sorted(new.verdicts(&fresh)), "{wanted:?}");
    let wishes = cross::Wishes::of(&wanted, profile, &fresh);
    assert_eq!(cross.is_some(), wishes.is_some());
    let Some((cross, wishes)) = cross.zip(wishes) else { return };
    let mut new_cross = CrossClass::new(&wanted, wishes, profile, &fresh);
    new_cross.refresh(&fresh, &new.judges, profile);
    assert_eq!(cross.spread.totals(), new_cross.spread.totals(), "{wanted:?}");
    assert_eq!(cross.affinity.totals(), new_cross.affinity.totals(), "{wanted:?}");
    let (floors, new_floors) = (cross.spread.floors(), new_cross.spread.floors());
    for (slot, node) in cluster.live_nodes() {
        let same = fresh.slot_of(&node.name).expect("it is there");
        assert_eq!(cross.spread.fits(slot, &floors), new_cross.spread.fits(same, &new_floors));
        assert_eq!(cross.affinity.fits(slot), new_cross.affinity.fits(same));
        // What is said of a supposed node holds for the node itself.
        let refusal = cross.refusal(slot, Some(node), profile, cluster);
        assert_eq!(refusal, cross.refusal(slot, None, profile, cluster));
        assert_eq!(refusal.is_none(), cross.spread.fits(slot, &floors) && cross.affinity.fits(slot));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn incremental_state_equals_one_from_scratch(steps in prop::collection::vec(step(), 1..60)) {
        let config = Config::default();
        let profile = &config.profiles[0];
        let mut cluster = Cluster::default();
        let mut classes = Classes::default();
        for step in &steps {
            apply(&mut cluster, step);
            if let Step::Look(kind) = step {
                check_class(&mut classes, profile, *kind, &cluster);
            }
        }
        check_counts(&cluster, &again(&cluster));
        for kind in 0..KINDS {
            check_class(&mut classes, profile, kind, &cluster);
        }
    }
}
