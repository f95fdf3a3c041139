//! The state machine against a simulated runtime and clock.

mod ending;
mod resize;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::machine::{Action, Failure, Input, Machine, Stage, StartFailure};
use super::probed::Kind;
use super::status::{NodeFacts, status};
use crate::cri::view::{Container, PodView, Sandbox, State};
use crate::probe::Unsuccessful;

/// Does at once what the machine asks for, and notes it in short words.
struct Sim {
    machine: Machine,
    now: Timestamp,
    last: PodStatus,
    log: Vec<String>,
    /// Messages of events.
    told: Vec<String>,
    /// Exit codes of containers that end as soon as they start, by name; used up one by one.
    exits: HashMap<String, VecDeque<i32>>,
    missing_images: Vec<String>,
    /// Actions that are left unanswered, by their first word.
    held: Vec<&'static str>,
    sandboxes: u32,
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn plain(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]})
}

impl Sim {
    fn new(spec: Value) -> Self {
        Self::adopting(pod(spec), PodView::default())
    }

    fn adopting(pod: Pod, view: PodView) -> Self {
        let now = Timestamp::from_second(1_000_000).unwrap();
        Self {
            last: pod.status.clone().unwrap_or_default(),
            machine: Machine::new(Arc::new(pod), view, now),
            now,
            log: Vec::new(),
            told: Vec::new(),
            exits: HashMap::new(),
            missing_images: Vec::new(),
            held: Vec::new(),
            sandboxes: 0,
        }
    }

    fn exits(mut self, name: &str, codes: &[i32]) -> Self {
        self.exits.insert(name.into(), codes.iter().copied().collect());
        self
    }

    fn holding(mut self, actions: &[&'static str]) -> Self {
        self.held = actions.to_vec();
        self
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in self.machine.step(input, self.now) {
                inputs.extend(self.perform(action));
            }
            let facts = NodeFacts {
                devices: Default::default(),
                ips: vec!["10.0.0.1".parse().unwrap()],
                runtime: "r".into(),
                recursive_read_only: false,
            };
            self.last = status(&self.machine, &self.last, &facts, self.now);
        }
    }

    fn tick(&mut self) {
        self.input(Input::Tick);
    }

    /// Lets time pass, waking the machine whenever it wants.
    fn pass(&mut self, seconds: i64) {
        let end = self.now + SignedDuration::from_secs(seconds);
        while let Some(at) = self.machine.wake(self.now).filter(|at| *at <= end) {
            self.now = at;
            self.tick();
        }
        self.now = end;
        self.tick();
    }

    fn container(&self, name: &str, attempt: u32, state: State, exit_code: i32) -> Container {
        Container {
            id: format!("{name}-{attempt}"),
            sandbox_id: self.machine.sandbox().map(|s| s.id.clone()).unwrap_or_default(),
            name: name.into(),
            restart_count: attempt,
            state,
            created_at: self.now,
            started_at: Some(self.now),
            finished_at: (state == State::Exited).then_some(self.now),
            exit_code,
            reason: String::new(),
            message: String::new(),
            image: "i".into(),
            image_id: "sha".into(),
            images: Default::default(),
            log_path: String::new(),
            message_file: None,
            message_policy: String::new(),
            user: None,
            resources: None,
            stop_signal: None,
        }
    }

    fn ends(&mut self, name: &str, exit_code: i32) {
        let slot = self.machine.slots.iter().find(|slot| slot.name == name).unwrap();
        let attempt = slot.current.as_ref().unwrap().restart_count;
        let mut view = PodView::default();
        let ended = self.container(name, attempt, State::Exited, exit_code);
        view.containers.insert(ended.id.clone(), ended);
        self.input(Input::Runtime(view));
    }

