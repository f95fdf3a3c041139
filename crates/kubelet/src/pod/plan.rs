//! What a pod needs next: the deciding half of [`Machine`].
//!
//! Called after every input with everything known up to date. Idempotent: what is under way is not started again.

use jiff::{SignedDuration, Timestamp};

use super::ext::PodExt;
use super::machine::{Action, Failed, Machine, Stage, Work, warning};
use super::probed::{Kind, Probed};
use super::slot::{Hold, Op, Role, Slot};
use crate::cri::view::State;

/// Nobody is killed without a moment to say goodbye.
const LEAST_GRACE: i64 = 2;
/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(1);

impl Machine {
    pub(super) fn plan(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.stage == Stage::Active && self.ends(now, actions) {
            self.stage = Stage::Stopping;
        }
        if self.stage == Stage::Stopping {
            self.stopping_since.get_or_insert(now);
        }
        match self.stage {
            Stage::Active => {
                self.plan_setup(now, actions);
                self.plan_restart_of_all(now, actions);
                self.plan_resizes(now, actions);
                self.plan_restarts(now, actions);
                if !self.restarting_all {
                    self.plan_starts(now, actions);
                }
                self.plan_probes(actions);
            }
            Stage::Stopping => {
                self.plan_stop(now, actions);
                self.plan_probes(actions);
            }
            Stage::TearingDown { .. } => {}
            Stage::Stopped => {}
            Stage::Removed => {}
        }
        self.plan_teardown(now, actions);
    }

    pub fn deleted(&self) -> bool {
        self.gone || self.pod.deletion().is_some()
    }

    /// Whether the pod's containers are to run no more.
    fn ends(&mut self, now: Timestamp, actions: &mut Vec<Action>) -> bool {
        if self.failed.is_none()
            && let Some(deadline) = self.deadline()
            && deadline <= now
        {
            let message = "Pod was active on the node longer than the specified deadline";
            self.failed =
                Some(Failed { reason: "DeadlineExceeded".into(), message: message.into(), grace: None });
            actions.push(Action::Event {
                warning: false,
                reason: "DeadlineExceeded",
                message: message.into(),
                container: None,
            });
        }
        self.deleted() || self.failed.is_some() || self.completed()
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.pod.pod_spec().active_deadline_seconds?;
        self.start_time.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Its containers have done what they were to do, or cannot.
    pub fn completed(&self) -> bool {
        let policy = self.pod.restart_policy();
        let idle = |slot: &Slot| matches!(slot.op, Op::Idle);
        let init_failed = !self.initialized
            && self.slots.iter().any(|slot| {
                slot.role == Role::Init
                    && idle(slot)
                    && slot.exited().is_some_and(|ended| ended.exit_code != 0)
                    && !slot.restarts(policy)
            });
        let mut main = self.slots.iter().filter(|slot| slot.role == Role::Main).peekable();
        if self.restarting_all || self.slots.iter().any(Slot::restarts_all) {
            return false;
        }
        init_failed
            || (main.peek().is_some()
                && main.all(|slot| idle(slot) && slot.exited().is_some() && !slot.restarts(policy)))
    }

    fn sandbox_ready(&self) -> bool {
        self.sandbox().is_some_and(|sandbox| sandbox.ready)
    }

    fn plan_setup(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if self.volumes.due(now) {
            self.volumes = Work::Doing;
            actions.push(Action::MountVolumes);
        }
        if self.sandbox_ready() {
            if self.sandbox != Work::Doing {
                self.sandbox = Work::Done;
            }
            return;
        }
        if self.sandbox == Work::Done {
            // It was there and has died.
            self.sandbox = Work::Todo;
            self.initialized = false;
            actions.push(Action::Event {
                warning: false,
                reason: "SandboxChanged",
                message: "Pod sandbox changed, it will be killed and re-created.".into(),
                container: None,
            });
        }
        // Wait for what is still being done in the old one.
        let busy = self.slots.iter().any(|slot| !matches!(slot.op, Op::Idle | Op::Pulling));
        if self.sandbox.due(now) && !busy {
            self.sandbox = Work::Doing;
            let attempts = self.view.sandboxes.values().map(|sandbox| sandbox.attempt);
            let attempt = attempts.max().map_or(0, |attempt| attempt.saturating_add(1));
            let newest = self.sandbox().map(|sandbox| sandbox.id.clone());
            let old = self.view.sandboxes.keys().filter(|id| Some(*id) != newest.as_ref());
            let mut removes: Vec<String> = old.cloned().collect();
            removes.sort();
            for id in &removes {
                self.view.sandboxes.remove(id);
                self.view.containers.retain(|_, container| container.sandbox_id != *id);
            }
            actions.push(Action::RunSandbox { attempt, stops: newest, removes });
        }
    }

    /// `RestartAllContainers`: everything is stopped, then the pod starts anew in its sandbox, init containers first.
    fn plan_restart_of_all(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        if !self.restarting_all {
            let Some(slot) = self.slots.iter().find(|slot| slot.restarts_all()) else { return };
            self.restarting_all = true;
            actions.push(Action::Event {
                warning: false,
                reason: "RestartingAllContainers",
                message: format!(
                    "Container {} has ended, all containers of the pod are restarted",
                    slot.name
                ),
                container: Some(slot.name.clone()),
            });
        }
        let grace = self.pod.grace();
        for slot in self.slots.iter_mut().filter(|slot| slot.role != Role::Ephemeral) {
            if slot.op == Op::Pulling {
                slot.op = Op::Idle;
                actions.push(Action::CancelImage { name: slot.name.clone() });
            }
            let due = matches!(slot.op, Op::Idle | Op::Hook | Op::Resizing);
            if alive(slot) && due && slot.stop_again_at.is_none_or(|at| at <= now) {
                let message = format!("Stopping container {}", slot.name);
                stop(slot, grace, grace, message, actions);
            }
        }
        let mut regular = self.slots.iter().filter(|slot| slot.role != Role::Ephemeral);
        if regular.any(|slot| slot.op != Op::Idle || alive(slot)) {
            return;
        }
        self.restarting_all = false;
        self.initialized = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.role != Role::Ephemeral) {
            slot.superseded = slot.counted;
            slot.restart = None;
            slot.hold = None;
        }
        self.refresh();
    }

