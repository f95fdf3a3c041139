//! The container runtime, as CRI shows it.
//!
//! [`Cri`] is a thin, cloneable client: one method per call that the kubelet makes, errors naming the call.
//! [`view`] has the small types that the rest of the kubelet works with, [`events`] turns the runtime's event
//! stream (or, where the runtime has none, a slow relist) into them.

pub mod events;
pub mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{self as cri};
use tonic::{Code, Request};

use crate::meters::calls::Metered;
use crate::unix;

/// Long messages happen: a node's whole container list.
const MAX_MESSAGE: usize = 16 << 20;
/// Upstream's bound on ordinary calls.
const CALL: Duration = Duration::from_secs(120);
/// The name by which our own runtime goes.
const OURS: &str = "corten";

/// A CRI call failed. The runtime's words are kept as they are: users know them from pod events.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CriError {
    pub call: &'static str,
    pub code: Code,
    pub message: String,
}

impl CriError {
    fn new(call: &'static str, status: tonic::Status) -> Self {
        // As gRPC clients in Go word it, which is what users search for.
        let code = status.code();
        Self { call, code, message: format!("rpc error: code = {code:?} desc = {}", status.message()) }
    }

    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }
}

type Result<T> = std::result::Result<T, CriError>;

/// Both CRI services on one connection.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Metered>,
    images: ImageServiceClient<Metered>,
    /// `corten`, `containerd`: the scheme of container IDs in the API.
    pub name: Arc<str>,
    pub version: Arc<str>,
}

/// Defines methods `name(request) -> response` for calls that need no more than that.
macro_rules! calls {
    ($($client:ident . $name:ident ( $request:ident ) -> $response:ident;)*) => {
        $(pub async fn $name(&self, request: cri::$request) -> Result<cri::$response> {
            let mut request = Request::new(request);
            request.set_timeout(CALL);
            let mut client = self.$client.clone();
            call(stringify!($name), async move { client.$name(request).await }).await
        })*
    };
}

