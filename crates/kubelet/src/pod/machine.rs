//! The state machine of one pod: what has happened goes in, what is to be done comes out.
//!
//! [`Machine::step`] takes one [`Input`] and the time and returns [`Action`]s. It does no IO and reads no clock,
//! so tests drive it through years in microseconds. It is level-triggered inside: an input only updates what is
//! known, then [`super::plan`] compares that with what should be and starts whatever is missing and not under
//! way. So the order in which news comes does not matter, nor does news told twice, and a restarted kubelet only
//! has to tell what it finds.
//!
//! The pod's life is [`Stage`]; each container's is in its [`Slot`].

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::allocation::Pending;
use super::backoff::Backoff;
use super::ext::PodExt;
pub use super::messages::{Action, Failure, Input, StartFailure};
use super::probed::Kind;
use super::slot::{self, Hold, Op, Restart, Slot};
use crate::cri::view::{Container, PodView, Sandbox, State};
use crate::probe::{Unsuccessful, Warning};

/// Where the pod is in its life on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its containers are to run.
    Active,
    /// Its containers are to end.
    Stopping,
    TearingDown {
        remove: bool,
    },
    /// Nothing runs. Dead containers stay for their logs until the pod is deleted.
    Stopped,
    /// Nothing is left on the node.
    Removed,
}

/// Something of the pod as a whole that has to be done once, and again after failing.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    Todo,
    Doing,
    Done,
    Again { at: Timestamp, delay: SignedDuration },
}

impl Work {
    /// Failed at `now`: wait, each time twice as long, half a minute at most.
    fn failed(&self, previous: SignedDuration, now: Timestamp) -> Work {
        let delay = (previous * 2).clamp(SignedDuration::from_millis(500), SignedDuration::from_secs(30));
        Work::Again { at: now.checked_add(delay).unwrap_or(now), delay }
    }

    pub fn due(&self, now: Timestamp) -> bool {
        match self {
            Work::Todo => true,
            Work::Again { at, .. } => *at <= now,
            Work::Doing | Work::Done => false,
        }
    }
}

/// Why a pod ended that did not end by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    pub reason: String,
    pub message: String,
    pub grace: Option<i64>,
}

pub struct Machine {
    pub pod: Arc<Pod>,
    pub stage: Stage,
    pub view: PodView,
    pub slots: Vec<Slot>,
    /// All init containers have done their work in the current sandbox.
    pub initialized: bool,
    pub gone: bool,
    pub failed: Option<Failed>,
    /// A container has ended whose rule has all of them start anew: they are being stopped.
    pub restarting_all: bool,
    /// Why it does not have the resources that it asks for.
    pub pending: Option<Pending>,
    pub(super) pod_resources_changed: bool,
    /// It has been told that containers are being resized, and not that they have been.
    pub(super) resizing: bool,
    pub start_time: Timestamp,
    /// When its containers were first to end.
    pub(super) stopping_since: Option<Timestamp>,
    pub(super) volumes: Work,
    pub(super) sandbox: Work,
    pub(super) teardown: Work,
    /// Delays of the last failures, for the next ones.
    volumes_delay: SignedDuration,
    sandbox_delay: SignedDuration,
    teardown_delay: SignedDuration,
}

impl Machine {
    /// A pod that is new to this process; `view` is what the runtime has of it already.
    pub fn new(pod: Arc<Pod>, view: PodView, now: Timestamp) -> Self {
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
        let start_time = started.map_or(now, |time| time.0);
        let terminal = matches!(pod.phase(), "Succeeded" | "Failed");
        let mut machine = Self {
            stage: if terminal { Stage::Stopping } else { Stage::Active },
            slots: slot::of(&pod, Vec::new()),
            pod,
            view,
            initialized: false,
            gone: false,
            failed: None,
            restarting_all: false,
            pending: None,
            pod_resources_changed: false,
            resizing: false,
            start_time,
            stopping_since: None,
            volumes: Work::Todo,
            sandbox: Work::Todo,
            teardown: Work::Todo,
            volumes_delay: SignedDuration::ZERO,
            sandbox_delay: SignedDuration::ZERO,
            teardown_delay: SignedDuration::ZERO,
        };
        machine.refresh();
        // Ordinary containers are only ever started after initialization.
        machine.initialized = machine
            .slots
            .iter()
            .any(|slot| !slot.is_init() && slot.role != slot::Role::Ephemeral && slot.current.is_some());
        machine
    }

