//! Tells the runtime which addresses its pods get, as soon as the node is given some.

use std::sync::Arc;
use std::time::Duration;

use client::Delta;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::context::Context;

const RETRY: Duration = Duration::from_millis(500);

fn pod_cidr(node: &Node) -> Option<String> {
    let spec = node.spec.as_ref()?;
    match spec.pod_cidrs.as_deref() {
        Some(cidrs) if !cidrs.is_empty() => Some(cidrs.join(",")),
        _ => spec.pod_cidr.clone().filter(|cidr| !cidr.is_empty()),
    }
}

/// Until `shutdown`; `changed` wakes whoever reports the node's readiness.
pub async fn follow(ctx: Arc<Context>, changed: Arc<Notify>, shutdown: CancellationToken) {
    let mut told: Option<String> = None;
    let mut wanted: Option<String> = None;
    let mut nodes = ctx.node.subscribe();
    loop {
        let again = wanted.is_some() && wanted != told;
        let delta: Option<Delta<Node>> = tokio::select! {
            () = shutdown.cancelled() => return,
            delta = nodes.recv() => delta,
            () = tokio::time::sleep(RETRY), if again => Some(Delta::Synced),
        };
        let Some(delta) = delta else { return };
        if let Some(cidr) = delta.object().and_then(|node| pod_cidr(node)) {
            wanted = Some(cidr);
        }
        let Some(cidr) = wanted.clone().filter(|cidr| told.as_ref() != Some(cidr)) else {
            continue;
        };
        let request = cri::UpdateRuntimeConfigRequest {
            runtime_config: Some(cri::RuntimeConfig {
                network_config: Some(cri::NetworkConfig { pod_cidr: cidr.clone() }),
            }),
        };
        match ctx.cri.update_runtime_config(request).await {
            Ok(_) => {
                info!(cidr, "the runtime knows the node's pod addresses");
                told = Some(cidr);
                changed.notify_one();
            }
            Err(error) => warn!(%error, cidr, "cannot tell the runtime the node's pod addresses"),
        }
    }
}
