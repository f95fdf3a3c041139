//! `RUN`: a container of a runtime behind the CRI, whose changes become a layer.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::{
    ContainerConfig, ContainerEventType, ContainerMetadata, ContainerStatusRequest, CreateContainerRequest,
    GetEventsRequest, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, SecurityProfile, StartContainerRequest,
};
use hyper_util::rt::TokioIo;
use rustix::fs::{CWD, FileType, Mode};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Printer;

/// A command to be run in an image.
pub struct Order {
    pub image: String,
    pub command: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Path of the host, path in the container, whether it is read-only.
    pub mounts: Vec<(PathBuf, String, bool)>,
}

/// Runs commands, each in a container of its own, all in one sandbox.
pub struct Runner {
    client: RuntimeServiceClient<Channel>,
    sandbox: Option<(String, PodSandboxConfig)>,
    logs: tempfile::TempDir,
    count: u32,
}

/// A container that has ended well, until it is removed.
pub struct Ran {
    id: String,
    /// The directory with what it changed.
    pub upper: PathBuf,
}

impl Runner {
    pub async fn connect(socket: &Path) -> Result<Self, String> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://cri").connect_with_connector(connector).await;
        let channel =
            channel.map_err(|e| format!("connect to the container runtime at {}: {e}", socket.display()))?;
        let logs = tempfile::tempdir().map_err(|e| format!("make a directory for logs: {e}"))?;
        Ok(Self { client: RuntimeServiceClient::new(channel), sandbox: None, logs, count: 0 })
    }

    /// In the node's network: a build fetches what it needs.
    async fn sandbox(&mut self) -> Result<(String, PodSandboxConfig), String> {
        if let Some(sandbox) = &self.sandbox {
            return Ok(sandbox.clone());
        }
        let name = format!("build-{}", std::process::id());
        let options = NamespaceOption {
            network: NamespaceMode::Node as i32,
            pid: NamespaceMode::Container as i32,
            ..NamespaceOption::default()
        };
        let security_context =
            Some(LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() });
        let config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                uid: name.clone(),
                name,
                namespace: "build".to_owned(),
                attempt: 0,
            }),
            log_directory: self.logs.path().display().to_string(),
            linux: Some(LinuxPodSandboxConfig { security_context, ..Default::default() }),
            ..PodSandboxConfig::default()
        };
        let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let made = self.client.run_pod_sandbox(request).await.map_err(told)?;
        let sandbox = (made.into_inner().pod_sandbox_id, config);
        self.sandbox = Some(sandbox.clone());
        Ok(sandbox)
    }

    /// Runs the command to its end; what it writes is printed as it comes.
    pub async fn run(&mut self, order: Order, printer: &Printer) -> Result<Ran, String> {
        let (sandbox, config) = self.sandbox().await?;
        self.count += 1;
        let name = format!("run-{}", self.count);
        let log = self.logs.path().join(&name);
        let output = follow(&log, printer.clone()).map_err(|e| format!("make {}: {e}", log.display()))?;
        let mut events =
            self.client.get_container_events(GetEventsRequest {}).await.map_err(told)?.into_inner();
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox,
            config: Some(container(&name, &order)),
            sandbox_config: Some(config),
        };
        let id = self.client.create_container(request).await.map_err(told)?.into_inner().container_id;
        let request = StartContainerRequest { container_id: id.clone() };
        let started = self.client.start_container(request).await.map_err(told);
        if let Err(error) = started {
            self.remove(&id).await?;
            return Err(error);
        }
        loop {
            let event = events.message().await.map_err(told)?;
            let event = event.ok_or("the container runtime has gone")?;
            if event.container_id == id
                && event.container_event_type() == ContainerEventType::ContainerStoppedEvent
            {
                break;
            }
        }
        output.finish().await;
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
        let answer = self.client.container_status(request).await.map_err(told)?.into_inner();
        let status = answer.status.unwrap_or_default();
        if status.exit_code != 0 {
            self.remove(&id).await?;
            let shown = order.command.join(" ");
            let shown = shown.lines().next().unwrap_or_default();
            return Err(format!(
                "{shown:?} ended with exit code {}{}",
                status.exit_code,
                oom(&status.reason)
            ));
        }
        let upper =
            writable_layer(&answer.info).ok_or("the container runtime does not tell where its layers are")?;
        Ok(Ran { id, upper })
    }

    pub async fn done(&mut self, ran: Ran) -> Result<(), String> {
        self.remove(&ran.id).await
    }

    async fn remove(&mut self, id: &str) -> Result<(), String> {
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        self.client.remove_container(request).await.map(drop).map_err(told)
    }

    /// Removes the sandbox, with whatever is in it.
    pub async fn finish(&mut self) -> Result<(), String> {
        let Some((pod_sandbox_id, _)) = self.sandbox.take() else { return Ok(()) };
        let request = RemovePodSandboxRequest { pod_sandbox_id };
        self.client.remove_pod_sandbox(request).await.map(drop).map_err(told)
    }
}

fn told(status: tonic::Status) -> String {
    status.message().to_owned()
}

fn oom(reason: &str) -> &'static str {
    if reason == "OOMKilled" { ": it ran out of memory" } else { "" }
}

/// Our runtime says it among what it says of a container at length.
fn writable_layer(info: &HashMap<String, String>) -> Option<PathBuf> {
    let info: serde_json::Value = serde_json::from_str(info.get("info")?).ok()?;
    Some(PathBuf::from(info["writableLayer"].as_str()?))
}

fn container(name: &str, order: &Order) -> ContainerConfig {
    let environment = order.environment.iter();
    let mounts = order.mounts.iter().map(|(host, target, readonly)| Mount {
        host_path: host.display().to_string(),
        container_path: target.clone(),
        readonly: *readonly,
        ..Mount::default()
    });
    let options = NamespaceOption { pid: NamespaceMode::Container as i32, ..NamespaceOption::default() };
    let context = LinuxContainerSecurityContext {
        namespace_options: Some(options),
        seccomp: Some(SecurityProfile::default()),
        ..LinuxContainerSecurityContext::default()
    };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: order.image.clone(), ..ImageSpec::default() }),
        command: order.command.clone(),
        envs: environment.map(|(key, value)| KeyValue { key: key.clone(), value: value.clone() }).collect(),
        mounts: mounts.collect(),
        log_path: name.to_owned(),
        linux: Some(LinuxContainerConfig { security_context: Some(context), ..Default::default() }),
        ..ContainerConfig::default()
    }
}

/// Prints what a container writes, as it comes: its log is a pipe with a name.
struct Output {
    /// Keeps the pipe open until the container has ended, so that it ends only then.
    held: File,
    reader: tokio::task::JoinHandle<()>,
}

fn follow(log: &Path, printer: Printer) -> std::io::Result<Output> {
    rustix::fs::mknodat(CWD, log, FileType::Fifo, Mode::from(0o600), 0)?;
    // Both ways, so that neither side waits for the other to open it.
    let held = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(log)?;
    let reader = BufReader::new(File::open(log)?);
    let reader = tokio::task::spawn_blocking(move || {
        for line in reader.split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line);
            // Time, stream, and whether the line is whole come first.
            printer.output(text.splitn(4, ' ').nth(3).unwrap_or_default());
        }
    });
    Ok(Output { held, reader })
}

impl Output {
    /// The shim has closed its end by the time it tells that the container has ended; what is in the pipe is read.
    async fn finish(self) {
        drop(self.held);
        let _ = self.reader.await;
    }
}
