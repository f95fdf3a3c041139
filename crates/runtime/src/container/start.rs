//! StartContainer.

use std::path::Path;
use std::sync::Arc;

use k8s_cri::v1::ContainerEventType;
use shim_protocol::{PidNamespace, Request, Response, Start};
use tracing::{info, warn};

use super::{Container, State};
use crate::handler::{Handler, last_error};
use crate::state::{Runtime, blocking};
use crate::systemd;
use crate::{Error, Result};

impl Runtime {
    pub async fn start_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let (runtime, held) = (self.clone(), container.clone());
        // As with sandboxes: a client that goes away does not stop it half way.
        match tokio::spawn(async move { runtime.start_container_alone(&held).await }).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn start_container_alone(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let _alone = container.busy.lock().await;
        let state = container.state();
        if state != State::Created {
            return Err(Error::FailedPrecondition(format!(
                "container {} is in state {state:?}, not Created",
                container.id
            )));
        }
        let start = self.start_request(container)?;
        match container.sandbox.shim.call(Request::Start(start)).await {
            Ok(Response::Started { pid, at, .. }) => {
                self.container_started(container, pid, at);
                Ok(())
            }
            outcome => {
                let message = match outcome {
                    Err(Error::Shim { message, .. }) => {
                        last_error(&self.bundle(&container.id)).unwrap_or(message)
                    }
                    Err(error) => error.to_string(),
                    Ok(other) => format!("unexpected answer of the shim: {other:?}"),
                };
                self.start_failed(container, &message).await;
                Err(Error::Oci { container: container.id.clone(), message })
            }
        }
    }

    fn start_request(&self, container: &Container) -> Result<Start> {
        let bundle = self.bundle(&container.id);
        let handler = self.handler(&container.sandbox.record.lock().handler)?;
        let record = container.record.lock();
        let path = |name: &str| bundle.join(name).display().to_string();
        let mut start = Start {
            container: container.id.clone(),
            pid_file: path("pid"),
            exit_file: path("exit"),
            log_file: record.log_file.clone(),
            oom_file: self
                .cgroups
                .oom_file(&record.cgroup)
                .map(|p| p.display().to_string())
                .unwrap_or_default(),
            terminal: record.config.tty,
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            ..Start::default()
        };
        if let Handler::External(binary) = &handler {
            if record.config.tty {
                start.console = format!("c-{}.sock", &container.id[..12]);
            }
            start.argv = self.oci_command(binary, &bundle);
            if record.scope.is_some() {
                start.argv.push("--systemd-cgroup".to_owned());
            }
            start.argv.extend(["run", "--detach", "--bundle"].map(str::to_owned));
            start.argv.extend([bundle.display().to_string(), "--pid-file".to_owned(), path("pid")]);
            if !start.console.is_empty() {
                start.argv.extend(["--console-socket".to_owned(), console_path(container, &start.console)]);
            }
            start.argv.push(container.id.clone());
        } else {
            start.plan = path("plan");
            start.pid_namespace = match &record.pid_namespace {
                None => PidNamespace::New,
                Some(path) if path.is_empty() => PidNamespace::Host,
                Some(path) => PidNamespace::Join(path.clone()),
            };
        }
        Ok(start)
    }
    /// The container runs; told by the answer to our request, or found when this process was started again.
    pub fn container_started(self: &Arc<Self>, container: &Arc<Container>, pid: i32, at: i64) {
        {
            let mut record = container.record.lock();
            if record.pid == pid && record.started_at == at {
                return;
            }
            record.pid = pid;
            record.started_at = at;
            if record.state == State::Created {
                record.state = State::Running;
            }
            systemd::release(std::mem::take(&mut record.keeper));
        }
        info!(container = container.id, pid, "container runs");
        self.publish_container(container, ContainerEventType::ContainerStartedEvent);
        // Nobody waits for it: as long as the container runs, its shim tells the same.
        let (runtime, container) = (self.clone(), container.clone());
        tokio::spawn(blocking(move || {
            runtime.record_container(&container);
            Ok(())
        }));
    }

    /// It never ran: that is its end, with the code that shells use for commands that cannot be run.
    async fn start_failed(self: &Arc<Self>, container: &Arc<Container>, message: &str) {
        {
            let mut record = container.record.lock();
            record.state = State::Exited;
            record.finished_at = crate::events::now();
            record.exit_code = 128;
            record.reason = "StartError".to_owned();
            record.message = message.to_owned();
        }
        self.finish_container(container);
    }

    pub fn oci_delete(&self, handler: &Handler, id: &str, bundle: &Path) {
        if let Handler::External(binary) = handler {
            let mut argv = self.oci_command(binary, bundle);
            argv.extend(["delete", "--force", id].map(str::to_owned));
            let result = std::process::Command::new(binary).args(&argv[1..]).output();
            if let Err(error) = result {
                warn!(container = id, %error, "could not run the OCI runtime's delete");
            }
        }
    }
}

/// Through /proc, because a socket's path may be 107 bytes at most and an OCI runtime may run anywhere.
pub fn console_path(container: &Container, name: &str) -> String {
    format!("/proc/{}/cwd/{name}", container.sandbox.record.lock().shim_pid)
}
