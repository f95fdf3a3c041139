//! One container of a pod, across all its restarts.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self as core, ContainerStatus, Pod};

use super::backoff::Backoff;
use super::ext::{PodExt, from_ephemeral};
use super::probed::Probed;
use super::resize::Applied;
use crate::cri::view::{Container, PodView, State};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    Main,
    Ephemeral,
}

/// What is being done about the container right now. One thing at a time.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Idle,
    Pulling,
    Starting,
    /// It runs; its postStart hook has not finished.
    Hook,
    Stopping {
        grace: i64,
    },
    /// It is being given other limits while it runs.
    Resizing,
}

/// Why the container is not being started although it should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    pub reason: String,
    pub message: String,
    pub until: Timestamp,
    /// The attempt that has failed, for reasons that change with time (`ErrImagePull`).
    pub since: Timestamp,
}

#[derive(Debug)]
pub struct Slot {
    pub name: String,
    pub role: Role,
    /// Shared with what is done about it.
    pub spec: Arc<core::Container>,
    pub op: Op,
    /// The image for the next start, once it is known to be there.
    pub image: Option<String>,
    pub hold: Option<Hold>,
    /// The newest container, if it is of the current sandbox.
    pub current: Option<Container>,
    /// The one before.
    pub previous: Option<Container>,
    pub crash: Backoff,
    pub pull: Backoff,
    /// The startup probe has succeeded, or there is none.
    pub started: bool,
    /// The readiness probe succeeds, or there is none and the container has started.
    pub ready: bool,
    pub probed: Probed,
    /// What the API said before this kubelet started: for counts and readiness of adopted containers.
    pub before: Option<ContainerStatus>,
    /// After a failed stop.
    pub stop_again_at: Option<Timestamp>,
    /// Asked to stop by us, while the pod goes on: a failed probe, a failed hook, a changed image.
    pub restart: Option<Restart>,
    /// The highest restart count that was ever seen: the runtime may have forgotten the container that had it.
    pub counted: Option<u32>,
    /// The resources that it runs with.
    pub applied: Applied,
    /// Containers up to this restart count are done with: the whole pod starts anew.
    pub superseded: Option<u32>,
    /// Those that the one is made with that is being started.
    pub made_with: Option<core::ResourceRequirements>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    pub id: String,
    pub message: String,
    pub grace: i64,
}

impl Slot {
    fn new(role: Role, spec: Arc<core::Container>, before: Option<ContainerStatus>) -> Self {
        Self {
            name: spec.name.clone(),
            role,
            spec,
            op: Op::Idle,
            image: None,
            hold: None,
            current: None,
            previous: None,
            crash: Backoff::default(),
            pull: Backoff::default(),
            started: false,
            ready: false,
            probed: Probed::default(),
            before,
            stop_again_at: None,
            restart: None,
            counted: None,
            applied: Applied::default(),
            superseded: None,
            made_with: None,
        }
    }

    pub fn is_init(&self) -> bool {
        matches!(self.role, Role::Init | Role::Sidecar)
    }

    pub fn running(&self) -> bool {
        self.current.as_ref().is_some_and(|container| container.state == State::Running)
    }

    pub fn exited(&self) -> Option<&Container> {
        self.current.as_ref().filter(|container| container.state == State::Exited)
    }

    /// The count that a container started now would carry.
    pub fn next_attempt(&self) -> u32 {
        if let Some(newest) = self.counted {
            return newest.saturating_add(1);
        }
        match &self.before {
            // The runtime has lost a container that the API knows: it is being restarted.
            Some(status) if status.container_id.is_some() => {
                u32::try_from(status.restart_count).unwrap_or(0).saturating_add(1)
            }
            _ => 0,
        }
    }

    /// Takes the newest containers out of what the runtime has.
    pub fn refresh(&mut self, view: &PodView, sandbox_id: Option<&str>) {
        let mut newest = view.named(&self.name).into_iter();
        let old_id = self.current.as_ref().map(|container| container.id.clone());
        self.current = None;
        let mut first = newest.next();
        if let Some(container) = first
            && Some(container.sandbox_id.as_str()) == sandbox_id
            && self.superseded.is_none_or(|count| container.restart_count > count)
        {
            self.current = Some(container.clone());
            first = newest.next();
        }
        self.previous = first.cloned();
        let known = self.current.iter().chain(&self.previous).map(|container| container.restart_count);
        self.counted = self.counted.into_iter().chain(known).max();
        let id = self.current.as_ref().map(|container| &container.id);
        if id != old_id.as_ref() {
            self.started = false;
            self.ready = false;
            let spec = || self.spec.resources.clone().unwrap_or_default();
            self.applied = Applied { resources: self.made_with.take().unwrap_or_else(spec), error: None };
            self.adopt();
        }
        if !self.running() {
            self.started = false;
            self.ready = false;
        }
    }

