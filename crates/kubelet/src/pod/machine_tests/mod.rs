//! The state machine against a simulated runtime and clock.

mod anything;
mod ending;
mod resize;
mod sim;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::machine::{Action, Failure, Input, Machine, Stage, StartFailure};
use super::probed::Kind;
use super::status::{NodeFacts, status};
use crate::cri::view::{Container, PodView, Sandbox, State};
use crate::probe::Unsuccessful;
use sim::{Sim, plain, pod};

#[test]
fn a_pod_starts_and_is_deleted() {
    let mut sim = Sim::new(plain("Always"));
    sim.tick();
    assert_eq!(sim.take(), ["mount", "sandbox 0", "image c", "start c 0"]);
    assert_eq!((sim.phase(), sim.condition("Ready")), ("Running", "True"));
    assert_eq!(sim.last.pod_ip.as_deref(), Some("10.244.0.2"));
    sim.delete(30);
    assert_eq!(sim.take(), ["stop c 30", "teardown true", "finalize"]);
    assert_eq!(sim.machine.stage, Stage::Removed);
    assert_eq!(sim.phase(), "Failed", "it was ended by SIGTERM");
    sim.input(Input::Gone);
    assert_eq!(sim.take(), ["end"]);
}

#[test]
fn containers_wait_for_volumes_and_sandbox() {
    let mut sim = Sim::new(plain("Always")).holding(&["mount"]);
    sim.tick();
    assert_eq!(sim.take(), ["mount", "sandbox 0", "image c"]);
    assert_eq!((sim.phase(), sim.waiting()), ("Pending", Some("ContainerCreating")));
    sim.input(Input::Volumes(Ok(())));
    assert_eq!(sim.take(), ["start c 0"]);
}

#[test]
fn init_containers_go_first_one_by_one_and_sidecars_stop_last() {
    let spec = json!({
        "initContainers": [
            {"name": "i1"},
            {"name": "s1", "restartPolicy": "Always"},
            {"name": "s2", "restartPolicy": "Always"},
            {"name": "i2"},
        ],
        "containers": [{"name": "a"}, {"name": "b"}],
    });
    let mut sim = Sim::new(spec).exits("i1", &[0]).exits("i2", &[0]);
    sim.tick();
    let starts: Vec<String> = sim.take().into_iter().filter(|word| word.starts_with("start")).collect();
    assert_eq!(starts, ["start i1 0", "start s1 0", "start s2 0", "start i2 0", "start a 0", "start b 0"]);
    assert_eq!((sim.phase(), sim.condition("Initialized")), ("Running", "True"));
    sim.delete(10);
    assert_eq!(
        sim.take(),
        ["stop b 10", "stop a 10", "stop s2 10", "stop s1 10", "teardown true", "finalize"]
    );
}

#[test]
fn a_failed_init_container_is_retried_or_fails_the_pod() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]});
    let mut sim = Sim::new(spec("Never")).exits("i", &[1]);
    sim.tick();
    assert_eq!(sim.phase(), "Failed");
    assert_eq!(sim.take().last().unwrap(), "teardown false");
    let mut sim = Sim::new(spec("OnFailure")).exits("i", &[1, 0]);
    sim.tick();
    assert_eq!(sim.phase(), "Running");
    assert!(sim.take().contains(&"start i 1".to_owned()));
}

#[test]
fn crashes_back_off() {
    let mut sim = Sim::new(plain("Always")).exits("c", &[1, 1, 1]);
    sim.tick();
    // The first restart is immediate, the second waits 10 s.
    assert_eq!(sim.take(), ["mount", "sandbox 0", "image c", "start c 0", "image c", "start c 1"]);
    assert_eq!((sim.phase(), sim.waiting()), ("Running", Some("CrashLoopBackOff")));
    let status = &sim.last.container_statuses.as_ref().unwrap()[0];
    assert!(status.last_state.as_ref().unwrap().terminated.is_some());
    assert_eq!(status.restart_count, 1);
    sim.pass(9);
    assert_eq!(sim.take(), Vec::<String>::new());
    sim.pass(2);
    assert_eq!(sim.take(), ["image c", "start c 2"]);
    sim.pass(18);
    assert_eq!(sim.take(), Vec::<String>::new());
    sim.pass(2);
    assert_eq!(sim.take(), ["image c", "start c 3"]);
    assert_eq!(sim.condition("Ready"), "True");
}

