//! What the shims report: containers that run, containers that ended, shims that are gone.

use std::fs;
use std::sync::Arc;

use k8s_cri::v1::ContainerEventType;
use shim_protocol::{Exit, Request, Response, Status};
use tracing::{debug, info, warn};

use super::{Container, State};
use crate::handler::Handler;
use crate::sandbox::Sandbox;
use crate::state::{Runtime, blocking};
use crate::systemd;
use crate::{Error, Result, disk};

impl Runtime {
    /// Subscribes to a sandbox's shim, takes over what it says of its containers, and follows it from then on.
    /// A container that runs by our record but that the shim does not know has ended.
    pub async fn watch_shim(self: &Arc<Self>, sandbox: &Arc<Sandbox>) -> Result<()> {
        let (mut connection, first) = sandbox.shim.converse(Request::Subscribe, &[]).await?;
        let Response::State { containers } = first else {
            return Err(Error::Shim {
                sandbox: sandbox.id.clone(),
                message: "its shim does not tell its state".into(),
            });
        };
        for container in self.containers_of(&sandbox.id) {
            if !containers.iter().any(|state| state.container == container.id) {
                self.container_lost(&container);
            }
        }
        for state in containers {
            let Ok(container) = self.containers.get(&state.container) else { continue };
            match state.status {
                Status::Starting => {}
                Status::Running { pid, at } => self.container_started(&container, pid, at),
                Status::Exited { at, exit } => {
                    let pid = container.record.lock().pid;
                    self.container_started(&container, pid, at);
                    self.container_exited(&container, exit);
                }
            }
        }
        let (runtime, sandbox) = (self.clone(), sandbox.clone());
        tokio::spawn(async move {
            while let Ok(event) = sandbox.shim.next(&mut connection).await {
                runtime.shim_event(event);
            }
            runtime.shim_lost(&sandbox).await;
        });
        Ok(())
    }

    fn shim_event(self: &Arc<Self>, event: Response) {
        let (Response::Started { container, .. } | Response::Exited { container, .. }) = &event else {
            return;
        };
        let Ok(container) = self.containers.get(container) else { return };
        match event {
            Response::Started { pid, at, .. } => self.container_started(&container, pid, at),
            Response::Exited { exit, .. } => self.container_exited(&container, exit),
            _ => {}
        }
    }

    pub fn container_exited(self: &Arc<Self>, container: &Arc<Container>, exit: Exit) {
        {
            let mut record = container.record.lock();
            if record.state == State::Exited {
                return;
            }
            record.state = State::Exited;
            record.finished_at = exit.at;
            record.exit_code = exit.code;
            record.reason = match exit {
                Exit { oom_killed: true, .. } => "OOMKilled",
                Exit { code: 0, .. } => "Completed",
                _ => "Error",
            }
            .to_owned();
        }
        info!(container = container.id, code = exit.code, "container exited");
        self.finish_container(container);
    }

    /// Its shim died. What it left of the container's end counts; otherwise it is unknown.
    pub fn container_lost(self: &Arc<Self>, container: &Arc<Container>) {
        if container.state() != State::Running {
            return;
        }
        self.cgroups.kill(&container.record.lock().cgroup);
        if let Some(exit) = self.recorded_exit(container) {
            return self.container_exited(container, exit);
        }
        {
            let mut record = container.record.lock();
            record.state = State::Exited;
            record.finished_at = crate::events::now();
            record.exit_code = 255;
            record.reason = "Unknown".to_owned();
            record.message = "the container's shim ended and could not tell how the container did".to_owned();
        }
        self.finish_container(container);
    }

    fn recorded_exit(&self, container: &Container) -> Option<Exit> {
        Exit::from_line(&fs::read_to_string(self.bundle(&container.id).join("exit")).ok()?)
    }

    /// Tells everybody of the end, writes it down, and clears what the kernel still has of the container. Should we end
    /// before it is written, the shim or the file that it leaves tells it again.
    pub fn finish_container(self: &Arc<Self>, container: &Arc<Container>) {
        container.ended.send_replace(true);
        self.publish_container(container, ContainerEventType::ContainerStoppedEvent);
        let (runtime, container) = (self.clone(), container.clone());
        tokio::spawn(blocking(move || {
            runtime.record_container(&container);
            if let Err(error) = runtime.clean_runtime_state(&container) {
                debug!(container = container.id, %error, "left to the container's removal");
            }
            Ok(())
        }));
    }

    /// Writes down what the shim would tell again.
    pub fn record_container(&self, container: &Container) {
        match self.save_container(container) {
            // It has been removed in the meantime, and its directory with it.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => warn!(container = container.id, %error, "could not record the container's state"),
            Ok(()) => {}
        }
    }

    /// Processes that outlived the first one, the control group, the OCI runtime's notes.
    pub fn clean_runtime_state(&self, container: &Container) -> Result<()> {
        let mut cleared = container.cleared.lock();
        if *cleared {
            return Ok(());
        }
        let handler = self.handler(&container.sandbox.record.lock().handler).unwrap_or(Handler::BuiltIn);
        let cgroup = {
            let mut record = container.record.lock();
            systemd::release(std::mem::take(&mut record.keeper));
            record.cgroup.clone()
        };
        self.cgroups.kill(&cgroup);
        self.oci_delete(&handler, &container.id, &self.bundle(&container.id));
        self.cgroups.remove(&cgroup)?;
        disk::remove_tree(&self.config.run_dir.join("oci").join(&container.id))?;
        *cleared = true;
        Ok(())
    }
}