impl Cri {
    /// Connects and asks for the runtime's name.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let channel = Metered(unix::channel(socket));
        let mut this = Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE),
            name: "".into(),
            version: "".into(),
        };
        let version = this.version(cri::VersionRequest { version: "0.1.0".into() }).await?;
        this.name = version.runtime_name.into();
        this.version = version.runtime_version.into();
        Ok(this)
    }

    calls! {
        runtime.version(VersionRequest) -> VersionResponse;
        runtime.runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
        runtime.status(StatusRequest) -> StatusResponse;
        runtime.update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
        runtime.list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
        runtime.list_containers(ListContainersRequest) -> ListContainersResponse;
        runtime.update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        runtime.create_container(CreateContainerRequest) -> CreateContainerResponse;
        runtime.checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
        runtime.exec(ExecRequest) -> ExecResponse;
        runtime.attach(AttachRequest) -> AttachResponse;
        runtime.port_forward(PortForwardRequest) -> PortForwardResponse;
        runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        runtime.list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
        runtime.list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
        runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
        images.list_images(ListImagesRequest) -> ListImagesResponse;
        images.image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
    }

    /// Whether its events can be relied on, to be complete and to tell the states as they are.
    pub fn is_ours(&self) -> bool {
        &*self.name == OURS
    }

    /// Whether systemd makes the runtime's cgroups; nothing when it does not say.
    pub async fn has_systemd_cgroups(&self) -> Option<bool> {
        let answer = self.runtime_config(cri::RuntimeConfigRequest {}).await.ok()?;
        Some(answer.linux?.cgroup_driver == cri::CgroupDriver::Systemd as i32)
    }

    /// Runs a sandbox. Making its network may take long: no deadline but upstream's four minutes.
    pub async fn run_pod_sandbox(
        &self,
        config: cri::PodSandboxConfig,
        runtime_handler: String,
    ) -> Result<String> {
        let mut request = Request::new(cri::RunPodSandboxRequest { config: Some(config), runtime_handler });
        request.set_timeout(2 * CALL);
        let mut client = self.runtime.clone();
        let response = call("run_pod_sandbox", async move { client.run_pod_sandbox(request).await }).await?;
        Ok(response.pod_sandbox_id)
    }

    pub async fn pod_sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let (name, mut client) = ("pod_sandbox_status", self.runtime.clone());
        let response = call(name, async move { client.pod_sandbox_status(request).await }).await?;
        response.status.ok_or_else(|| CriError::new(name, tonic::Status::not_found("no status")))
    }

    pub async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let (name, mut client) = ("container_status", self.runtime.clone());
        let response = call(name, async move { client.container_status(request).await }).await?;
        response.status.ok_or_else(|| CriError::new(name, tonic::Status::not_found("no status")))
    }

    /// Idempotent, like every stop and remove of CRI: what is not there counts as done.
    pub async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.runtime.clone();
        done(call("stop_pod_sandbox", async move { client.stop_pod_sandbox(request).await }).await)
    }

    /// Removes the sandbox with its containers.
    pub async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        let request = cri::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        let mut client = self.runtime.clone();
        done(call("remove_pod_sandbox", async move { client.remove_pod_sandbox(request).await }).await)
    }

    pub async fn start_container(&self, id: &str) -> Result<()> {
        let request = cri::StartContainerRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        call("start_container", async move { client.start_container(request).await }).await.map(drop)
    }

    /// Asks the container to end and kills it after `timeout` seconds. Returns when it has ended.
    pub async fn stop_container(&self, id: &str, timeout: i64) -> Result<()> {
        let request = cri::StopContainerRequest { container_id: id.to_owned(), timeout };
        let mut client = self.runtime.clone();
        done(call("stop_container", async move { client.stop_container(request).await }).await)
    }

    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let request = cri::RemoveContainerRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        done(call("remove_container", async move { client.remove_container(request).await }).await)
    }

    pub async fn reopen_container_log(&self, id: &str) -> Result<()> {
        let request = cri::ReopenContainerLogRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        call("reopen_container_log", async move { client.reopen_container_log(request).await })
            .await
            .map(drop)
    }

    /// Runs a command to its end; the runtime ends it after `timeout`.
    pub async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        timeout: Duration,
    ) -> Result<cri::ExecSyncResponse> {
        let request = cri::ExecSyncRequest {
            container_id: id.to_owned(),
            cmd,
            timeout: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        };
        let mut client = self.runtime.clone();
        call("exec_sync", async move { client.exec_sync(request).await }).await
    }

    /// The bytes of memory that a running container uses.
    pub async fn container_memory(&self, id: &str) -> Result<u64> {
        let request = cri::ContainerStatsRequest { container_id: id.to_owned() };
        let mut client = self.runtime.clone();
        let stats =
            call("container_stats", async move { client.container_stats(request).await }).await?.stats;
        let memory = stats.and_then(|stats| stats.memory).unwrap_or_default();
        let used = memory.usage_bytes.or(memory.working_set_bytes);
        Ok(used.map_or(0, |bytes| bytes.value))
    }

    pub async fn container_events(&self) -> Result<tonic::Streaming<cri::ContainerEventResponse>> {
        let mut client = self.runtime.clone();
        let events = async move { client.get_container_events(cri::GetEventsRequest {}).await };
        call("get_container_events", events).await
    }

    /// The image, if the runtime has it.
    pub async fn image_status(&self, image: &str) -> Result<Option<cri::Image>> {
        let request = cri::ImageStatusRequest { image: Some(image_spec(image)), verbose: false };
        let mut client = self.images.clone();
        match call("image_status", async move { client.image_status(request).await }).await {
            Ok(response) => Ok(response.image),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls without a deadline: only the runtime knows whether it is getting on.
    pub async fn pull_image(
        &self,
        image: &str,
        auth: Option<cri::AuthConfig>,
        sandbox_config: Option<cri::PodSandboxConfig>,
    ) -> Result<String> {
        let request = cri::PullImageRequest { image: Some(image_spec(image)), auth, sandbox_config };
        let mut client = self.images.clone();
        Ok(call("pull_image", async move { client.pull_image(request).await }).await?.image_ref)
    }

    pub async fn remove_image(&self, image: &str) -> Result<()> {
        let request = cri::RemoveImageRequest { image: Some(image_spec(image)) };
        let mut client = self.images.clone();
        done(call("remove_image", async move { client.remove_image(request).await }).await)
    }
}

pub fn image_spec(image: &str) -> cri::ImageSpec {
    cri::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..Default::default() }
}

/// A call in memory of its own, for as long as it lasts: a future of tonic's has kilobytes, and whatever awaits it, one
/// task for each pod, would have them too.
fn call<T>(
    name: &'static str,
    call: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
) -> impl Future<Output = Result<T>> {
    let call = Box::pin(call);
    async move { call.await.map(tonic::Response::into_inner).map_err(|status| CriError::new(name, status)) }
}

/// What is not there counts as done.
fn done<T>(result: Result<T>) -> Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
    }
}