    /// Containers that we end although the pod goes on.
    fn plan_restarts(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for slot in &mut self.slots {
            let Some(restart) = slot.restart.clone() else {
                continue;
            };
            let current = slot.current.as_ref();
            if current.is_none_or(|current| current.id != restart.id || current.state == State::Exited) {
                slot.restart = None;
            } else if slot.op == Op::Idle && slot.stop_again_at.is_none_or(|at| at <= now) {
                stop(slot, restart.grace, restart.grace, restart.message, actions);
            }
        }
    }

    fn plan_starts(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let policy = self.pod.restart_policy().to_owned();
        let ready = self.volumes == Work::Done && self.sandbox_ready();
        let mut due: Vec<usize> = Vec::new();
        if !self.initialized {
            self.initialized = self.initialize(&policy, &mut due);
        } else {
            let dead = |slot: &Slot| slot.role == Role::Sidecar && ended(slot);
            due.extend((0..self.slots.len()).filter(|i| self.slots.get(*i).is_some_and(dead)));
        }
        for (index, slot) in self.slots.iter().enumerate() {
            let wanted = match slot.role {
                Role::Init | Role::Sidecar => false,
                Role::Main => {
                    self.initialized && (slot.current.is_none() || created(slot) || slot.restarts(&policy))
                }
                Role::Ephemeral => slot.current.is_none(),
            };
            if wanted {
                due.push(index);
            }
        }
        // Containers are started in order; each waits until those before have started or failed to.
        let mut discarded = Vec::new();
        for index in due {
            let others_first = self.slots.iter().take(index).any(|slot| {
                slot.role == Role::Main && !matches!(slot.op, Op::Idle | Op::Resizing | Op::Stopping { .. })
            });
            let full_name = self.pod.full_name();
            let superfluous = self.slots.get(index).map(|slot| self.superfluous(slot)).unwrap_or_default();
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            let may_start = ready && !others_first;
            discarded.extend(start(slot, may_start, superfluous, &full_name, now, actions));
        }
        self.forget(&discarded);
    }

    /// Dead containers that nobody needs once the slot runs again: one stays, for `logs --previous`.
    fn superfluous(&self, slot: &Slot) -> Vec<String> {
        let named = self.view.named(&slot.name);
        let dead = named.into_iter().filter(|container| container.state != State::Running);
        dead.skip(1).map(|container| container.id.clone()).collect()
    }

    /// Goes through the init containers up to the first that has to be waited for; true when there is none.
    fn initialize(&self, policy: &str, due: &mut Vec<usize>) -> bool {
        for (index, slot) in self.slots.iter().enumerate() {
            let go_on = match slot.role {
                Role::Init => {
                    if slot.current.is_none() || created(slot) || slot.restarts(policy) {
                        due.push(index);
                    }
                    slot.exited().is_some_and(|ended| ended.exit_code == 0)
                }
                Role::Sidecar => {
                    if ended(slot) {
                        due.push(index);
                    }
                    slot.running() && slot.started && matches!(slot.op, Op::Idle | Op::Resizing)
                }
                Role::Main | Role::Ephemeral => true,
            };
            if !go_on {
                return false;
            }
        }
        self.sandbox_ready() || !self.slots.iter().any(Slot::is_init)
    }