#[test]
fn restart_policies_end_in_phases() {
    let check = |policy: &str, code: i32, expected: &str| {
        let mut sim = Sim::new(plain(policy)).exits("c", &[code]);
        sim.tick();
        assert_eq!(sim.phase(), expected, "{policy} {code}");
    };
    check("Never", 0, "Succeeded");
    check("Never", 1, "Failed");
    check("OnFailure", 0, "Succeeded");
    check("OnFailure", 1, "Running");
    check("Always", 0, "Running");
}

#[test]
fn rules_restart_by_exit_code() {
    let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": rule}]});
    let mut sim = Sim::new(spec).exits("c", &[42, 1]);
    sim.tick();
    assert_eq!(sim.phase(), "Failed");
    assert!(sim.take().contains(&"start c 1".to_owned()));
}

#[test]
fn a_rule_starts_the_whole_pod_anew() {
    let rule = json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i", "image": "i"}],
        "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i", "restartPolicy": "Never", "restartPolicyRules": rule}]});
    let mut sim = Sim::new(spec).exits("i", &[0, 0]);
    sim.tick();
    assert_eq!(sim.phase(), "Running");
    sim.take();
    sim.ends("b", 42);
    assert_eq!(sim.phase(), "Running", "it goes on, though a never restarts");
    assert_eq!(sim.condition("AllContainersRestarting"), "False");
    let log = sim.take().join(" ");
    let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what} is not in {log}"));
    assert!(place("stop a") < place("start i 1") && place("start i 1") < place("start a 1"), "{log}");
    place("start b 1");
}

#[test]
fn image_failures_become_a_back_off() {
    let mut sim = Sim::new(plain("Always"));
    sim.missing_images.push("c".into());
    sim.tick();
    assert_eq!(sim.waiting(), Some("ErrImagePull"));
    sim.pass(2);
    assert_eq!(sim.waiting(), Some("ImagePullBackOff"));
    sim.missing_images.clear();
    sim.pass(9);
    assert_eq!(sim.phase(), "Running");
}

#[test]
fn probes_decide_readiness_and_life() {
    let probe = json!({"exec": {"command": ["x"]}, "failureThreshold": 1});
    let spec = json!({"containers": [{"name": "c", "readinessProbe": probe, "livenessProbe": probe, "startupProbe": probe}]});
    let mut sim = Sim::new(spec);
    sim.tick();
    assert_eq!(sim.take().last().unwrap(), "probe c Startup");
    assert_eq!(sim.condition("Ready"), "False");
    sim.probe("c", Kind::Startup, true);
    assert_eq!(sim.take(), ["probe c Liveness", "probe c Readiness"]);
    assert_eq!(sim.condition("Ready"), "False");
    sim.probe("c", Kind::Readiness, true);
    assert_eq!(sim.condition("Ready"), "True");
    sim.probe("c", Kind::Readiness, false);
    assert_eq!(sim.condition("Ready"), "False");
    sim.probe("c", Kind::Liveness, false);
    assert_eq!(sim.take(), ["stop c 30", "image c", "start c 1", "probe c Startup"]);
}

#[test]
fn a_pod_deleted_while_it_starts_leaves_nothing() {
    let mut sim = Sim::new(plain("Always")).holding(&["sandbox", "image"]);
    sim.tick();
    sim.take();
    sim.delete(30);
    assert_eq!(sim.take(), ["cancel c"], "the sandbox is still being made");
    let sandbox = Sandbox { id: "s0".into(), attempt: 0, ready: true, created_at: sim.now, ips: Vec::new() };
    sim.input(Input::Sandbox(Ok(sandbox)));
    assert_eq!(sim.take(), ["teardown true", "finalize"]);
    assert_eq!(sim.phase(), "Failed", "as every deleted pod that did not succeed");
}

