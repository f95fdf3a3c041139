//! The pod status that the API is told: a pure function of the state machine.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    ContainerUser, HostIP, ImageVolumeStatus, LinuxContainerUser, PodIP, PodStatus, ResourceStatus,
    VolumeMountStatus, VolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ext::PodExt;
use super::machine::{Machine, Stage};
use super::slot::{Op, Role, Slot};
use super::status_conditions::conditions;
use crate::container::qos;
use crate::cri::view::{Container, State};

/// What statuses say about the node.
pub struct NodeFacts {
    pub ips: Vec<IpAddr>,
    /// The scheme of container IDs: the runtime's name.
    pub runtime: String,
    /// The pod's runtime can make mounts read-only with all below them.
    pub recursive_read_only: bool,
    /// How the devices are that the containers have been given, by container.
    pub devices: BTreeMap<String, Vec<ResourceStatus>>,
}

/// The status of a pod; times of conditions that have not changed are those of `last`.
pub fn status(machine: &Machine, last: &PodStatus, node: &NodeFacts, now: Timestamp) -> PodStatus {
    let pod = &*machine.pod;
    // Of a pod that was refused, nothing is said about containers that never were.
    let refused =
        machine.failed.is_some() && machine.stage > Stage::Active && machine.view.containers.is_empty();
    let of = |roles: &[Role]| -> Option<Vec<ContainerStatus>> {
        if refused && machine.slots.iter().all(|slot| slot.before.is_none()) {
            return None;
        }
        let slots = machine.slots.iter().filter(|slot| roles.contains(&slot.role));
        let statuses: Vec<ContainerStatus> =
            slots.map(|slot| shortened(container_status(machine, slot, node), machine.slots.len())).collect();
        (!statuses.is_empty()).then_some(statuses)
    };
    let mut ips: Vec<String> = Vec::new();
    if pod.host_network() {
        if machine.sandbox().is_some() {
            ips.extend(node.ips.iter().map(IpAddr::to_string));
        }
    } else if let Some(sandbox) = machine.sandbox() {
        ips.clone_from(&sandbox.ips);
    }
    let phase = phase(machine);
    // Told together with the end: as long as something runs the pod has not failed yet.
    let (reason, message) = match &machine.failed {
        Some(failed) if terminal(Some(phase)) => (Some(failed.reason.clone()), Some(failed.message.clone())),
        Some(_) => (None, None),
        None if terminal(last.phase.as_deref()) => (last.reason.clone(), last.message.clone()),
        None => (None, None),
    };
    let container_statuses = of(&[Role::Main]);
    let init_container_statuses = of(&[Role::Init, Role::Sidecar]);
    let conditions = conditions(machine, phase, last, now);
    let whole = pod.pod_spec().resources.as_ref().filter(|_| machine.sandbox().is_some());
    PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        host_ip: node.ips.first().map(IpAddr::to_string),
        host_ips: Some(node.ips.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: Some(Time(machine.start_time)),
        qos_class: Some(qos::class(pod.pod_spec()).as_str().to_owned()),
        container_statuses,
        init_container_statuses,
        ephemeral_container_statuses: of(&[Role::Ephemeral]),
        observed_generation: pod.metadata.generation,
        // Of the pod as a whole, where it asks for something as a whole.
        allocated_resources: whole.and_then(|resources| resources.requests.clone()),
        resources: whole.cloned(),
        ..last.clone()
    }
}

/// The messages of a pod's containers have so many bytes together.
const MESSAGES_MAX: usize = 12 << 10;

/// With its share of the messages.
fn shortened(mut status: ContainerStatus, containers: usize) -> ContainerStatus {
    let share = MESSAGES_MAX / containers.max(1);
    for state in [&mut status.state, &mut status.last_state].into_iter().flatten() {
        let message = state.terminated.as_mut().and_then(|terminated| terminated.message.as_mut());
        if let Some(message) = message {
            let end = (0..=share.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or(0));
        }
    }
    status
}

pub fn terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Upstream's phase rules. A pod is terminal only when nothing of it runs.
pub fn phase(machine: &Machine) -> &'static str {
    let pod = &*machine.pod;
    let runs = machine.slots.iter().any(|slot| slot.running() || slot.op == Op::Starting);
    let ended = machine.stage >= Stage::Stopping && !runs;
    match pod.phase() {
        "Succeeded" if machine.failed.is_none() => return "Succeeded",
        "Failed" => return "Failed",
        _ => {}
    }
    if machine.failed.is_some() && ended {
        return "Failed";
    }
    let main = || machine.slots.iter().filter(|slot| slot.role == Role::Main);
    let stopped = |slot: &&Slot| ever_ended(slot).is_some() && !slot.running();
    let all_stopped = main().all(|slot| stopped(&slot));
    let all_succeeded = all_stopped && main().all(|slot| ever_ended(slot).is_some_and(|c| c.exit_code == 0));
    if ended && machine.completed() {
        return if all_succeeded { "Succeeded" } else { "Failed" };
    }
    if ended && machine.deleted() {
        // Even if nothing of it ever ran: controllers that hold it wait for a phase that is an end.
        return if all_succeeded { "Succeeded" } else { "Failed" };
    }
    // An event may say that it runs before its start is over; the rest of the news is about to come.
    let waiting =
        main().any(|slot| (!slot.running() || slot.op == Op::Starting) && ever_ended(slot).is_none());
    if !machine.initialized || waiting { "Pending" } else { "Running" }
}

/// How the container ended last, if it does not run and has ever ended.
fn ever_ended(slot: &Slot) -> Option<&Container> {
    slot.exited().or(slot.previous.as_ref().filter(|previous| previous.state == State::Exited))
}

