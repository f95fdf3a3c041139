//! RuntimeService.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_cri::v1::runtime_service_server::RuntimeService;
use k8s_cri::v1::*;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use super::lists::{Pages, pages};
use super::{Service, status};
use crate::container;
use crate::state::blocking;
use crate::streaming_server::Session;
use crate::{Error, Result};

type Answer<T> = std::result::Result<Response<T>, Status>;

fn answer<T>(value: T) -> Answer<T> {
    Ok(Response::new(value))
}

/// What is asked to go and is gone already is no error.
fn unless_gone<T>(found: Result<Arc<T>>) -> Result<Option<Arc<T>>> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[async_trait::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer(VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "corten".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let request = request.into_inner();
        let config =
            request.config.ok_or_else(|| Status::invalid_argument("the request has no sandbox config"))?;
        let pod_sandbox_id = self.0.run_sandbox(config, request.runtime_handler).await?;
        answer(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        if let Some(sandbox) = unless_gone(self.0.sandboxes.get(&request.into_inner().pod_sandbox_id))? {
            self.0.stop_sandbox(&sandbox).await?;
        }
        answer(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        if let Some(sandbox) = unless_gone(self.0.sandboxes.get(&request.into_inner().pod_sandbox_id))? {
            self.0.remove_sandbox(&sandbox).await?;
        }
        answer(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        let sandbox = self.0.sandboxes.get(&request.pod_sandbox_id)?;
        let info = if request.verbose { info(&sandbox.info()) } else { HashMap::new() };
        answer(PodSandboxStatusResponse {
            status: Some(sandbox.status()),
            info,
            containers_statuses: self.0.containers_of(&sandbox.id).iter().map(|c| c.status()).collect(),
            timestamp: crate::events::now(),
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        answer(ListPodSandboxResponse { items: self.0.list_sandboxes(request.into_inner().filter) })
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let config =
            request.config.ok_or_else(|| Status::invalid_argument("the request has no container config"))?;
        let sandbox = self.0.sandboxes.get(&request.pod_sandbox_id)?;
        let container_id = self.0.create_container(&sandbox, config).await?;
        answer(CreateContainerResponse { container_id })
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let container = self.0.containers.get(&request.into_inner().container_id)?;
        self.0.start_container(&container).await?;
        answer(StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        if let Some(container) = unless_gone(self.0.containers.get(&request.container_id))? {
            self.0.stop_container(&container, request.timeout).await?;
        }
        answer(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        if let Some(container) = unless_gone(self.0.containers.get(&request.into_inner().container_id))? {
            self.0.remove_container(&container).await?;
        }
        answer(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        answer(ListContainersResponse { containers: self.0.list_containers(request.into_inner().filter) })
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.0.containers.get(&request.container_id)?;
        let info = if request.verbose { info(&self.0.container_info(&container)) } else { HashMap::new() };
        answer(ContainerStatusResponse { status: Some(container.status()), info })
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let container = self.0.containers.get(&request.container_id)?;
        if let Some(limits) = request.linux {
            self.0.update_container(&container, limits).await?;
        }
        answer(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        let container = self.0.containers.get(&request.into_inner().container_id)?;
        if container.state() != container::State::Running {
            return Err(Status::failed_precondition(format!("container {} is not running", container.id)));
        }
        let reopen = shim_protocol::Request::ReopenLog { container: container.id.clone() };
        container.sandbox.shim.call(reopen).await?;
        answer(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        let container = self.0.containers.get(&request.container_id)?;
        let output = self.0.exec_sync(&container, &request.cmd, request.timeout).await?;
        answer(ExecSyncResponse { stdout: output.stdout, stderr: output.stderr, exit_code: output.code })
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let request = request.into_inner();
        let container = self.running(&request.container_id)?;
        let streams = streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("exec needs a command"));
        }
        let url = self.0.sessions.offer(Session::Exec { container, command: request.cmd, streams })?;
        answer(ExecResponse { url })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let request = request.into_inner();
        let container = self.running(&request.container_id)?;
        let streams = streams(request.stdin, request.stdout, request.stderr, request.tty)?;
        answer(AttachResponse { url: self.0.sessions.offer(Session::Attach { container, streams })? })
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.0.sandboxes.get(&request.pod_sandbox_id)?;
        if !sandbox.record.lock().ready {
            return Err(Status::failed_precondition(format!("sandbox {} is not running", sandbox.id)));
        }
        let port =
            |p: &i32| u16::try_from(*p).map_err(|_| Status::invalid_argument(format!("{p} is not a port")));
        let ports = request.port.iter().map(port).collect::<std::result::Result<_, _>>()?;
        answer(PortForwardResponse { url: self.0.sessions.offer(Session::PortForward { sandbox, ports })? })
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let container = self.0.containers.get(&request.into_inner().container_id)?;
        let runtime = self.0.clone();
        let stats = blocking(move || Ok(runtime.container_stats(&container))).await?;
        answer(ContainerStatsResponse { stats: Some(stats) })
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let (runtime, filter) = (self.0.clone(), request.into_inner().filter);
        let stats = blocking(move || Ok(runtime.list_container_stats(filter)));
        answer(ListContainerStatsResponse { stats: stats.await? })
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let sandbox = self.0.sandboxes.get(&request.into_inner().pod_sandbox_id)?;
        let runtime = self.0.clone();
        let stats = blocking(move || Ok(runtime.sandbox_stats(&sandbox))).await?;
        answer(PodSandboxStatsResponse { stats: Some(stats) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let (runtime, filter) = (self.0.clone(), request.into_inner().filter);
        let stats = blocking(move || Ok(runtime.list_sandbox_stats(filter)));
        answer(ListPodSandboxStatsResponse { stats: stats.await? })
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        let config = request.into_inner().runtime_config.and_then(|c| c.network_config);
        if let Some(cidr) = config.map(|c| c.pod_cidr).filter(|c| !c.is_empty()) {
            let runtime = self.0.clone();
            blocking(move || runtime.set_pod_cidr(&cidr)).await?;
        }
        answer(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let (runtime, verbose) = (self.0.clone(), request.into_inner().verbose);
        answer(blocking(move || Ok(status::status(&runtime, verbose))).await?)
    }

    async fn checkpoint_container(
        &self,
        request: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        let container = self.running(&request.into_inner().container_id)?;
        Err(Status::unimplemented(format!(
            "container {} cannot be checkpointed: this runtime does not use CRIU",
            container.id
        )))
    }

    type GetContainerEventsStream =
        Pin<Box<dyn Stream<Item = std::result::Result<ContainerEventResponse, Status>> + Send + 'static>>;

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.0.events.subscribe());
        let told =
            events.map(|event| event.map_err(|lagged| Status::data_loss(format!("too slow: {lagged}"))));
        answer(Box::pin(told))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        answer(ListMetricDescriptorsResponse { descriptors: crate::stats::metrics::descriptors() })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        let runtime = self.0.clone();
        answer(ListPodSandboxMetricsResponse { pod_metrics: blocking(move || Ok(runtime.metrics())).await? })
    }

    type StreamPodSandboxesStream = Pages<StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let sandboxes = self.0.list_sandboxes(request.into_inner().filter);
        answer(pages(sandboxes, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
    }

    type StreamContainersStream = Pages<StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let containers = self.0.list_containers(request.into_inner().filter);
        answer(pages(containers, |containers| StreamContainersResponse { containers }))
    }

    type StreamContainerStatsStream = Pages<StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let (runtime, filter) = (self.0.clone(), request.into_inner().filter);
        let stats = blocking(move || Ok(runtime.list_container_stats(filter))).await?;
        answer(pages(stats, |container_stats| StreamContainerStatsResponse { container_stats }))
    }

    type StreamPodSandboxStatsStream = Pages<StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let (runtime, filter) = (self.0.clone(), request.into_inner().filter);
        let stats = blocking(move || Ok(runtime.list_sandbox_stats(filter))).await?;
        answer(pages(stats, |pod_sandbox_stats| StreamPodSandboxStatsResponse { pod_sandbox_stats }))
    }

    type StreamPodSandboxMetricsStream = Pages<StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let runtime = self.0.clone();
        let metrics = blocking(move || Ok(runtime.metrics())).await?;
        answer(pages(metrics, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse { pod_sandbox_metrics }))
    }

    /// The kubelet has set the pod's own group already; what is asked of us is to remember.
    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        let sandbox = self.0.sandboxes.get(&request.pod_sandbox_id)?;
        {
            let mut record = sandbox.record.lock();
            let linux = record.config.linux.get_or_insert_default();
            linux.overhead = request.overhead.or(linux.overhead.take());
            linux.resources = request.resources.or(linux.resources.take());
        }
        let runtime = self.0.clone();
        blocking(move || runtime.save_sandbox(&sandbox)).await?;
        answer(UpdatePodSandboxResourcesResponse {})
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let driver = if self.0.systemd.is_some() { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
        let linux = LinuxRuntimeConfiguration { cgroup_driver: driver as i32 };
        answer(RuntimeConfigResponse { linux: Some(linux) })
    }
}

impl Service {
    fn running(&self, id: &str) -> Result<Arc<container::Container>> {
        let container = self.0.containers.get(id)?;
        match container.state() {
            container::State::Running => Ok(container),
            state => {
                Err(Error::FailedPrecondition(format!("container {id} is in state {state:?}, not Running")))
            }
        }
    }
}

fn streams(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<streaming::Streams> {
    if tty && stderr {
        return Err(Error::InvalidArgument(
            "tty and stderr cannot both be true: a terminal has one output".into(),
        ));
    }
    if !(stdin || stdout || stderr) {
        return Err(Error::InvalidArgument("one of stdin, stdout and stderr must be true".into()));
    }
    Ok(streaming::Streams { stdin, stdout, stderr, tty })
}

fn info(record: &impl serde::Serialize) -> HashMap<String, String> {
    let text = serde_json::to_string(record).unwrap_or_default();
    HashMap::from([("info".to_owned(), text)])
}
