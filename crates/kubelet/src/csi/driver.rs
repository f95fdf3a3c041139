//! One CSI driver: what it can do, and its calls.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugins::csi::node_client::NodeClient;
use plugins::csi::node_service_capability::{Type, rpc};
use plugins::csi::{self as api, NodeGetCapabilitiesRequest, NodeGetInfoRequest};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::{meters, unix};

/// Upstream's bound on calls of drivers.
const CALL: Duration = Duration::from_secs(120);

#[derive(Clone)]
pub struct Driver {
    /// Tells a driver from the one before it of the same name.
    pub registration: u64,
    name: Arc<str>,
    pub node_id: String,
    /// No limit when zero or less.
    pub max_volumes: i64,
    pub topology: BTreeMap<String, String>,
    capabilities: HashSet<i32>,
    client: NodeClient<Channel>,
}

/// A call to its end, timed under the driver's name.
async fn called<T>(
    driver: &str,
    call: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, String> {
    let began = Instant::now();
    let answer = answer.await;
    let code = format!("{:?}", answer.as_ref().err().map_or(Code::Ok, Status::code));
    let method = format!("/csi.v1.Node/{call}");
    let labels = [
        ("driver_name", driver),
        ("grpc_status_code", if code == "Ok" { "OK" } else { code.as_str() }),
        ("method_name", &method),
        ("migrated", "false"),
    ];
    meters::observe("csi_operations_seconds", &labels, began.elapsed());
    settle(call, answer)
}

fn settle<T>(call: &str, answer: Result<Response<T>, Status>) -> Result<T, String> {
    // As gRPC clients in Go word it, which is what users search for.
    answer.map(Response::into_inner).map_err(|status| {
        format!("{call}: rpc error: code = {:?} desc = {}", status.code(), status.message())
    })
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL);
    request
}

impl Driver {
    /// Asks the driver what there is to know.
    pub async fn ask(name: &str, endpoint: &Path) -> Result<Self, String> {
        let mut client = NodeClient::new(unix::channel(endpoint));
        let info = client.node_get_info(timed(NodeGetInfoRequest {})).await;
        let info = settle("NodeGetInfo", info).map_err(|error| format!("driver {name}: {error}"))?;
        if info.node_id.is_empty() {
            return Err(format!("driver {name}: NodeGetInfo returned no node ID"));
        }
        let capabilities = match client.node_get_capabilities(timed(NodeGetCapabilitiesRequest {})).await {
            Err(status) if status.code() == Code::Unimplemented => Vec::new(),
            answer => settle("NodeGetCapabilities", answer)?.capabilities,
        };
        let type_of =
            |capability: api::NodeServiceCapability| capability.r#type.map(|Type::Rpc(rpc)| rpc.r#type);
        Ok(Self {
            registration: rand::random(),
            name: name.into(),
            node_id: info.node_id,
            max_volumes: info.max_volumes_per_node,
            topology: info.accessible_topology.map(|t| t.segments.into_iter().collect()).unwrap_or_default(),
            capabilities: capabilities.into_iter().filter_map(type_of).collect(),
            client,
        })
    }

    pub fn can(&self, what: rpc::Type) -> bool {
        self.capabilities.contains(&(what as i32))
    }

    pub async fn stage(&self, request: api::NodeStageVolumeRequest) -> Result<(), String> {
        let mut client = self.client.clone();
        called(&self.name, "NodeStageVolume", client.node_stage_volume(timed(request))).await.map(drop)
    }

    pub async fn publish(&self, request: api::NodePublishVolumeRequest) -> Result<(), String> {
        let mut client = self.client.clone();
        called(&self.name, "NodePublishVolume", client.node_publish_volume(timed(request))).await.map(drop)
    }

    pub async fn unpublish(&self, request: api::NodeUnpublishVolumeRequest) -> Result<(), String> {
        let mut client = self.client.clone();
        called(&self.name, "NodeUnpublishVolume", client.node_unpublish_volume(timed(request)))
            .await
            .map(drop)
    }

    pub async fn unstage(&self, request: api::NodeUnstageVolumeRequest) -> Result<(), String> {
        let mut client = self.client.clone();
        called(&self.name, "NodeUnstageVolume", client.node_unstage_volume(timed(request))).await.map(drop)
    }

    pub async fn expand(&self, request: api::NodeExpandVolumeRequest) -> Result<i64, String> {
        let mut client = self.client.clone();
        let answer = called(&self.name, "NodeExpandVolume", client.node_expand_volume(timed(request))).await;
        answer.map(|answer| answer.capacity_bytes)
    }

    pub async fn stats(
        &self,
        request: api::NodeGetVolumeStatsRequest,
    ) -> Result<Vec<api::VolumeUsage>, String> {
        let mut client = self.client.clone();
        let answer =
            called(&self.name, "NodeGetVolumeStats", client.node_get_volume_stats(timed(request))).await;
        answer.map(|answer| answer.usage)
    }
}
