use serde_json::json;

use super::*;

fn pod(uid: &str, containers: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": {"containers": containers}})).unwrap()
}

fn one(uid: &str, cpu: &str) -> Pod {
    pod(uid, json!([{"name": "c", "resources": {"limits": {"cpu": cpu, "memory": "1Gi"}}}]))
}

fn config(options: &[&str]) -> KubeletConfiguration {
    KubeletConfiguration {
        cpu_manager_policy: "static".into(),
        cpu_manager_policy_options: options
            .iter()
            .map(|name| ((*name).to_owned(), "true".to_owned()))
            .collect(),
        reserved_system_cpus: "0".into(),
        ..Default::default()
    }
}

fn cpus(config: &KubeletConfiguration, dir: &Path) -> Cpus {
    Cpus::new(config, dir, Arc::new(Machine::fake(2, 1, 4, 2))).unwrap()
}

#[test]
fn who_gets_some() {
    let check = |resources: serde_json::Value, expected: Option<usize>| {
        let pod = pod("u", json!([{"name": "c", "resources": resources}]));
        assert_eq!(wants(&pod, &pod.pod_spec().containers[0]), expected, "{resources}");
    };
    check(json!({"limits": {"cpu": "2", "memory": "1Gi"}}), Some(2));
    check(json!({"limits": {"cpu": "1500m", "memory": "1Gi"}}), None);
    check(json!({"requests": {"cpu": "2"}}), None);
}

#[test]
fn what_is_given_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (pod, config) = (one("u", "2"), config(&[]));
    let container = &pod.pod_spec().containers[0];
    let first = cpus(&config, dir.path());
    first.allocate(&pod, container, None).unwrap();
    let list = shown(&first.given("u", "c"));
    let again = cpus(&config, dir.path());
    assert_eq!((again.list(&pod, container).unwrap(), again.has_own("u")), (list, true));
    again.allocate(&pod, container, None).unwrap();
    // Another policy shares everything; what was given before is not given back by changing it once more.
    let none = KubeletConfiguration::default();
    assert!(cpus(&none, dir.path()).list(&pod, container).is_none());
    assert!(cpus(&config, dir.path()).given("u", "c").is_empty());
    again.release("u");
    assert!(cpus(&config, dir.path()).given("u", "c").is_empty());
}

#[test]
fn what_is_near() {
    let dir = tempfile::tempdir().unwrap();
    let cpus = cpus(&config(&[]), dir.path());
    let pod = one("u", "4");
    let container = &pod.pod_spec().containers[0];
    let hints = cpus.hints(&pod, container)["cpu"].clone().unwrap();
    let shown_hints: Vec<(Vec<u32>, bool)> =
        hints.iter().map(|hint| (hint.mask.unwrap().nodes().collect(), hint.preferred)).collect();
    assert_eq!(shown_hints, [(vec![0], true), (vec![1], true), (vec![0, 1], false)]);
    cpus.allocate(&pod, container, hints.get(1).copied()).unwrap();
    assert_eq!(shown(&cpus.given("u", "c")), "4-5,12-13");
    // Five are left of that node: the rest comes from the other one.
    let large = one("v", "6");
    let hint = Hint { mask: Some(Mask::of([1])), preferred: false };
    cpus.allocate(&large, &large.pod_spec().containers[0], Some(hint)).unwrap();
    assert_eq!(shown(&cpus.given("v", "c")), "1,6-7,9,14-15");
    let too_large = one("w", "8");
    let refused = cpus.allocate(&too_large, &too_large.pod_spec().containers[0], None).unwrap_err();
    assert_eq!(refused.reason, "UnexpectedAdmissionError");
    assert!(refused.message.contains("requested=8, available=5"), "{}", refused.message);
}

#[test]
fn whole_cores_only() {
    let dir = tempfile::tempdir().unwrap();
    let cpus = cpus(&config(&["full-pcpus-only"]), dir.path());
    let check = |uid: &str, cpu: &str, expected: Result<&str, &str>| {
        let pod = one(uid, cpu);
        let result = cpus.allocate(&pod, &pod.pod_spec().containers[0], None);
        let result = result.map(|()| shown(&cpus.given(uid, "c"))).map_err(|refused| refused.reason);
        assert_eq!(result.as_deref().map_err(String::as_str), expected, "{cpu}");
    };
    check("a", "3", Err("SMTAlignmentError"));
    check("b", "2", Ok("1,9"));
    // The reserved thread's sibling is nobody's.
    check("c", "14", Err("SMTAlignmentError"));
    check("d", "12", Ok("2-7,10-15"));
}

#[test]
fn init_containers_leave_theirs_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let cpus = cpus(&config(&["strict-cpu-reservation"]), dir.path());
    let resources = json!({"limits": {"cpu": "8", "memory": "1Gi"}});
    let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {
        "initContainers": [{"name": "i", "resources": resources}],
        "containers": [{"name": "c", "resources": resources}]}}))
    .unwrap();
    let spec = pod.pod_spec();
    cpus.allocate(&pod, &spec.init_containers.as_ref().unwrap()[0], None).unwrap();
    cpus.allocate(&pod, &spec.containers[0], None).unwrap();
    assert_eq!(cpus.given("u", "i"), cpus.given("u", "c"));
    // Nobody else uses the reserved one.
    assert_eq!(shown(&cpus.shared(&cpus.given.lock())), "1-3,8-11");
}