fn container_status(machine: &Machine, slot: &Slot, node: &NodeFacts) -> ContainerStatus {
    let runtime = node.runtime.as_str();
    let current = slot.current.as_ref();
    let previous = slot.previous.as_ref();
    let shown = current.or(previous);
    let state = state(machine, slot, runtime);
    // A container that waits to be restarted shows how it ended as its last state.
    let last = if state.waiting.is_some() { slot.exited().or(previous) } else { previous };
    let last_state = match last.filter(|container| container.state == State::Exited) {
        Some(container) => {
            ContainerState { terminated: Some(terminated(container, runtime)), ..Default::default() }
        }
        None => ContainerState::default(),
    };
    let before = slot.before.as_ref();
    let restart_count = match slot.counted {
        Some(count) => i32::try_from(count).unwrap_or(i32::MAX),
        None => before.map_or(0, |status| status.restart_count),
    };
    let running = state.running.is_some();
    ContainerStatus {
        name: slot.name.clone(),
        ready: match slot.role {
            Role::Ephemeral => false,
            Role::Init => slot.exited().is_some_and(|ended| ended.exit_code == 0),
            _ => running && slot.ready,
        },
        // Nothing is known of what ephemeral containers need for that.
        started: (slot.role != Role::Ephemeral).then_some(running && slot.started),
        image: shown
            .map(|container| container.image.clone())
            // Made by ID, as all are; the name that the user gave says more.
            .filter(|image| !image.is_empty() && !image.starts_with("sha256:"))
            .or_else(|| slot.spec.image.clone())
            .unwrap_or_default(),
        image_id: shown.map(|container| container.image_id.clone()).unwrap_or_default(),
        container_id: shown.map(|container| format!("{runtime}://{}", container.id)),
        restart_count,
        state: Some(state),
        last_state: Some(last_state),
        resources: current.map(|_| slot.applied.resources.clone()),
        allocated_resources: current
            .and(slot.spec.resources.as_ref())
            .and_then(|resources| resources.requests.clone()),
        volume_mounts: slot.spec.volume_mounts.as_ref().map(|mounts| {
            let told = mounts.iter().map(|mount| VolumeMountStatus {
                name: mount.name.clone(),
                mount_path: mount.mount_path.clone(),
                read_only: mount.read_only.filter(|read_only| *read_only),
                recursive_read_only: mount
                    .read_only
                    .filter(|read_only| *read_only)
                    .map(|_| recursive(mount.recursive_read_only.as_deref(), node.recursive_read_only)),
                volume_status: current.and_then(|container| container.images.get(&mount.mount_path)).map(
                    |image| VolumeStatus { image: Some(ImageVolumeStatus { image_ref: image.clone() }) },
                ),
            });
            told.collect()
        }),
        allocated_resources_status: node
            .devices
            .get(&slot.name)
            .filter(|devices| !devices.is_empty())
            .cloned(),
        stop_signal: current.and_then(|container| container.stop_signal.clone()),
        user: current.and_then(|container| container.user.as_ref()).map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: Some(user.supplemental_groups.clone()),
            }),
        }),
    }
}

/// What was made of a wish for recursion.
fn recursive(wish: Option<&str>, possible: bool) -> String {
    match wish {
        Some("Enabled") => "Enabled".to_owned(),
        Some("IfPossible") if possible => "Enabled".to_owned(),
        _ => "Disabled".to_owned(),
    }
}

fn state(machine: &Machine, slot: &Slot, runtime: &str) -> ContainerState {
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..Default::default()
    };
    if let Some(hold) = &slot.hold
        && !slot.running()
    {
        return waiting(&hold.reason, Some(hold.message.clone()));
    }
    match &slot.current {
        Some(container)
            if container.state == State::Running && !matches!(slot.op, Op::Hook | Op::Starting) =>
        {
            ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: container.started_at.or(Some(container.created_at)).map(Time),
                }),
                ..Default::default()
            }
        }
        Some(container) if container.state == State::Exited => {
            ContainerState { terminated: Some(terminated(container, runtime)), ..Default::default() }
        }
        _ if lost(machine, slot) => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".into()),
                message: Some("The container could not be located when the pod was terminated".into()),
                ..Default::default()
            }),
            ..Default::default()
        },
        _ => {
            if machine.slots.iter().any(Slot::is_init) {
                waiting("PodInitializing", None)
            } else {
                waiting("ContainerCreating", None)
            }
        }
    }
}

/// The pod is over, and nobody can say how this container of it was: that counts as a failure. Of containers whose turn
/// had not come, nothing is claimed.
fn lost(machine: &Machine, slot: &Slot) -> bool {
    let over = machine.stage > Stage::Stopping && (machine.deleted() || machine.failed.is_some());
    let inits = || machine.slots.iter().filter(|slot| slot.is_init());
    let begun = |slot: &Slot| slot.counted.is_some();
    over && match slot.role {
        Role::Main => machine.initialized || inits().all(begun),
        Role::Init | Role::Sidecar => {
            // Those before one that has begun have begun, too.
            inits().skip_while(|other| other.name != slot.name).any(begun)
        }
        Role::Ephemeral => false,
    }
}

fn terminated(container: &Container, runtime: &str) -> ContainerStateTerminated {
    let reason = match (container.reason.as_str(), container.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    ContainerStateTerminated {
        exit_code: container.exit_code,
        reason: Some(reason.to_owned()),
        message: (!container.message.is_empty()).then(|| container.message.clone()),
        started_at: Some(Time(container.started_at.unwrap_or(container.created_at))),
        finished_at: Some(Time(container.finished_at.unwrap_or(container.created_at))),
        container_id: Some(format!("{runtime}://{}", container.id)),
        signal: None,
    }
}
