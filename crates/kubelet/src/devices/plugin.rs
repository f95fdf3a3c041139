//! One device plugin: its devices as it last told of them, and its calls.

use std::collections::BTreeMap;

use plugins::device as api;
use plugins::device::device_plugin_client::DevicePluginClient;
use tonic::Request;
use tonic::transport::Channel;

use super::CALL;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Device {
    pub healthy: bool,
    pub numa_nodes: Vec<i64>,
}

#[derive(Clone)]
pub struct Plugin {
    pub client: DevicePluginClient<Channel>,
    pub options: api::DevicePluginOptions,
    pub devices: BTreeMap<String, Device>,
    /// Tells a plugin from the one before it that served the same resource.
    pub generation: u64,
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

fn failed(call: &str) -> impl Fn(tonic::Status) -> String {
    move |status| format!("{call}: rpc error: code = {:?} desc = {}", status.code(), status.message())
}

pub fn devices(list: Vec<api::Device>) -> BTreeMap<String, Device> {
    let device = |device: api::Device| {
        let nodes = device.topology.map(|topology| topology.nodes).unwrap_or_default();
        let known = Device {
            healthy: device.health == "Healthy",
            numa_nodes: nodes.into_iter().map(|node| node.id).collect(),
        };
        (device.id, known)
    };
    list.into_iter().map(device).collect()
}

impl Plugin {
    pub fn healthy(&self) -> impl Iterator<Item = &String> {
        self.devices.iter().filter(|(_, device)| device.healthy).map(|(id, _)| id)
    }

    /// Which of the free ones, beside those that are taken anyway: the plugin may have preferences. What it prefers is
    /// only taken when it can be had.
    pub async fn choose(&self, free: Vec<String>, anyway: &[String], wanted: usize) -> Vec<String> {
        let first = || free.iter().take(wanted).cloned().collect();
        if wanted == 0 || !self.options.get_preferred_allocation_available {
            return first();
        }
        let request = api::PreferredAllocationRequest {
            container_requests: vec![api::ContainerPreferredAllocationRequest {
                available_device_i_ds: free.iter().chain(anyway).cloned().collect(),
                must_include_device_i_ds: anyway.to_vec(),
                allocation_size: i32::try_from(wanted + anyway.len()).unwrap_or(i32::MAX),
            }],
        };
        let answer = self.client.clone().get_preferred_allocation(timed(request)).await;
        let preferred =
            answer.ok().and_then(|answer| answer.into_inner().container_responses.into_iter().next());
        let mut ids = preferred.map(|preferred| preferred.device_i_ds).unwrap_or_default();
        ids.sort();
        ids.dedup();
        ids.retain(|id| !anyway.contains(id));
        if ids.len() == wanted && ids.iter().all(|id| free.contains(id)) { ids } else { first() }
    }

    pub async fn allocate(&self, ids: &[String]) -> Result<api::ContainerAllocateResponse, String> {
        let request = api::AllocateRequest {
            container_requests: vec![api::ContainerAllocateRequest { devices_ids: ids.to_vec() }],
        };
        let answer = self.client.clone().allocate(timed(request)).await.map_err(failed("Allocate"))?;
        let first = answer.into_inner().container_responses.into_iter().next();
        first.ok_or_else(|| "Allocate: the plugin has not answered for the container".to_owned())
    }

    pub async fn pre_start(&self, ids: &[String]) -> Result<(), String> {
        let request = api::PreStartContainerRequest { devices_ids: ids.to_vec() };
        let answer = self.client.clone().pre_start_container(timed(request)).await;
        answer.map(drop).map_err(failed("PreStartContainer"))
    }
}