#[test]
fn a_shorter_grace_period_stops_again() {
    let mut sim = Sim::new(plain("Always")).holding(&["stop"]);
    sim.tick();
    sim.take();
    sim.delete(30);
    sim.delete(5);
    sim.delete(20);
    assert_eq!(sim.take(), ["stop c 30", "stop c 5"]);
}

#[test]
fn a_deadline_fails_the_pod() {
    let mut sim = Sim::new(json!({"activeDeadlineSeconds": 60, "containers": [{"name": "c"}]}));
    sim.tick();
    sim.take();
    sim.pass(61);
    assert_eq!(sim.take(), ["stop c 30", "teardown false"]);
    assert_eq!((sim.phase(), sim.last.reason.as_deref()), ("Failed", Some("DeadlineExceeded")));
}

#[test]
fn a_dead_sandbox_is_replaced() {
    let mut sim = Sim::new(plain("Always"));
    sim.tick();
    sim.take();
    let mut view = PodView::default();
    let mut sandbox = sim.machine.sandbox().unwrap().clone();
    sandbox.ready = false;
    view.sandboxes.insert(sandbox.id.clone(), sandbox);
    sim.input(Input::Runtime(view));
    assert_eq!(sim.take(), ["sandbox 1", "image c", "start c 1"]);
    assert_eq!(sim.condition("Ready"), "True");
}

#[test]
fn what_others_removed_is_made_again() {
    let mut sim = Sim::new(plain("Always"));
    sim.tick();
    sim.take();
    sim.input(Input::Missing(vec!["s0".into(), "c-0".into()]));
    assert_eq!(sim.take(), ["sandbox 1", "image c", "start c 1"]);
    let status = &sim.last.container_statuses.as_ref().unwrap()[0];
    let ended = status.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}

#[test]
fn what_runs_is_adopted_without_a_restart() {
    let mut first = Sim::new(plain("Always")).exits("c", &[1]);
    first.tick();
    assert_eq!(first.last.container_statuses.as_ref().unwrap()[0].restart_count, 1);
    let mut pod = (*first.machine.pod).clone();
    pod.status = Some(first.last.clone());
    let mut second = Sim::adopting(pod, first.machine.view.clone());
    second.tick();
    assert_eq!(second.take(), ["mount"]);
    assert_eq!(second.last, first.last);
}

#[test]
fn a_finished_pod_stays_finished_after_a_restart_of_the_kubelet() {
    let mut first = Sim::new(plain("Never")).exits("c", &[0]);
    first.tick();
    let mut pod = (*first.machine.pod).clone();
    pod.status = Some(first.last.clone());
    let mut second = Sim::adopting(pod, PodView::default());
    second.tick();
    assert_eq!(second.take(), ["teardown false"]);
    assert_eq!(second.phase(), "Succeeded");
}

#[test]
fn a_missing_object_holds_the_container_until_it_appears() {
    let mut sim = Sim::new(plain("Always")).holding(&["start"]);
    sim.tick();
    let result = Err(StartFailure {
        reason: "CreateContainerConfigError".into(),
        message: "configmap \"x\" not found".into(),
        container: None,
    });
    sim.input(Input::Started { name: "c".into(), result });
    assert_eq!(sim.waiting(), Some("CreateContainerConfigError"));
    sim.take();
    sim.input(Input::Objects);
    assert_eq!(sim.take(), ["image c", "start c 0"]);
}

#[test]
fn a_rejected_pod_never_starts() {
    let mut sim = Sim::new(plain("Always"));
    sim.input(Input::Kill { reason: "OutOfcpu".into(), message: "too big".into(), grace: None });
    assert_eq!(sim.take(), ["teardown false"]);
    assert_eq!((sim.phase(), sim.last.reason.as_deref()), ("Failed", Some("OutOfcpu")));
    sim.delete(0);
    assert_eq!(sim.take(), ["teardown true", "finalize"]);
}
