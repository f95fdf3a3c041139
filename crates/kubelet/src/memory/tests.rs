use serde_json::json;

use super::*;
use crate::config::MemoryReservation;

const GI: u64 = 1 << 30;

/// Two nodes of 16 GiB, of which 1 GiB is kept on the first.
fn memory(dir: &Path) -> Memory {
    let config = KubeletConfiguration {
        memory_manager_policy: "Static".into(),
        reserved_memory: vec![MemoryReservation {
            numa_node: 0,
            limits: [("memory".to_owned(), "1Gi".to_owned())].into(),
        }],
        kube_reserved: [("memory".to_owned(), "924Mi".to_owned())].into(),
        ..Default::default()
    };
    Memory::new(&config, dir, &Arc::new(Machine::fake(2, 1, 4, 1))).unwrap()
}

fn pod(uid: &str, inits: &[u64], memory: u64) -> Pod {
    let container = |name: String, gib: u64| json!({"name": name, "resources": {"limits": {"cpu": "1", "memory": format!("{gib}Gi")}}});
    let inits: Vec<_> = inits.iter().enumerate().map(|(at, gib)| container(format!("i{at}"), *gib)).collect();
    serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {
        "initContainers": inits, "containers": [container("c".into(), memory)]}}))
    .unwrap()
}

fn hints(memory: &Memory, gib: u64) -> Vec<(Vec<u32>, bool)> {
    let pod = pod("other", &[], gib);
    let hints = memory.hints(&pod, &pod.pod_spec().containers[0]);
    let hints = hints["memory"].clone().unwrap();
    hints.iter().map(|hint| (hint.mask.unwrap().nodes().collect(), hint.preferred)).collect()
}

fn allocate(memory: &Memory, pod: &Pod, hint: Option<Hint>) -> Result<(), String> {
    let spec = pod.pod_spec();
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers
        .try_for_each(|container| memory.allocate(pod, container, hint))
        .map_err(|refused| refused.message)
}

#[test]
fn a_node_gives_alone_or_with_the_same_others() {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory(dir.path());
    assert_eq!(hints(&memory, 10), [(vec![0], true), (vec![1], true), (vec![0, 1], false)]);
    assert_eq!(hints(&memory, 16), [(vec![1], true), (vec![0, 1], false)]);
    assert_eq!(hints(&memory, 20), [(vec![0, 1], true)]);
    assert_eq!(hints(&memory, 40), []);
    let small = pod("a", &[], 10);
    allocate(&memory, &small, None).unwrap();
    assert_eq!(memory.list("a", "c").as_deref(), Some("0"));
    assert_eq!(hints(&memory, 10), [(vec![1], true)]);
    assert_eq!(hints(&memory, 20), []);
    let large = pod("b", &[], 20);
    assert!(allocate(&memory, &large, None).unwrap_err().contains("no NUMA nodes with enough memory"));
    memory.release("a");
    allocate(&memory, &large, None).unwrap();
    assert_eq!(memory.list("b", "c").as_deref(), Some("0-1"));
    assert_eq!(hints(&memory, 10), [(vec![0, 1], false)]);
}

#[test]
fn a_hint_that_does_not_do_is_made_larger() {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory(dir.path());
    let hint = |preferred| Some(Hint { mask: Some(Mask::of([0])), preferred });
    allocate(&memory, &pod("a", &[], 16), hint(false)).unwrap();
    assert_eq!(memory.list("a", "c").as_deref(), Some("0-1"));
    memory.release("a");
    assert!(allocate(&memory, &pod("a", &[], 16), hint(true)).is_err());
}

#[test]
fn init_containers_leave_theirs_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let memory = memory(dir.path());
    let pod = pod("a", &[4, 6], 5);
    allocate(&memory, &pod, None).unwrap();
    let sizes = |name: &str| memory.blocks("a", name).iter().map(|(.., size)| size / GI).sum::<u64>();
    assert_eq!((sizes("i0"), sizes("i1"), sizes("c")), (0, 1, 5));
    assert_eq!(memory.given.lock().nodes[&0].memory_map["memory"].reserved, 6 * GI);
}

#[test]
fn what_is_given_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let first = memory(dir.path());
    allocate(&first, &pod("a", &[], 10), None).unwrap();
    let again = memory(dir.path());
    assert_eq!(again.list("a", "c").as_deref(), Some("0"));
    assert_eq!(again.given.lock().nodes, first.given.lock().nodes);
    again.release("a");
    assert!(memory(dir.path()).pods().is_empty());
}

#[test]
fn what_is_kept_has_to_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Arc::new(Machine::fake(1, 1, 4, 1));
    let check = |amount: &str, node: u32, expected: Option<&str>| {
        let limits = [("memory".to_owned(), amount.to_owned())].into();
        let config = KubeletConfiguration {
            memory_manager_policy: "Static".into(),
            reserved_memory: vec![MemoryReservation { numa_node: node, limits }],
            ..Default::default()
        };
        let error = Memory::new(&config, dir.path(), &machine).err();
        assert_eq!(error.is_some(), expected.is_some(), "{amount}: {error:?}");
        assert!(error.unwrap_or_default().contains(expected.unwrap_or_default()));
    };
    check("100Mi", 0, None);
    check("1Gi", 0, Some("is not equal to the value"));
    check("0", 0, Some("system reserved memory"));
    check("100Mi", 7, Some("NUMA node 7"));
}
