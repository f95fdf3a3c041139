//! The pod resources API: monitoring agents ask here which devices and CPUs pods have been given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use plugins::pod_resources as api;
use plugins::pod_resources::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tracing::warn;

use crate::context::Context;
use crate::meters;
use crate::pod::ext::PodExt;

struct Lister(Arc<Context>);

/// Serves until `shutdown`.
pub async fn serve(ctx: Arc<Context>, shutdown: CancellationToken) {
    let dir = ctx.options.root_dir.join("pod-resources");
    let socket = dir.join("kubelet.sock");
    let listener = std::fs::create_dir_all(&dir)
        .and_then(|()| match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .and_then(|()| UnixListener::bind(&socket));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => return warn!(socket = %socket.display(), %error, "the pod resources API is not served"),
    };
    let served = Server::builder()
        .add_service(PodResourcesListerServer::new(Lister(ctx)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown.cancelled_owned())
        .await;
    if let Err(error) = served {
        warn!(socket = %socket.display(), %error, "the pod resources API is not served any more");
    }
}

/// The version of the protocol.
const VERSION: [(&str, &str); 1] = [("server_api_version", "v1")];

fn asked(endpoint: &'static str) {
    meters::count("kubelet_pod_resources_endpoint_requests_total", &VERSION);
    meters::count(endpoint, &VERSION);
}

impl Lister {
    fn topology(nodes: Vec<i64>) -> Option<api::TopologyInfo> {
        let nodes: Vec<api::NumaNode> = nodes.into_iter().map(|id| api::NumaNode { id }).collect();
        (!nodes.is_empty()).then_some(api::TopologyInfo { nodes })
    }

    fn devices(&self, resource: String, ids: Vec<String>) -> api::ContainerDevices {
        let nodes: BTreeSet<i64> = ids.iter().flat_map(|id| self.0.devices.topology(&resource, id)).collect();
        let topology = Self::topology(nodes.into_iter().collect());
        api::ContainerDevices { resource_name: resource, device_ids: ids, topology }
    }

    fn memory(blocks: Vec<(Vec<u32>, String, u64)>) -> Vec<api::ContainerMemory> {
        let block = |(nodes, memory_type, size): (Vec<u32>, String, u64)| api::ContainerMemory {
            memory_type,
            size,
            topology: Self::topology(nodes.into_iter().map(i64::from).collect()),
        };
        blocks.into_iter().map(block).collect()
    }

    /// What the container has of its pod's claims.
    fn claimed(&self, pod: &Pod, container: &Container) -> Vec<api::DynamicResource> {
        let mut claims: BTreeMap<String, Vec<api::ClaimResource>> = BTreeMap::new();
        // Of claims that are not prepared yet, nobody has anything.
        for (claim, driver_name, device) in self.0.claims.devices(pod, container).unwrap_or_default() {
            claims.entry(claim).or_default().push(api::ClaimResource {
                cdi_devices: device.cdi_ids.into_iter().map(|name| api::CdiDevice { name }).collect(),
                driver_name,
                pool_name: device.pool,
                device_name: device.device,
            });
        }
        let resource = |(claim_name, claim_resources)| api::DynamicResource {
            claim_name,
            claim_namespace: pod.namespace().to_owned(),
            claim_resources,
        };
        claims.into_iter().map(resource).collect()
    }

    fn of(&self, pod: &Pod) -> api::PodResources {
        let spec = pod.pod_spec();
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|init| init.restart_policy.as_deref() == Some("Always"));
        let containers = sidecars.chain(&spec.containers).map(|container| {
            let given = self.0.devices.given(pod.runtime_uid(), &container.name);
            api::ContainerResources {
                name: container.name.clone(),
                devices: given
                    .into_iter()
                    .map(|(resource, given)| self.devices(resource, given.ids))
                    .collect(),
                cpu_ids: self
                    .0
                    .cpus
                    .given(pod.runtime_uid(), &container.name)
                    .into_iter()
                    .map(i64::from)
                    .collect(),
                memory: Self::memory(self.0.memory.blocks(pod.runtime_uid(), &container.name)),
                dynamic_resources: self.claimed(pod, container),
            }
        });
        api::PodResources {
            name: pod.name().to_owned(),
            namespace: pod.namespace().to_owned(),
            containers: containers.collect(),
        }
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<api::ListPodResourcesRequest>,
    ) -> Result<Response<api::ListPodResourcesResponse>, Status> {
        asked("kubelet_pod_resources_endpoint_requests_list");
        let active = self.0.pods.filter(|pod| !matches!(pod.phase(), "Succeeded" | "Failed"));
        let pod_resources = active.iter().map(|pod| self.of(pod)).collect();
        Ok(Response::new(api::ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<api::AllocatableResourcesRequest>,
    ) -> Result<Response<api::AllocatableResourcesResponse>, Status> {
        asked("kubelet_pod_resources_endpoint_requests_get_allocatable");
        let devices = self.0.devices.all().into_iter();
        // One by one, as each may be of another NUMA node.
        let devices = devices.flat_map(|(resource, ids)| {
            ids.into_iter().map(move |id| (resource.clone(), id)).collect::<Vec<_>>()
        });
        Ok(Response::new(api::AllocatableResourcesResponse {
            devices: devices.map(|(resource, id)| self.devices(resource, vec![id])).collect(),
            cpu_ids: self.0.cpus.allocatable().into_iter().map(i64::from).collect(),
            memory: Self::memory(self.0.memory.allocatable()),
        }))
    }

    async fn get(
        &self,
        request: Request<api::GetPodResourcesRequest>,
    ) -> Result<Response<api::GetPodResourcesResponse>, Status> {
        asked("kubelet_pod_resources_endpoint_requests_get");
        let request = request.into_inner();
        let pod = self.0.pods.get(&request.pod_namespace, &request.pod_name).ok_or_else(|| {
            meters::count("kubelet_pod_resources_endpoint_errors_get", &VERSION);
            Status::not_found(format!(
                "pod {} in namespace {} not found",
                request.pod_name, request.pod_namespace
            ))
        })?;
        Ok(Response::new(api::GetPodResourcesResponse { pod_resources: Some(self.of(&pod)) }))
    }
}
