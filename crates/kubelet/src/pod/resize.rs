//! What has been allocated to containers that run is applied to them: the acting half of in-place resize.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::allocation::summary;
use super::ext::PodExt;
use super::machine::{Action, Machine, warning};
use super::slot::{Op, Restart, Role, Slot};

const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// How the resources of a container's running incarnation stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// What it runs with.
    pub resources: ResourceRequirements,
    /// Why the last attempt to give it something else failed, and when to try again.
    pub error: Option<(String, Timestamp)>,
}

impl Slot {
    /// It runs, but not with what it has been given.
    pub fn to_be_resized(&self) -> bool {
        self.running() && self.applied.resources != self.spec.resources.clone().unwrap_or_default()
    }

    /// Whether one of the resources that change can only be had by a restart.
    fn resize_restarts(&self) -> bool {
        let new = self.spec.resources.clone().unwrap_or_default();
        let changed = |name: &str| {
            let of = |resources: &ResourceRequirements| {
                let get = |map: &Option<std::collections::BTreeMap<_, _>>| {
                    map.as_ref().and_then(|map| map.get(name)).cloned()
                };
                (get(&resources.requests), get(&resources.limits))
            };
            of(&new) != of(&self.applied.resources)
        };
        let policies = self.spec.resize_policy.iter().flatten();
        policies
            .filter(|policy| policy.restart_policy == "RestartContainer")
            .any(|policy| changed(&policy.resource_name))
    }
}

impl Machine {
    /// Tells of the beginning and the end of what may take several containers and their restarts.
    fn tell_of_resizes(&mut self, actions: &mut Vec<Action>) {
        let policy = self.pod.restart_policy();
        let at_rest = |slot: &Slot| {
            let settled = slot.running() || slot.exited().is_some() && !slot.restarts(policy);
            settled && !slot.to_be_resized() || matches!(slot.role, Role::Init | Role::Ephemeral)
        };
        let begins = !self.resizing && self.slots.iter().any(Slot::to_be_resized);
        let ends = self.resizing && self.slots.iter().all(at_rest);
        let (reason, words) = match (begins, ends) {
            (true, _) => ("ResizeStarted", "started"),
            (_, true) => ("ResizeCompleted", "completed"),
            _ => return,
        };
        self.resizing = begins;
        let message = format!("Pod resize {words}: {}", summary(&self.pod, None));
        actions.push(Action::Event { warning: false, reason, message, container: None });
    }

    /// Brings running containers to what their pod has been allocated.
    pub(super) fn plan_resizes(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.tell_of_resizes(actions);
        let grace = self.pod.grace();
        for slot in &mut self.slots {
            let waits = slot.applied.error.as_ref().is_some_and(|(_, until)| *until > now);
            if !slot.to_be_resized() || slot.op != Op::Idle || slot.restart.is_some() || waits {
                continue;
            }
            let Some(id) = slot.current.as_ref().map(|current| current.id.clone()) else {
                continue;
            };
            if slot.resize_restarts() {
                let message = format!("Container {} resize requires restart", slot.name);
                slot.restart = Some(Restart { id, message, grace });
                continue;
            }
            slot.op = Op::Resizing;
            actions.push(Action::Resize { name: slot.name.clone(), id });
        }
        if self.pod_resources_changed {
            self.pod_resources_changed = false;
            actions.push(Action::ResizePod);
        }
    }

    /// An attempt to give a container new limits has ended.
    pub(super) fn resized(
        &mut self,
        name: &str,
        result: Result<ResourceRequirements, String>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name) else {
            return;
        };
        if slot.op == Op::Resizing {
            slot.op = Op::Idle;
        }
        match result {
            Ok(resources) => {
                slot.applied = Applied { resources, error: None };
            }
            Err(message) => {
                let told = format!("Pod resize error: {}", summary(&self.pod, Some(&message)));
                actions.push(warning("ResizeError", told, None));
                let until = now.checked_add(RETRY).unwrap_or(now);
                slot.applied.error = Some((message, until));
            }
        }
    }
}