    fn probe(&mut self, name: &str, kind: Kind, ok: bool) {
        let slot = self.machine.slots.iter().find(|slot| slot.name == name).unwrap();
        let id = slot.current.as_ref().unwrap().id.clone();
        let result = if ok { Ok(None) } else { Err(Unsuccessful::Failed("no".into())) };
        self.input(Input::Probed { name: name.into(), id, kind, result });
    }

    fn delete(&mut self, grace: i64) {
        let mut pod = (*self.machine.pod).clone();
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            self.now + SignedDuration::from_secs(grace),
        ));
        pod.metadata.deletion_grace_period_seconds = Some(grace);
        self.input(Input::Desired(Arc::new(pod)));
    }

    fn perform(&mut self, action: Action) -> Option<Input> {
        let (word, input) = match action {
            Action::MountVolumes => ("mount".to_owned(), Some(Input::Volumes(Ok(())))),
            Action::RunSandbox { attempt, .. } => {
                self.sandboxes += 1;
                let sandbox = Sandbox {
                    id: format!("s{attempt}"),
                    attempt,
                    ready: true,
                    created_at: self.now,
                    ips: vec!["10.244.0.2".into()],
                };
                (format!("sandbox {attempt}"), Some(Input::Sandbox(Ok(sandbox))))
            }
            Action::EnsureImage { name } => {
                let result = if self.missing_images.contains(&name) {
                    Err(Failure { reason: "ErrImagePull".into(), message: "not there".into() })
                } else {
                    Ok("sha".to_owned())
                };
                (format!("image {name}"), Some(Input::Image { name, result }))
            }
            Action::CancelImage { name } => (format!("cancel {name}"), None),
            Action::Start { name, attempt, .. } => {
                let exit = self.exits.get_mut(&name).and_then(VecDeque::pop_front);
                let container = match exit {
                    Some(code) => self.container(&name, attempt, State::Exited, code),
                    None => self.container(&name, attempt, State::Running, 0),
                };
                let word = format!("start {name} {attempt}");
                (word, Some(Input::Started { name, result: Ok(container) }))
            }
            Action::PostStart { name, .. } => {
                (format!("hook {name}"), Some(Input::Hooked { name, result: Ok(()) }))
            }
            Action::Stop { name, grace, id, .. } => {
                let word = format!("stop {name} {grace}");
                let attempt = id.rsplit('-').next().unwrap().parse().unwrap();
                let container = self.container(&name, attempt, State::Exited, 143);
                (word, Some(Input::Stopped { name, result: Ok(Some(container)) }))
            }
            Action::Resize { name, .. } => {
                let slot = self.machine.slots.iter().find(|slot| slot.name == name).unwrap();
                let resources = slot.spec.resources.clone().unwrap_or_default();
                (format!("resize {name}"), Some(Input::Resized { name, result: Ok(resources) }))
            }
            Action::ResizePod => ("resize pod".into(), None),
            Action::Probe { name, kind, .. } => (format!("probe {name} {kind:?}"), None),
            Action::EndProbes { .. } => return None,
            Action::Event { message, .. } => {
                self.told.push(message);
                return None;
            }
            Action::TearDown { remove, .. } => (format!("teardown {remove}"), Some(Input::TornDown(Ok(())))),
            Action::Finalize => ("finalize".into(), None),
            Action::End => ("end".into(), None),
        };
        let held = self.held.iter().any(|held| word.starts_with(held));
        self.log.push(word);
        input.filter(|_| !held)
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn phase(&self) -> &str {
        self.last.phase.as_deref().unwrap()
    }

    fn condition(&self, name: &str) -> &str {
        let mut conditions = self.last.conditions.iter().flatten();
        &conditions.find(|condition| condition.type_ == name).unwrap().status
    }

    fn waiting(&self) -> Option<&str> {
        let statuses = self.last.container_statuses.as_ref().unwrap();
        statuses[0].state.as_ref().unwrap().waiting.as_ref()?.reason.as_deref()
    }
}

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

