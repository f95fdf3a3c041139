//! What a pod's state machine is told, and what it answers: the vocabulary of [`super::machine::Machine`].

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::allocation::Pending;
use super::probed::Kind;
use crate::cri::view::{Container, PodView, Sandbox};
use crate::probe::{Unsuccessful, Warning};

/// Something that has happened.
#[derive(Debug)]
pub enum Input {
    /// The pod as the API (or a static manifest) has it.
    /// With the resources that it has been allocated.
    Desired(Arc<Pod>),
    /// It asks for other resources than it has; nothing when it has what it asks for.
    ResizePending(Option<Pending>),
    /// The API has it no more.
    Gone,
    /// News from the runtime.
    Runtime(PodView),
    /// Sandboxes and containers that the runtime had and has no more: somebody else removed them.
    Missing(Vec<String>),
    /// A ConfigMap, Secret or the like that the pod refers to has changed.
    Objects,
    /// The pod is to end, as failed, for a reason of the node's: rejected, evicted, preempted.
    Kill {
        reason: String,
        message: String,
        grace: Option<i64>,
    },
    Volumes(Result<(), Failure>),
    Sandbox(Result<Sandbox, Failure>),
    Image {
        name: String,
        result: Result<String, Failure>,
    },
    Started {
        name: String,
        result: Result<Container, StartFailure>,
    },
    /// The postStart hook has ended.
    Hooked {
        name: String,
        result: Result<(), String>,
    },
    /// A stop has ended; the container as it is now, if the runtime still knows it.
    Stopped {
        name: String,
        result: Result<Option<Container>, String>,
    },
    TornDown(Result<(), String>),
    /// New limits were set; answers with what the container runs with now.
    Resized {
        name: String,
        result: Result<ResourceRequirements, String>,
    },
    Probed {
        name: String,
        id: String,
        kind: Kind,
        result: Result<Warning, Unsuccessful>,
    },
    /// The time that [`super::machine::Machine::wake`] asked for has come.
    Tick,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
}

/// A container was not started.
#[derive(Clone, Debug, PartialEq)]
pub struct StartFailure {
    /// `CreateContainerConfigError`, `CreateContainerError`, `RunContainerError`.
    pub reason: String,
    pub message: String,
    /// What is left of the attempt, if the runtime made a container.
    pub container: Option<Container>,
}

/// Something to do. Whatever takes time answers with the input of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    MountVolumes,
    /// Stop the sandbox of the last attempt, remove those before, make a new one.
    RunSandbox {
        attempt: u32,
        stops: Option<String>,
        removes: Vec<String>,
    },
    EnsureImage {
        name: String,
    },
    /// Forget about an image that is being waited for.
    CancelImage {
        name: String,
    },
    Start {
        name: String,
        attempt: u32,
        image: String,
        /// Dead containers that the new one makes superfluous.
        discard: Vec<String>,
    },
    PostStart {
        name: String,
        id: String,
    },
    Stop {
        name: String,
        id: String,
        grace: i64,
        hook: bool,
    },
    /// Give a running container the resources that it has been allocated.
    Resize {
        name: String,
        id: String,
    },
    /// The same for the pod as a whole.
    ResizePod,
    /// Probe from now on.
    Probe {
        name: String,
        id: String,
        kind: Kind,
    },
    /// End the probes of the container; with `all` also its readiness probe.
    EndProbes {
        name: String,
        all: bool,
    },
    /// Stop the sandboxes, unmount, give back the cgroup; with `remove` leave nothing.
    TearDown {
        sandboxes: Vec<String>,
        remove: bool,
    },
    /// Nothing is left: the API object may go.
    Finalize,
    /// The worker's work is done.
    End,
    Event {
        warning: bool,
        reason: &'static str,
        message: String,
        container: Option<String>,
    },
}
