//! The conditions of a pod that the kubelet owns.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ext::PodExt;
use super::machine::{Machine, Stage};
use super::preemption;
use super::slot::{Op, Role, Slot};
use crate::shutdown;

/// Conditions of ours that are there only while they hold.
pub const PASSING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

struct Verdict {
    type_: &'static str,
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes(type_: &'static str) -> Self {
        Self { type_, status: true, reason: None, message: None }
    }

    fn no(type_: &'static str, reason: &'static str, message: Option<String>) -> Self {
        Self { type_, status: false, reason: Some(reason), message }
    }
}

/// Ours, after those that others own (readiness gates, `DisruptionTarget`), which are passed on untouched.
pub fn conditions(machine: &Machine, phase: &str, last: &PodStatus, now: Timestamp) -> Vec<PodCondition> {
    let containers_ready = containers_ready(machine, phase);
    let mut verdicts = vec![
        to_start_containers(machine),
        initialized(machine, phase),
        ready(machine, &containers_ready, phase),
        containers_ready,
        Verdict::yes("PodScheduled"),
    ];
    verdicts.extend(resize_pending(machine));
    verdicts.extend(resize_in_progress(machine));
    verdicts.extend(restarting_all(machine, last));
    let by_kubelet = |reason: &str| matches!(reason, "Evicted" | preemption::REASON | shutdown::REASON);
    if let Some(evicted) = machine.failed.as_ref().filter(|failed| by_kubelet(&failed.reason)) {
        verdicts.push(Verdict {
            reason: Some("TerminationByKubelet"),
            message: Some(match evicted.reason.as_str() {
                preemption::REASON => {
                    "Pod was preempted by Kubelet to accommodate a critical pod.".to_owned()
                }
                _ => evicted.message.clone(),
            }),
            ..Verdict::yes("DisruptionTarget")
        });
    }
    let before = || last.conditions.iter().flatten();
    let foreign = |old: &&PodCondition| {
        verdicts.iter().all(|verdict| verdict.type_ != old.type_) && !PASSING.contains(&old.type_.as_str())
    };
    let mut conditions: Vec<PodCondition> = before().filter(foreign).cloned().collect();
    conditions.extend(verdicts.into_iter().map(|verdict| {
        let status = if verdict.status { "True" } else { "False" };
        let old = before().find(|old| old.type_ == verdict.type_ && old.status == status);
        PodCondition {
            type_: verdict.type_.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.map(str::to_owned),
            message: verdict.message,
            last_transition_time: old.and_then(|old| old.last_transition_time.clone()).or(Some(Time(now))),
            last_probe_time: None,
            observed_generation: machine.pod.metadata.generation,
        }
    }));
    conditions
}

fn resize_pending(machine: &Machine) -> Option<Verdict> {
    let pending = machine.pending.as_ref()?;
    let verdict = Verdict::yes("PodResizePending");
    Some(Verdict { reason: Some(pending.reason), message: Some(pending.message.clone()), ..verdict })
}

/// Said of pods that have begun anew at least once.
fn restarting_all(machine: &Machine, last: &PodStatus) -> Option<Verdict> {
    const TYPE: &str = "AllContainersRestarting";
    let known = last.conditions.iter().flatten().any(|condition| condition.type_ == TYPE);
    let status = machine.restarting_all;
    (status || known).then(|| Verdict { status, ..Verdict::yes(TYPE) })
}

fn resize_in_progress(machine: &Machine) -> Option<Verdict> {
    let mut resizing = machine.slots.iter().filter(|slot| slot.to_be_resized()).peekable();
    if machine.stage != Stage::Active || resizing.peek().is_none() {
        return None;
    }
    let error = resizing.find_map(|slot| slot.applied.error.as_ref().map(|(message, _)| message.clone()));
    let verdict = Verdict::yes("PodResizeInProgress");
    Some(Verdict { reason: error.is_some().then_some("Error"), message: error, ..verdict })
}

fn to_start_containers(machine: &Machine) -> Verdict {
    let ready = machine.stage <= Stage::Stopping && machine.sandbox().is_some_and(|sandbox| sandbox.ready);
    let verdict = Verdict::yes("PodReadyToStartContainers");
    Verdict { status: ready, ..verdict }
}

fn initialized(machine: &Machine, phase: &str) -> Verdict {
    if machine.initialized || phase == "Succeeded" {
        let reason = (phase == "Succeeded").then_some("PodCompleted");
        return Verdict { reason, ..Verdict::yes("Initialized") };
    }
    let incomplete = |slot: &&Slot| match slot.role {
        Role::Init => slot.exited().is_none_or(|ended| ended.exit_code != 0),
        Role::Sidecar => !slot.started,
        Role::Main | Role::Ephemeral => false,
    };
    match names(machine, incomplete) {
        names if names.is_empty() => Verdict::yes("Initialized"),
        names => Verdict::no(
            "Initialized",
            "ContainersNotInitialized",
            Some(format!("containers with incomplete status: [{}]", names.join(" "))),
        ),
    }
}

fn containers_ready(machine: &Machine, phase: &str) -> Verdict {
    let type_ = "ContainersReady";
    match phase {
        "Succeeded" => return Verdict::no(type_, "PodCompleted", None),
        "Failed" => return Verdict::no(type_, "PodFailed", None),
        _ => {}
    }
    let unready = |slot: &&Slot| {
        matches!(slot.role, Role::Main | Role::Sidecar)
            && !(slot.running() && slot.ready && slot.op != Op::Hook)
    };
    match names(machine, unready) {
        names if names.is_empty() => Verdict::yes(type_),
        names => Verdict::no(
            type_,
            "ContainersNotReady",
            Some(format!("containers with unready status: [{}]", names.join(" "))),
        ),
    }
}

/// The containers are ready, and every readiness gate is open.
fn ready(machine: &Machine, containers: &Verdict, phase: &str) -> Verdict {
    if !containers.status || matches!(phase, "Succeeded" | "Failed") {
        return Verdict { type_: "Ready", message: containers.message.clone(), ..*containers };
    }
    let status = machine.pod.status.as_ref();
    let present = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let gates = machine.pod.pod_spec().readiness_gates.iter().flatten();
    let closed: Vec<String> = gates
        .filter_map(|gate| {
            let condition = present.iter().find(|condition| condition.type_ == gate.condition_type);
            match condition.map(|condition| condition.status.as_str()) {
                Some("True") => None,
                Some(status) => Some(format!(
                    "the status of pod readiness gate {:?} is not \"True\", but {status}",
                    gate.condition_type
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate {:?} does not exist.",
                    gate.condition_type
                )),
            }
        })
        .collect();
    if closed.is_empty() {
        Verdict::yes("Ready")
    } else {
        Verdict::no("Ready", "ReadinessGatesNotReady", Some(closed.join(", ")))
    }
}

fn names(machine: &Machine, which: impl Fn(&&Slot) -> bool) -> Vec<String> {
    let slots = machine.slots.iter().filter(which);
    slots.map(|slot| slot.name.clone()).collect()
}