    /// A container that this process has not started keeps the readiness that the API knows of.
    fn adopt(&mut self) {
        let (Some(current), Some(before)) = (&self.current, &self.before) else {
            return;
        };
        let known = before.container_id.as_deref().unwrap_or_default();
        if known.split_once("://").is_some_and(|(_, id)| id == current.id) {
            self.started = before.started.unwrap_or(false);
            self.ready = before.ready;
            if let Some(resources) = &before.resources {
                self.applied.resources = resources.clone();
            }
        }
    }

    /// Whether the container, having ended like this, is run again.
    pub fn restarts(&self, pod_policy: &str) -> bool {
        let Some(ended) = self.exited() else {
            return false;
        };
        match self.role {
            Role::Sidecar => true,
            Role::Ephemeral => false,
            Role::Init if ended.exit_code == 0 => self.restarts_all(),
            Role::Init | Role::Main => {
                self.rule_restarts(ended.exit_code)
                    || match self.spec.restart_policy.as_deref().unwrap_or(pod_policy) {
                        "Never" => false,
                        "OnFailure" => ended.exit_code != 0,
                        _ => true,
                    }
            }
        }
    }

    /// Whether a container that failed could be run again, whatever its exit code.
    pub fn may_restart(&self, pod_policy: &str) -> bool {
        self.role == Role::Sidecar || self.spec.restart_policy.as_deref().unwrap_or(pod_policy) != "Never"
    }

    /// How the container of this name ended last, be it that the pod started anew since.
    pub fn last_end(&self) -> Option<&Container> {
        let before = self.previous.as_ref().filter(|_| self.superseded.is_some() && self.current.is_none());
        self.exited().or(before)
    }

    /// It has ended in a way after which the whole pod is to start anew.
    pub fn restarts_all(&self) -> bool {
        self.role != Role::Ephemeral
            && self.exited().is_some_and(|ended| self.rule(ended.exit_code) == Some("RestartAllContainers"))
    }

    fn rule_restarts(&self, exit_code: i32) -> bool {
        matches!(self.rule(exit_code), Some("Restart" | "RestartAllContainers"))
    }

    /// `restartPolicyRules`: the first rule that matches decides.
    fn rule(&self, exit_code: i32) -> Option<&str> {
        let mut rules = self.spec.restart_policy_rules.iter().flatten();
        let matching = rules.find(|rule| {
            rule.exit_codes.as_ref().is_some_and(|codes| {
                let named = codes.values.iter().flatten().any(|code| *code == exit_code);
                named == (codes.operator == "In")
            })
        });
        matching.map(|rule| rule.action.as_str())
    }
}

/// The slots of a pod: init containers, containers, ephemeral containers. Those of `old` that still exist keep
/// their state.
pub fn of(pod: &Pod, old: Vec<Slot>) -> Vec<Slot> {
    let spec = pod.pod_spec();
    let status = pod.status.as_ref();
    let mut old: Vec<Option<Slot>> = old.into_iter().map(Some).collect();
    let mut slots = Vec::new();
    let mut add = |role: Role, spec: core::Container, before: Option<&Vec<ContainerStatus>>| {
        let known = old
            .iter_mut()
            .find(|slot| slot.as_ref().is_some_and(|slot| slot.name == spec.name))
            .and_then(Option::take);
        slots.push(match known {
            Some(known) => Slot { spec: Arc::new(spec), ..known },
            None => {
                let mut before = before.into_iter().flatten();
                let before = before.find(|status| status.name == spec.name).cloned();
                Slot::new(role, Arc::new(spec), before)
            }
        });
    };
    for container in spec.init_containers.iter().flatten() {
        let role = match container.restart_policy.as_deref() {
            Some("Always") => Role::Sidecar,
            _ => Role::Init,
        };
        let before = status.and_then(|status| status.init_container_statuses.as_ref());
        add(role, container.clone(), before);
    }
    for container in &spec.containers {
        let before = status.and_then(|status| status.container_statuses.as_ref());
        add(Role::Main, container.clone(), before);
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        let before = status.and_then(|status| status.ephemeral_container_statuses.as_ref());
        add(Role::Ephemeral, from_ephemeral(container), before);
    }
    slots
}