#[derive(Clone, Debug)]
enum Happening {
    Ends(usize, i32),
    Pass(i64),
    Probe(usize, Kind, bool),
    SandboxDies,
    Objects,
    Delete(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (0..4_usize, 0..2_i32).prop_map(|(slot, code)| Happening::Ends(slot, code)),
        (1..400_i64).prop_map(Happening::Pass),
        (
            0..4_usize,
            prop_oneof![Just(Kind::Startup), Just(Kind::Liveness), Just(Kind::Readiness)],
            any::<bool>()
        )
            .prop_map(|(slot, kind, ok)| Happening::Probe(slot, kind, ok)),
        Just(Happening::SandboxDies),
        Just(Happening::Objects),
        (0..60_i64).prop_map(Happening::Delete),
    ]
}

fn any_spec() -> impl Strategy<Value = Value> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    (policy, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(policy, init, sidecar, probes)| {
        let probe = if probes { json!({"exec": {"command": ["x"]}}) } else { Value::Null };
        let mut inits = Vec::new();
        if init {
            inits.push(json!({"name": "init"}));
        }
        if sidecar {
            inits.push(json!({"name": "sidecar", "restartPolicy": "Always", "startupProbe": probe}));
        }
        json!({"restartPolicy": policy, "initContainers": inits, "containers": [
            {"name": "a", "livenessProbe": probe, "readinessProbe": probe}, {"name": "b"}]})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens: counts only grow, nothing starts after the end has begun, and a deleted pod goes.
    #[test]
    fn invariants(spec in any_spec(), happenings in prop::collection::vec(happening(), 0..25)) {
        let mut sim = Sim::new(spec);
        sim.tick();
        let mut attempts: HashMap<String, i64> = HashMap::new();
        let mut deleted = false;
        // The first is harmless: what the start itself did is looked at with it.
        for happening in std::iter::once(Happening::Objects).chain(happenings) {
            match happening {
                Happening::Ends(index, code) => {
                    let slot = sim.machine.slots.get(index).filter(|slot| slot.running());
                    if let Some(name) = slot.map(|slot| slot.name.clone()) {
                        sim.ends(&name, code);
                    }
                }
                Happening::Pass(seconds) => sim.pass(seconds),
                Happening::Probe(index, kind, ok) => {
                    let slot = sim.machine.slots.get(index).filter(|slot| slot.running());
                    if let Some(name) = slot.map(|slot| slot.name.clone()) {
                        sim.probe(&name, kind, ok);
                    }
                }
                Happening::SandboxDies => {
                    if let Some(mut sandbox) = sim.machine.sandbox().cloned() {
                        sandbox.ready = false;
                        let mut view = PodView::default();
                        view.sandboxes.insert(sandbox.id.clone(), sandbox);
                        sim.input(Input::Runtime(view));
                    }
                }
                Happening::Objects => sim.input(Input::Objects),
                Happening::Delete(grace) => {
                    deleted = true;
                    sim.delete(grace);
                }
            }
            for word in sim.take() {
                if let Some((name, attempt)) = word.strip_prefix("start ").and_then(|rest| rest.split_once(' ')) {
                    prop_assert!(!deleted, "{word} after the deletion");
                    let attempt: i64 = attempt.parse().unwrap();
                    let before = attempts.insert(name.to_owned(), attempt).unwrap_or(-1);
                    prop_assert!(attempt > before, "{word} after attempt {before}");
                }
            }
            let main_ran = sim.machine.slots.iter().any(|slot| !slot.is_init() && slot.running());
            prop_assert!(!main_ran || sim.machine.initialized, "a container runs before initialization");
            prop_assert!(sim.machine.wake(sim.now).is_none_or(|at| at > sim.now));
        }
        sim.delete(0);
        prop_assert_eq!(sim.machine.stage, Stage::Removed);
        prop_assert!(!sim.machine.slots.iter().any(|slot| slot.running()));
    }
}
