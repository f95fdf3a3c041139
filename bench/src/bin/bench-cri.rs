//! How fast a container runtime is, by its CRI socket: pods one after the other and many at once, and pulls.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bench::Samples;
use clap::Parser;
use cri::v1::image_service_client::ImageServiceClient;
use cri::v1::runtime_service_client::RuntimeServiceClient;
use cri::v1::*;
use futures::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

#[derive(Parser)]
struct Args {
    /// The runtime's socket
    #[arg(long, default_value = "/run/corten/cri.sock")]
    socket: PathBuf,
    /// The pods' image; it is there already
    #[arg(long, default_value = "docker.io/library/busybox:1.36")]
    image: String,
    /// Pods made and removed one after the other
    #[arg(long, default_value_t = 50)]
    serial: u32,
    /// Pods made at once, then removed at once
    #[arg(long, default_value_t = 50)]
    parallel: u32,
    /// How many of those at the same time
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Pods in the node's network, to leave networks out of the figures
    #[arg(long)]
    host_network: bool,
    /// The pod network to tell the runtime, as a kubelet would
    #[arg(long)]
    pod_cidr: Option<String>,
    #[arg(long, default_value = "")]
    runtime_handler: String,
    /// An image to pull, and remove, again and again
    #[arg(long)]
    pull: Option<String>,
    #[arg(long, default_value_t = 5)]
    pulls: u32,
}

const PHASES: [&str; 5] =
    ["run sandbox", "create container", "start container", "stop, remove container", "stop, remove sandbox"];

#[derive(Clone)]
struct Runtime {
    client: RuntimeServiceClient<Channel>,
    args: Arc<Args>,
    run: u128,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Arc::new(Args::parse());
    let channel = connect(&args.socket).await?;
    let mut client = RuntimeServiceClient::new(channel.clone());
    let version = client.version(VersionRequest::default()).await?.into_inner();
    println!("{} {} at {}", version.runtime_name, version.runtime_version, args.socket.display());
    if let Some(pod_cidr) = args.pod_cidr.clone() {
        let network_config = Some(NetworkConfig { pod_cidr });
        let runtime_config = Some(RuntimeConfig { network_config });
        client.update_runtime_config(UpdateRuntimeConfigRequest { runtime_config }).await?;
    }
    let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let runtime = Runtime { client, args: args.clone(), run };
    if let Some(image) = &args.pull {
        pulls(channel, image, args.pulls).await?;
    }
    // The first pays for what is made once.
    runtime.life(0).await?;
    runtime.serial().await?;
    runtime.parallel().await
}

async fn connect(socket: &Path) -> Result<Channel> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://cri")
        .connect_with_connector(connector)
        .await
        .with_context(|| format!("cannot connect to {}", socket.display()))
}

async fn pulls(channel: Channel, image: &str, count: u32) -> Result<()> {
    let mut client = ImageServiceClient::new(channel);
    let spec = || Some(ImageSpec { image: image.to_owned(), ..Default::default() });
    let mut samples = Samples::default();
    for _ in 0..count {
        client.remove_image(RemoveImageRequest { image: spec() }).await?;
        let since = Instant::now();
        client.pull_image(PullImageRequest { image: spec(), ..Default::default() }).await?;
        samples.add(since.elapsed());
    }
    samples.print("pull");
    Ok(())
}

impl Runtime {
    fn pod(&self, number: u32) -> PodSandboxConfig {
        let network = if self.args.host_network { NamespaceMode::Node } else { NamespaceMode::Pod };
        let options = NamespaceOption {
            network: network as i32,
            pid: NamespaceMode::Container as i32,
            ..Default::default()
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: format!("bench-{number}"),
                uid: format!("{}-{number}", self.run),
                namespace: "bench".to_owned(),
                attempt: 0,
            }),
            hostname: if self.args.host_network { String::new() } else { format!("bench-{number}") },
            log_directory: format!("/tmp/bench-cri-{}", self.run),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: "/bench-cri".to_owned(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn container(&self, number: u32) -> ContainerConfig {
        let options = NamespaceOption { pid: NamespaceMode::Container as i32, ..Default::default() };
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: self.args.image.clone(), ..Default::default() }),
            command: vec!["sleep".to_owned(), "100000".to_owned()],
            log_path: format!("{number}.log"),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources {
                    cpu_shares: 100,
                    memory_limit_in_bytes: 64 << 20,
                    ..Default::default()
                }),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(options),
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    async fn up(&self, number: u32) -> Result<(String, String, Vec<Duration>)> {
        let mut client = self.client.clone();
        let mut times = Vec::new();
        let since = Instant::now();
        let request = RunPodSandboxRequest {
            config: Some(self.pod(number)),
            runtime_handler: self.args.runtime_handler.clone(),
        };
        let pod_sandbox_id = client.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
        times.push(since.elapsed());
        let since = Instant::now();
        let request = CreateContainerRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
            config: Some(self.container(number)),
            sandbox_config: Some(self.pod(number)),
        };
        let container_id = client.create_container(request).await?.into_inner().container_id;
        times.push(since.elapsed());
        let since = Instant::now();
        client.start_container(StartContainerRequest { container_id: container_id.clone() }).await?;
        times.push(since.elapsed());
        Ok((pod_sandbox_id, container_id, times))
    }

    async fn down(&self, pod_sandbox_id: String, container_id: String) -> Result<Vec<Duration>> {
        let mut client = self.client.clone();
        let since = Instant::now();
        client
            .stop_container(StopContainerRequest { container_id: container_id.clone(), timeout: 0 })
            .await?;
        client.remove_container(RemoveContainerRequest { container_id }).await?;
        let container = since.elapsed();
        let since = Instant::now();
        client.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await?;
        client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await?;
        Ok(vec![container, since.elapsed()])
    }

    async fn life(&self, number: u32) -> Result<Vec<Duration>> {
        let (sandbox, container, mut times) = self.up(number).await?;
        times.extend(self.down(sandbox, container).await?);
        Ok(times)
    }

    async fn serial(&self) -> Result<()> {
        let mut samples: [Samples; PHASES.len()] = Default::default();
        let mut whole = Samples::default();
        for number in 0..self.args.serial {
            let times = self.life(number).await?;
            whole.add(times.iter().sum());
            for (samples, time) in samples.iter_mut().zip(times) {
                samples.add(time);
            }
        }
        println!("one pod after the other:");
        for (name, samples) in PHASES.iter().zip(samples) {
            samples.print(name);
        }
        whole.print("all of it");
        Ok(())
    }

    async fn parallel(&self) -> Result<()> {
        let at_once = self.args.at_once;
        let since = Instant::now();
        let up = stream::iter(0..self.args.parallel).map(|n| self.up(n)).buffer_unordered(at_once);
        let pods: Vec<_> = up.try_collect().await?;
        println!("{} pods at once: up in {:.0} ms", pods.len(), since.elapsed().as_secs_f64() * 1e3);
        let since = Instant::now();
        let down = pods.into_iter().map(|(sandbox, container, _)| self.down(sandbox, container));
        let down: Vec<_> = stream::iter(down).buffer_unordered(at_once).try_collect().await?;
        println!("{} pods at once: down in {:.0} ms", down.len(), since.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
}
