//! How containers are ended, and what is told of those that ended unseen.

use super::*;

#[test]
fn sidecars_share_the_grace_period_of_their_pod() {
    let spec =
        json!({"initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    let mut sim = Sim::new(spec.clone()).holding(&["stop"]);
    sim.tick();
    sim.take();
    sim.delete(30);
    assert_eq!(sim.take(), ["stop a 30"]);
    sim.pass(20);
    sim.ends("a", 0);
    assert_eq!(sim.take(), ["stop s 10"], "what is left");
    // One that outlives all of it does not hold up the others.
    let mut sim = Sim::new(spec).holding(&["stop"]);
    sim.tick();
    sim.take();
    sim.delete(30);
    sim.pass(31);
    assert_eq!(sim.take(), ["stop a 30", "stop s 2"]);
}

#[test]
fn what_probes_say_of_containers_that_are_not_run_again() {
    let probe = json!({"exec": {"command": ["x"]}, "failureThreshold": 1});
    let check = |policy: &str, expected: &str| {
        let spec = json!({"restartPolicy": policy, "containers": [{"name": "c", "livenessProbe": probe}]});
        let mut sim = Sim::new(spec);
        sim.tick();
        sim.probe("c", Kind::Liveness, false);
        assert!(sim.told.iter().any(|told| told == expected), "{policy}: {:?}", sim.told);
    };
    check("Always", "Container c failed liveness probe, will be restarted");
    check("Never", "Container c failed liveness probe");
}

#[test]
fn a_probe_that_could_not_be_made_says_nothing() {
    let probe = json!({"exec": {"command": ["x"]}, "failureThreshold": 1});
    let mut sim =
        Sim::new(json!({"containers": [{"name": "c", "livenessProbe": probe, "readinessProbe": probe}]}));
    sim.tick();
    sim.probe("c", Kind::Readiness, true);
    sim.take();
    for kind in [Kind::Liveness, Kind::Readiness] {
        let result = Err(Unsuccessful::Errored("no runtime".into()));
        sim.input(Input::Probed { name: "c".into(), id: "c-0".into(), kind, result });
    }
    assert_eq!(sim.take(), Vec::<String>::new());
    assert_eq!(sim.condition("Ready"), "True");
    assert!(sim.told.contains(&"Readiness probe errored and resulted in unknown state: no runtime".into()));
}

#[test]
fn what_ends_for_its_failed_hook_is_never_ready() {
    let hook = json!({"postStart": {"exec": {"command": ["false"]}}});
    let spec = json!({"containers": [{"name": "c", "lifecycle": hook}]});
    let mut sim = Sim::new(spec).holding(&["hook", "stop"]);
    sim.tick();
    sim.input(Input::Hooked { name: "c".into(), result: Err("no".into()) });
    assert_eq!(sim.take().last().map(String::as_str), Some("stop c 30"));
    assert_eq!((sim.phase(), sim.condition("Ready")), ("Running", "False"));
}

#[test]
fn a_probe_may_warn_and_succeed() {
    let probe = json!({"httpGet": {"port": 1}, "failureThreshold": 1});
    let mut sim = Sim::new(json!({"containers": [{"name": "c", "readinessProbe": probe}]}));
    sim.tick();
    let result = Ok(Some("Probe terminated redirects, Response body: moved".into()));
    sim.input(Input::Probed { name: "c".into(), id: "c-0".into(), kind: Kind::Readiness, result });
    assert_eq!(sim.condition("Ready"), "True");
    let expected = "Readiness probe warning: Probe terminated redirects, Response body: moved";
    assert!(sim.told.iter().any(|told| told == expected), "{:?}", sim.told);
}

#[test]
fn containers_that_never_were_have_failed_with_their_pod() {
    let mut sim = Sim::new(plain("Always")).holding(&["image"]);
    sim.tick();
    sim.delete(30);
    let status = &sim.last.container_statuses.as_ref().unwrap()[0];
    let ended = status.state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    // Of one whose turn had not come, that is not claimed.
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "c"}]});
    let mut sim = Sim::new(spec);
    sim.tick();
    sim.delete(30);
    let states: Vec<bool> = sim
        .last
        .init_container_statuses
        .iter()
        .flatten()
        .map(|status| status.state.as_ref().unwrap().terminated.is_some())
        .collect();
    assert_eq!(states, [true, false]);
    assert_eq!((sim.phase(), sim.waiting()), ("Failed", Some("PodInitializing")));
}

#[test]
fn another_image_begins_without_a_back_off() {
    let mut sim = Sim::new(plain("Always")).exits("c", &[1, 1]);
    sim.tick();
    assert_eq!(sim.waiting(), Some("CrashLoopBackOff"));
    sim.take();
    let mut pod = (*sim.machine.pod).clone();
    pod.spec.as_mut().unwrap().containers[0].image = Some("better".into());
    sim.input(Input::Desired(Arc::new(pod)));
    assert_eq!(sim.take(), ["image c", "start c 2"]);
}

#[test]
fn a_pod_past_its_deadline_has_failed_when_nothing_of_it_runs() {
    let spec = json!({"activeDeadlineSeconds": 60, "containers": [{"name": "c"}]});
    let mut sim = Sim::new(spec).holding(&["stop"]);
    sim.tick();
    sim.pass(61);
    assert_eq!((sim.phase(), sim.last.reason.as_deref()), ("Running", None));
    sim.ends("c", 137);
    assert_eq!((sim.phase(), sim.last.reason.as_deref()), ("Failed", Some("DeadlineExceeded")));
}