    /// Restarts wait no longer than this.
    pub fn limit_backoff(&mut self, longest: SignedDuration) {
        for slot in &mut self.slots {
            slot.crash = Backoff::up_to(longest);
        }
    }

    /// Takes in what has happened and answers with what is to be done.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        self.learn(input, now, &mut actions);
        self.refresh();
        self.plan(now, &mut actions);
        actions
    }

    fn learn(&mut self, input: Input, now: Timestamp, actions: &mut Vec<Action>) {
        match input {
            Input::Desired(pod) => self.desired(pod, now),
            Input::Gone => self.gone = true,
            Input::ResizePending(pending) => self.resize_pending(pending, actions),
            Input::Runtime(view) => self.view.merge(view),
            Input::Missing(ids) => self.view.lost(&ids, now),
            Input::Objects => self.objects_changed(now),
            Input::Kill { reason, message, grace } => {
                self.failed.get_or_insert(Failed { reason, message, grace });
            }
            Input::Volumes(result) => self.volumes_mounted(result, now, actions),
            Input::Sandbox(result) => self.sandbox_ran(result, now, actions),
            Input::Image { name, result } => self.image(&name, result, now, actions),
            Input::Started { name, result } => self.container_started(&name, result, now, actions),
            Input::Hooked { name, result } => self.hooked(&name, result, actions),
            Input::Stopped { name, result } => self.container_stopped(&name, result, now),
            Input::Resized { name, result } => self.resized(&name, result, now, actions),
            Input::TornDown(result) => self.torn_down(result, now, actions),
            Input::Probed { name, id, kind, result } => self.probed(&name, &id, kind, result, actions),
            Input::Tick => {}
        }
    }

    fn desired(&mut self, pod: Arc<Pod>, now: Timestamp) {
        let (before, after) = (&self.pod.metadata, &pod.metadata);
        if before.labels != after.labels || before.annotations != after.annotations {
            // A path or a variable may be made of them.
            self.objects_changed(now);
        }
        let old = std::mem::take(&mut self.slots);
        let images: Vec<(String, Option<String>)> =
            old.iter().map(|slot| (slot.name.clone(), slot.spec.image.clone())).collect();
        self.slots = slot::of(&pod, old);
        let grace = pod.grace();
        for slot in &mut self.slots {
            let before = images.iter().find(|(name, _)| *name == slot.name);
            let changed = before.is_some_and(|(_, image)| *image != slot.spec.image);
            if !changed {
                continue;
            }
            // What was being waited for is not what is wanted any more.
            slot.hold = None;
            slot.image = None;
            slot.crash.reset();
            slot.pull.reset();
            if let Some(current) = slot.current.as_ref().filter(|c| c.state != State::Exited) {
                slot.restart = Some(Restart {
                    id: current.id.clone(),
                    message: format!("Container {} definition changed, will be restarted", slot.name),
                    grace,
                });
            }
        }
        self.pod_resources_changed |= self.pod.pod_spec().resources != pod.pod_spec().resources;
        self.pod = pod;
    }

    fn resize_pending(&mut self, pending: Option<Pending>, actions: &mut Vec<Action>) {
        if let Some(why) = pending.as_ref().filter(|_| pending != self.pending) {
            let reason = if why.reason == "Deferred" { "ResizeDeferred" } else { "ResizeInfeasible" };
            actions.push(warning(reason, format!("Pod resize {}: {}", why.reason, why.wanted), None));
        }
        self.pending = pending;
    }

    /// What failed for want of an object may succeed now.
    fn objects_changed(&mut self, now: Timestamp) {
        if let Work::Again { at, .. } = &mut self.volumes {
            *at = now;
        }
        for slot in &mut self.slots {
            if slot.hold.as_ref().is_some_and(|hold| hold.reason == "CreateContainerConfigError") {
                slot.hold = None;
            }
        }
    }

    fn volumes_mounted(&mut self, result: Result<(), Failure>, now: Timestamp, actions: &mut Vec<Action>) {
        match result {
            Ok(()) => self.volumes = Work::Done,
            Err(failure) => {
                self.volumes = self.volumes.failed(self.volumes_delay, now);
                if let Work::Again { delay, .. } = self.volumes {
                    self.volumes_delay = delay;
                }
                let reason = match failure.reason.as_str() {
                    "FailedPrepareDynamicResources" => "FailedPrepareDynamicResources",
                    _ => "FailedMount",
                };
                actions.push(warning(reason, failure.message, None));
            }
        }
    }

    fn sandbox_ran(&mut self, result: Result<Sandbox, Failure>, now: Timestamp, actions: &mut Vec<Action>) {
        match result {
            Ok(sandbox) => {
                self.sandbox = Work::Done;
                self.sandbox_delay = SignedDuration::ZERO;
                self.initialized = false;
                // What ran in the old one was stopped with it.
                let old = |container: &&mut Container| container.sandbox_id != sandbox.id;
                for container in self.view.containers.values_mut().filter(old) {
                    if container.state != State::Exited {
                        container.end_unseen(now);
                    }
                }
                let mut news = PodView::default();
                news.sandboxes.insert(sandbox.id.clone(), sandbox);
                self.view.merge(news);
            }
            Err(failure) => {
                self.sandbox = self.sandbox.failed(self.sandbox_delay, now);
                if let Work::Again { delay, .. } = self.sandbox {
                    self.sandbox_delay = delay;
                }
                let message = format!("Failed to create pod sandbox: {}", failure.message);
                actions.push(warning("FailedCreatePodSandBox", message, None));
            }
        }
    }

    fn image(
        &mut self,
        name: &str,
        result: Result<String, Failure>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name) else {
            return;
        };
        if slot.op != Op::Pulling {
            return;
        }
        slot.op = Op::Idle;
        match result {
            Ok(image) => {
                slot.image = Some(image);
                slot.hold = None;
                slot.pull.reset();
            }
            Err(failure) => {
                let delay = slot.pull.next(now, now);
                actions.push(warning("Failed", format!("Error: {}", failure.reason), Some(name)));
                slot.hold = Some(Hold {
                    reason: failure.reason,
                    message: failure.message,
                    until: now.checked_add(delay).unwrap_or(now),
                    since: now,
                });
            }
        }
    }

    fn container_started(
        &mut self,
        name: &str,
        result: Result<Container, StartFailure>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name) else {
            return;
        };
        slot.op = Op::Idle;
        let container = match result {
            Ok(container) => {
                slot.hold = None;
                let hook = slot.spec.lifecycle.as_ref();
                if hook.is_some_and(|lifecycle| lifecycle.post_start.is_some())
                    && container.state == State::Running
                {
                    slot.op = Op::Hook;
                    actions.push(Action::PostStart { name: name.to_owned(), id: container.id.clone() });
                }
                Some(container)
            }
            Err(failure) => {
                // A missing ConfigMap clears the hold when it appears; other causes are tried again.
                let delay = SignedDuration::from_secs(10);
                actions.push(warning("Failed", format!("Error: {}", failure.message), Some(name)));
                slot.hold = Some(Hold {
                    reason: failure.reason,
                    message: failure.message,
                    until: now.checked_add(delay).unwrap_or(now),
                    since: now,
                });
                failure.container
            }
        };
        if let Some(container) = container {
            self.know(container);
        }
    }

    fn hooked(&mut self, name: &str, result: Result<(), String>, actions: &mut Vec<Action>) {
        let grace = self.pod.grace();
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name) else {
            return;
        };
        if slot.op == Op::Hook {
            slot.op = Op::Idle;
        }
        if let Err(message) = result {
            actions.push(warning("FailedPostStartHook", message, Some(name)));
            if let Some(current) = slot.current.as_ref() {
                slot.restart =
                    Some(Restart { id: current.id.clone(), message: "FailedPostStartHook".into(), grace });
            }
        }
    }

    fn container_stopped(&mut self, name: &str, result: Result<Option<Container>, String>, now: Timestamp) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name) else {
            return;
        };
        slot.op = Op::Idle;
        match result {
            Ok(container) => {
                slot.restart = None;
                let lost = slot.current.as_ref().map(|current| current.id.clone());
                match (container, lost) {
                    (Some(container), _) => self.know(container),
                    // The runtime does not know it any more: it has certainly ended.
                    (None, Some(id)) => {
                        if let Some(container) = self.view.containers.get_mut(&id) {
                            container.end_unseen(now);
                        }
                    }
                    (None, None) => {}
                }
            }
            Err(_) => slot.stop_again_at = now.checked_add(SignedDuration::from_secs(1)).ok(),
        }
    }

    fn torn_down(&mut self, result: Result<(), String>, now: Timestamp, actions: &mut Vec<Action>) {
        let Stage::TearingDown { remove } = self.stage else {
            return;
        };
        match result {
            Ok(()) => {
                self.teardown = Work::Todo;
                self.teardown_delay = SignedDuration::ZERO;
                for sandbox in self.view.sandboxes.values_mut() {
                    sandbox.ready = false;
                }
                self.stage = if remove { Stage::Removed } else { Stage::Stopped };
                if remove && !self.gone {
                    actions.push(Action::Finalize);
                }
            }
            Err(message) => {
                self.teardown = self.teardown.failed(self.teardown_delay, now);
                if let Work::Again { delay, .. } = self.teardown {
                    self.teardown_delay = delay;
                }
                actions.push(warning("FailedKillPod", format!("error killing pod: {message}"), None));
            }
        }
    }

    fn probed(
        &mut self,
        name: &str,
        id: &str,
        kind: Kind,
        result: Result<Warning, Unsuccessful>,
        actions: &mut Vec<Action>,
    ) {
        let grace = self.pod.grace();
        let policy = self.pod.restart_policy().to_owned();
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name) else {
            return;
        };
        if slot.probed.id.as_deref() != Some(id) || !slot.running() {
            return;
        }
        let Some(probe) = kind.of(&slot.spec) else {
            return;
        };
        match &result {
            Ok(None) => {}
            Ok(Some(output)) => {
                let message = format!("{} probe warning: {output}", kind.title());
                actions.push(warning("ProbeWarning", message, Some(name)));
            }
            Err(Unsuccessful::Failed(output)) => {
                let message = format!("{} probe failed: {output}", kind.title());
                actions.push(warning("Unhealthy", message, Some(name)));
            }
            // Nothing was learnt of the container.
            Err(Unsuccessful::Errored(error)) => {
                let message =
                    format!("{} probe errored and resulted in unknown state: {error}", kind.title());
                actions.push(warning("Unhealthy", message, Some(name)));
                return;
            }
        }
        match (kind, slot.probed.count(kind, probe, result.is_ok())) {
            (_, None) => {}
            (Kind::Readiness, Some(ready)) => slot.ready = ready && slot.started,
            (Kind::Startup, Some(true)) => slot.started = true,
            (Kind::Liveness, Some(true)) => {}
            (Kind::Startup | Kind::Liveness, Some(false)) => {
                let grace = probe.termination_grace_period_seconds.unwrap_or(grace);
                let then = if slot.may_restart(&policy) { ", will be restarted" } else { "" };
                let message = format!("Container {name} failed {} probe{then}", kind.title().to_lowercase());
                slot.restart.get_or_insert(Restart { id: id.to_owned(), message, grace });
            }
        }
    }

    fn know(&mut self, container: Container) {
        let mut news = PodView::default();
        news.containers.insert(container.id.clone(), container);
        self.view.merge(news);
    }

    /// Brings the slots up to date with the view.
    pub(super) fn refresh(&mut self) {
        let sandbox = self.view.sandbox().map(|sandbox| sandbox.id.clone());
        for slot in &mut self.slots {
            slot.refresh(&self.view, sandbox.as_deref());
            // One that is to end for its failed hook has never been ready.
            let goes_on = slot.restart.is_none();
            if slot.running() && goes_on && matches!(slot.op, Op::Idle | Op::Resizing | Op::Stopping { .. }) {
                slot.started |= slot.spec.startup_probe.is_none();
                slot.ready |= slot.started && slot.spec.readiness_probe.is_none();
            }
        }
    }

    /// The volumes are set up.
    pub fn mounted(&self) -> bool {
        self.volumes == Work::Done
    }

    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.view.sandbox()
    }

    /// Containers that the runtime has been told to forget.
    pub(super) fn forget(&mut self, ids: &[String]) {
        for id in ids {
            self.view.containers.remove(id);
        }
    }
}

pub(super) fn warning(reason: &'static str, message: String, container: Option<&str>) -> Action {
    Action::Event { warning: true, reason, message, container: container.map(str::to_owned) }
}
