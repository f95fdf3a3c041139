//! In-place resize.

use super::*;

/// The pod with another CPU request; `policy` is for CPU.
fn sized(cpu: &str, policy: &str) -> Value {
    json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}},
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}]}]})
}

fn resources(sim: &Sim) -> String {
    let status = &sim.last.container_statuses.as_ref().unwrap()[0];
    let of = |map: Option<
        &std::collections::BTreeMap<_, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    >| { map.map_or_else(String::new, |map| map["cpu"].0.clone()) };
    let applied = of(status.resources.as_ref().unwrap().requests.as_ref());
    format!("{} {applied}", of(status.allocated_resources.as_ref()))
}

fn resizes(sim: &Sim) -> Vec<String> {
    sim.told.iter().filter(|told| told.starts_with("Pod resize")).cloned().collect()
}

#[test]
fn a_resize_is_applied_to_the_running_container() {
    let mut sim = Sim::new(sized("1", "NotRequired")).holding(&["resize"]);
    sim.tick();
    sim.take();
    assert_eq!(resources(&sim), "1 1");
    sim.input(Input::Desired(Arc::new(pod(sized("2", "NotRequired")))));
    assert_eq!(sim.take(), ["resize c"]);
    assert_eq!((resources(&sim).as_str(), sim.condition("PodResizeInProgress")), ("2 1", "True"));
    assert_eq!(sim.condition("Ready"), "True");
    let failed = Err("no".to_owned());
    sim.input(Input::Resized { name: "c".into(), result: failed });
    assert_eq!(sim.take(), Vec::<String>::new(), "it is tried again later");
    sim.held.clear();
    sim.pass(6);
    assert_eq!(sim.take(), ["resize c"]);
    assert_eq!(resources(&sim), "2 2");
    let resources = r#"{"containers":[{"name":"c","resources":{"requests":{"cpu":"2"}}}],"generation":0"#;
    let told = ["started", "error", "completed"].map(|word| format!("Pod resize {word}: {resources}"));
    assert_eq!(
        resizes(&sim),
        [told[0].clone() + "}", told[1].clone() + r#","error":"no"}"#, told[2].clone() + "}"]
    );
    let conditions = sim.last.conditions.as_ref().unwrap();
    assert!(conditions.iter().all(|condition| condition.type_ != "PodResizeInProgress"));
    assert_eq!(sim.last.container_statuses.as_ref().unwrap()[0].restart_count, 0);
}

#[test]
fn a_resize_may_need_a_restart() {
    let mut sim = Sim::new(sized("1", "RestartContainer"));
    sim.tick();
    sim.take();
    sim.input(Input::Desired(Arc::new(pod(sized("2", "RestartContainer")))));
    assert_eq!(sim.take(), ["stop c 30", "image c", "start c 1"]);
    let told = resizes(&sim);
    let words: Vec<&str> = told.iter().filter_map(|told| told.split(' ').nth(2)).collect();
    assert_eq!(words, ["started:", "completed:"], "once, however it is done");
    assert_eq!(resources(&sim), "2 2");
}

#[test]
fn a_resize_that_has_to_wait_is_told() {
    use crate::pod::allocation::Pending;
    let mut sim = Sim::new(sized("1", "NotRequired"));
    sim.tick();
    let pending = Pending { reason: "Deferred", message: "later".into(), wanted: "{}".into() };
    sim.input(Input::ResizePending(Some(pending)));
    assert_eq!(sim.condition("PodResizePending"), "True");
    sim.input(Input::ResizePending(None));
    let conditions = sim.last.conditions.as_ref().unwrap();
    assert!(conditions.iter().all(|condition| condition.type_ != "PodResizePending"));
}
