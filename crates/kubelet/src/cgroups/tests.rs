use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// Files as the kernel would have them, in a directory: what is not there cannot be set.
fn kernel(root: &Path, dirs: &[&str], files: &[&str]) {
    for dir in dirs {
        let dir = root.join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        for file in files {
            std::fs::write(dir.join(file), "").unwrap();
        }
        std::fs::write(dir.join("cgroup.controllers"), "cpu memory pids").unwrap();
        std::fs::write(dir.join("cgroup.subtree_control"), "memory").unwrap();
    }
}

const V2: [&str; 9] = [
    "cpu.weight",
    "cpu.max",
    "memory.max",
    "memory.min",
    "memory.low",
    "pids.max",
    "hugetlb.2MB.max",
    "cgroup.controllers",
    "cgroup.subtree_control",
];

fn cgroups(hierarchy: Hierarchy, systemd: bool, tiers: bool) -> Cgroups {
    Cgroups {
        hierarchy,
        base: "/kubepods".into(),
        enabled: true,
        systemd,
        pids: Some(50),
        period: 100_000,
        node: Some(Node { cpu: 2000, memory: 1 << 30 }),
        tiers,
        asked: Mutex::default(),
        warned: AtomicBool::new(false),
    }
}

fn pod(uid: &str, resources: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"uid": uid}, "spec": {"containers": [{"name": "c", "resources": resources}]}}),
    )
    .unwrap()
}

fn check(dir: &Path, expected: &[(&str, &str)]) {
    for (file, text) in expected {
        assert_eq!(std::fs::read_to_string(dir.join(file)).unwrap(), *text, "{}/{file}", dir.display());
    }
}

#[test]
fn the_files_of_a_unified_hierarchy() {
    let root = tempfile::tempdir().unwrap();
    let burstable = "kubepods/burstable/podu";
    kernel(root.path(), &["", "kubepods", "kubepods/burstable", "kubepods/besteffort", burstable], &V2);
    let cgroups = cgroups(Hierarchy::V2(root.path().to_owned()), false, false);
    let burstable = root.path().join(burstable);
    let limits = |limits: Value| pod("u", json!({"requests": {"cpu": "100m"}, "limits": limits}));
    cgroups.make(&limits(json!({"cpu": "500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"})), false);
    check(
        &burstable,
        &[
            ("cpu.weight", "17"),
            ("cpu.max", "50000 100000"),
            ("memory.max", "67108864"),
            ("memory.low", ""),
            ("pids.max", "50"),
            ("hugetlb.2MB.max", "4194304"),
        ],
    );
    check(&root.path().join("kubepods"), &[("cpu.weight", "174"), ("memory.max", "1073741824")]);
    // Each one that was missing is asked for, of the pod's own cgroup too: containers are below it.
    check(&root.path().join("kubepods"), &[("cgroup.subtree_control", "+pids")]);
    check(&burstable, &[("cgroup.subtree_control", "+pids")]);
    check(&root.path().join("kubepods/burstable"), &[("cpu.weight", "17")]);
    check(&root.path().join("kubepods/besteffort"), &[("cpu.weight", "1")]);
    let smaller = limits(json!({"cpu": "1", "memory": "32Mi"}));
    cgroups.widen(&smaller, false);
    check(&burstable, &[("cpu.max", "100000 100000"), ("memory.max", "67108864")]);
    cgroups.update(&smaller, false);
    check(&burstable, &[("memory.max", "33554432")]);
    cgroups.update(&smaller, true);
    check(&burstable, &[("cpu.max", "max 100000")]);
    cgroups.update(&limits(json!({})), false);
    check(&burstable, &[("memory.max", "max"), ("cpu.max", "max 100000")]);
    cgroups.remove(&limits(json!({})));
    check(&root.path().join("kubepods/burstable"), &[("cpu.weight", "1")]);
}

#[test]
fn requests_are_protected_by_class() {
    let root = tempfile::tempdir().unwrap();
    let slices = ["", "kubepods.slice", "kubepods.slice/kubepods-burstable.slice"];
    let burstable = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podb.slice";
    let guaranteed = "kubepods.slice/kubepods-podg.slice";
    kernel(root.path(), &[&slices[..], &[burstable, guaranteed]].concat(), &V2);
    let cgroups = cgroups(Hierarchy::V2(root.path().to_owned()), true, true);
    let pods = [
        pod(
            "g",
            json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}),
        ),
        pod("b", json!({"requests": {"memory": "32Mi"}})),
    ];
    assert_eq!(cgroups.parent(&pods[1]), "kubepods-burstable-podb.slice");
    pods.iter().for_each(|pod| cgroups.make(pod, false));
    check(&root.path().join(guaranteed), &[("memory.min", "67108864"), ("memory.low", "")]);
    check(&root.path().join(burstable), &[("memory.min", ""), ("memory.low", "33554432")]);
    check(&root.path().join(slices[1]), &[("memory.min", "67108864"), ("memory.low", "33554432")]);
    check(&root.path().join(slices[2]), &[("memory.min", ""), ("memory.low", "33554432")]);
}

#[test]
fn the_files_of_single_hierarchies() {
    let root = tempfile::tempdir().unwrap();
    let mount = |name: &'static str, files: &[&str]| {
        let dirs = ["", "kubepods", "kubepods/burstable", "kubepods/besteffort", "kubepods/burstable/podu"];
        kernel(&root.path().join(name), &dirs, files);
        (name, root.path().join(name))
    };
    let controllers = vec![
        mount("cpu", &["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"]),
        mount("memory", &["memory.limit_in_bytes"]),
        mount("pids", &["pids.max"]),
    ];
    let cgroups = cgroups(Hierarchy::V1(controllers), false, false);
    cgroups.make(&pod("u", json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "500m"}})), false);
    let at = |name: &str| root.path().join(name).join("kubepods/burstable/podu");
    check(
        &at("cpu"),
        &[("cpu.shares", "256"), ("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "100000")],
    );
    check(&at("memory"), &[("memory.limit_in_bytes", "-1")]);
    check(&at("pids"), &[("pids.max", "50")]);
    check(&root.path().join("cpu/kubepods/burstable"), &[("cpu.shares", "256")]);
    check(&root.path().join("cpu/kubepods/besteffort"), &[("cpu.shares", "2")]);
    check(&root.path().join("cpu/kubepods"), &[("cpu.shares", "2048")]);
}