    fn plan_probes(&mut self, actions: &mut Vec<Action>) {
        let active = self.stage == Stage::Active;
        for slot in &mut self.slots {
            let running = slot.current.as_ref().filter(|current| current.state == State::Running);
            let Some(id) = running.map(|current| current.id.clone()) else {
                if slot.probed.id.take().is_some() {
                    actions.push(end_probes(slot, true));
                }
                continue;
            };
            if !active || matches!(slot.op, Op::Starting | Op::Hook) {
                continue;
            }
            let mut probe = |kind: Kind| {
                if kind.of(&slot.spec).is_some() {
                    actions.push(Action::Probe { name: slot.name.clone(), id: id.clone(), kind });
                }
            };
            if slot.probed.id.as_ref() != Some(&id) {
                slot.probed = Probed::of(&id);
                if !slot.started {
                    probe(Kind::Startup);
                }
            }
            if slot.started && !slot.probed.after_startup {
                slot.probed.after_startup = true;
                probe(Kind::Liveness);
                probe(Kind::Readiness);
            }
        }
    }

    fn plan_stop(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let grace = self.stop_grace();
        // All share one grace period: whoever had to wait for others has what they have left of it.
        let left = self.stop_by(grace).map_or(grace, |by| by.duration_since(now).as_secs());
        for slot in &mut self.slots {
            if slot.op == Op::Pulling {
                slot.op = Op::Idle;
                actions.push(Action::CancelImage { name: slot.name.clone() });
            }
            slot.hold = None;
        }
        let others_run = self
            .slots
            .iter()
            .any(|slot| slot.role != Role::Sidecar && (alive(slot) || slot.op == Op::Starting));
        let mut later_sidecar_runs = false;
        for slot in self.slots.iter_mut().rev() {
            let mut given = grace;
            if slot.role == Role::Sidecar {
                // Sidecars go last, in the reverse of the order in which they came; all at once when time is up.
                let wait = (others_run || later_sidecar_runs) && left > 0;
                given = left.min(grace);
                later_sidecar_runs |= alive(slot) || slot.op == Op::Starting;
                if wait {
                    continue;
                }
            }
            if !alive(slot) || slot.stop_again_at.is_some_and(|at| at > now) {
                continue;
            }
            let due = match slot.op {
                Op::Idle | Op::Hook | Op::Resizing => true,
                // The time to end was shortened meanwhile.
                Op::Stopping { grace: before } => grace < before,
                Op::Pulling | Op::Starting => false,
            };
            if due {
                let message = format!("Stopping container {}", slot.name);
                stop(slot, grace, given, message, actions);
            }
        }
    }

    /// When the grace period of an ending pod is over.
    fn stop_by(&self, grace: i64) -> Option<Timestamp> {
        self.stopping_since?.checked_add(SignedDuration::from_secs(grace)).ok()
    }

    fn stop_grace(&self) -> i64 {
        let spec = self.pod.grace();
        let grace = if self.pod.deletion().is_some() {
            self.pod.metadata.deletion_grace_period_seconds.unwrap_or(spec)
        } else if self.gone {
            LEAST_GRACE
        } else {
            self.failed.as_ref().and_then(|failed| failed.grace).unwrap_or(spec)
        };
        grace.max(LEAST_GRACE)
    }

    fn plan_teardown(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let quiet = self.slots.iter().all(|slot| slot.op == Op::Idle && !alive(slot))
            && self.volumes != Work::Doing
            && self.sandbox != Work::Doing;
        let remove = match self.stage {
            Stage::Stopping if quiet => self.deleted(),
            Stage::TearingDown { remove } if self.teardown.due(now) => remove || self.deleted(),
            Stage::Stopped if self.deleted() => true,
            Stage::Removed if self.gone => {
                actions.push(Action::End);
                return;
            }
            _ => return,
        };
        self.stage = Stage::TearingDown { remove };
        self.teardown = Work::Doing;
        let mut sandboxes: Vec<String> = self.view.sandboxes.keys().cloned().collect();
        sandboxes.sort();
        actions.push(Action::TearDown { sandboxes, remove });
    }

