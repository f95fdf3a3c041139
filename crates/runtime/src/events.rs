//! Container events, sent to every subscriber as they happen.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_cri::v1::{ContainerEventResponse, ContainerEventType};
use tokio::sync::broadcast;

use crate::container::Container;
use crate::sandbox::Sandbox;
use crate::state::Runtime;

/// A subscriber that falls further behind than this is told so and has to list.
const MOST_PENDING: usize = 4096;

pub struct Events(broadcast::Sender<ContainerEventResponse>);

impl Events {
    pub fn new() -> Self {
        Self(broadcast::Sender::new(MOST_PENDING))
    }

    pub fn subscribe(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.0.subscribe()
    }
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

impl Runtime {
    /// Tells of a container, with the state of its whole pod, so that nobody needs to ask.
    pub fn publish_container(&self, container: &Container, kind: ContainerEventType) {
        self.publish(&container.id, &container.sandbox, kind);
    }

    /// A sandbox is told of as a container of its own id.
    pub fn publish_sandbox(&self, sandbox: &Sandbox, kind: ContainerEventType) {
        self.publish(&sandbox.id, sandbox, kind);
    }

    fn publish(&self, id: &str, sandbox: &Sandbox, kind: ContainerEventType) {
        if self.events.0.receiver_count() == 0 {
            return;
        }
        let containers_statuses = self.containers_of(&sandbox.id).iter().map(|c| c.status()).collect();
        // An error means that the last subscriber has just gone.
        let _ = self.events.0.send(ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            created_at: now(),
            pod_sandbox_status: Some(sandbox.status()),
            containers_statuses,
        });
    }
}