    /// When the machine wants to be asked again although nothing has happened.
    pub fn wake(&self, now: Timestamp) -> Option<Timestamp> {
        let mut times: Vec<Timestamp> = Vec::new();
        for work in [&self.volumes, &self.sandbox, &self.teardown] {
            if let Work::Again { at, .. } = work {
                times.push(*at);
            }
        }
        for slot in &self.slots {
            times.extend(slot.stop_again_at);
            times.extend(slot.applied.error.as_ref().map(|(_, until)| *until));
            if let Some(hold) = &slot.hold {
                times.push(hold.until);
                times.extend(hold.since.checked_add(PULL_ERROR_SHOWN));
            }
        }
        if self.stage == Stage::Active {
            times.extend(self.deadline());
        }
        if self.stage == Stage::Stopping && self.slots.iter().any(|slot| slot.role == Role::Sidecar) {
            times.extend(self.stop_by(self.stop_grace()));
        }
        times.into_iter().filter(|at| *at > now).min()
    }
}

fn ended(slot: &Slot) -> bool {
    slot.current.is_none() || slot.exited().is_some() || created(slot)
}

/// Made but never started: what a kubelet leaves that died between the two calls. It is not waited for.
fn created(slot: &Slot) -> bool {
    slot.current.as_ref().is_some_and(|current| current.state == State::Created)
}

fn alive(slot: &Slot) -> bool {
    slot.running()
}

/// Of its pod's `grace`, the container is `given` what is left.
fn stop(slot: &mut Slot, grace: i64, given: i64, message: String, actions: &mut Vec<Action>) {
    let Some(id) = slot.current.as_ref().map(|current| current.id.clone()) else {
        return;
    };
    // A second stop of the same container only shortens the first.
    let again = matches!(slot.op, Op::Stopping { .. });
    slot.op = Op::Stopping { grace };
    slot.stop_again_at = None;
    if !again {
        actions.push(end_probes(slot, false));
        actions.push(Action::Event {
            warning: false,
            reason: "Killing",
            message,
            container: Some(slot.name.clone()),
        });
    }
    actions.push(Action::Stop { name: slot.name.clone(), id, grace: given.max(LEAST_GRACE), hook: !again });
}

fn end_probes(slot: &Slot, all: bool) -> Action {
    Action::EndProbes { name: slot.name.clone(), all }
}

/// The next thing that the start of a container needs. Returns the containers that it discards.
fn start(
    slot: &mut Slot,
    may_start: bool,
    superfluous: Vec<String>,
    full_name: &str,
    now: Timestamp,
    actions: &mut Vec<Action>,
) -> Vec<String> {
    if slot.op != Op::Idle {
        return Vec::new();
    }
    if let Some(hold) = slot.hold.as_mut().filter(|hold| hold.until > now) {
        pull_error_ages(hold, &slot.spec.image, &slot.name, now, actions);
        return Vec::new();
    }
    let event = slot.last_end().map(|ended| ended.finished_at.unwrap_or(ended.created_at));
    if let Some(event) = event
        && let Some((delay, until)) = slot.crash.until(event, now)
    {
        let name = &slot.name;
        slot.hold = Some(Hold {
            reason: "CrashLoopBackOff".into(),
            message: format!(
                "back-off {} restarting failed container={name} pod={full_name}",
                go_duration(delay)
            ),
            until,
            since: now,
        });
        let message = format!("Back-off restarting failed container {name} in pod {full_name}");
        actions.push(warning("BackOff", message, Some(name)));
        return Vec::new();
    }
    let Some(image) = slot.image.clone() else {
        slot.op = Op::Pulling;
        actions.push(Action::EnsureImage { name: slot.name.clone() });
        return Vec::new();
    };
    if !may_start {
        return Vec::new();
    }
    if let Some(event) = event {
        slot.crash.next(event, now);
    }
    slot.image = None;
    slot.made_with = Some(slot.spec.resources.clone().unwrap_or_default());
    slot.op = Op::Starting;
    actions.push(Action::Start {
        name: slot.name.clone(),
        attempt: slot.next_attempt(),
        image,
        discard: superfluous.clone(),
    });
    superfluous
}

/// A failed pull becomes a back-off, as users know it.
fn pull_error_ages(
    hold: &mut Hold,
    image: &Option<String>,
    name: &str,
    now: Timestamp,
    actions: &mut Vec<Action>,
) {
    let pull_failed = ["ErrImagePull", "RegistryUnavailable", "SignatureValidationFailed"];
    if !pull_failed.contains(&hold.reason.as_str()) || now.duration_since(hold.since) < PULL_ERROR_SHOWN {
        return;
    }
    let back_off = format!("Back-off pulling image {:?}", image.as_deref().unwrap_or_default());
    actions.push(Action::Event {
        warning: false,
        reason: "BackOff",
        message: back_off.clone(),
        container: Some(name.to_owned()),
    });
    actions.push(warning("Failed", "Error: ImagePullBackOff".into(), Some(name)));
    hold.message = format!("{back_off}: {}: {}", hold.reason, hold.message);
    hold.reason = "ImagePullBackOff".into();
}

/// As Go prints durations: `10s`, `1m20s`, `5m0s`.
fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
