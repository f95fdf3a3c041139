//! A whole cluster of one node, in this process.

use std::time::Instant;

use anyhow::Result;
use client::{Delta, Informer, Informers};
use k8s_openapi::api::core::v1::Node as NodeObject;
use tracing::info;

use super::control_plane;
use super::leading::Leading;
use super::pages::Pages;
use super::ranges;
use super::worker::{self, KubeletFiles, Node};
use crate::cli::UpArgs;
use crate::kubelet_flags::FurtherFlags;
use crate::layout::Layout;
use crate::parts::{self, Parts};
use crate::{notify, shim, signals};

pub async fn up(layout: &Layout, mut args: UpArgs) -> Result<()> {
    let begin = Instant::now();
    let _lock = parts::lock(layout)?;
    let mut parts = Parts::new(signals::shutdown()?);
    ranges::settle(&mut args.cluster)?;
    let node = Node::from_args(&args.node, &args.cluster.network, &args.kubelet, &FurtherFlags::default())?;

    // The runtime needs nobody: it recovers what runs while the API server loads.
    let (gate, requests) = netpolicy::Gate::new();
    worker::start_runtime(&mut parts, layout, &args.runtime, &node, shim::unpack(&layout.root)?, gate)?;
    let plane = control_plane::start(&mut parts, layout, &args.cluster).await?;
    let informers = plane.informers();
    let leading = Leading::beside(&args.cluster.leader, args.cluster.etcd.options().is_some());
    let (authority, signing) = (plane.authority(), plane.signing()?);
    let config =
        control_plane::controllers_config(authority, signing, &node.network, &args.cluster.lifecycle);
    control_plane::start_controllers(
        &mut parts,
        &informers,
        config,
        &leading,
        Pages::beside(informers.client(), control_plane::CONTROLLERS),
    )?;
    let scheduling = informers.acting_as(plane.scheduler_client());
    let pages = Pages::beside(scheduling.client(), super::scheduling::PORT);
    super::scheduling::start(&mut parts, scheduling, &leading, scheduler::Config::default(), pages)?;
    let files = plane.pki().node(&node.name, &node.ips)?;
    let files = KubeletFiles {
        cri_socket: layout.cri_socket(),
        tls_cert: files.serving_certificate,
        tls_key: files.serving_key,
        client_ca: layout.pki().join("ca.crt"),
        cert_dir: layout.kubelet().join("pki"),
        bootstrapped: false,
        joined: false,
        tls_signed: true,
    };
    worker::start_kubelet(&mut parts, layout, plane.node_client(&node.name), &node, files)?;
    worker::start_network(&mut parts, &informers, &node)?;
    worker::start_policies(&mut parts, &informers, &node, &args.runtime, requests);
    worker::start_overlay(&mut parts, &informers, &node, &args.runtime);
    plane.publish(&informers.client(), &args.cluster).await?;

    let (shutdown, name) = (parts.shutdown(), node.name.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = ready(&informers, &name) => {
                info!(node = name, after = ?begin.elapsed(), "the node is Ready");
                notify::status("node is Ready");
                super::started();
            }
            () = shutdown.cancelled() => {}
        }
    });
    parts.finish().await
}

/// Resolves when the node's condition Ready is True.
async fn ready(informers: &Informers, name: &str) {
    let nodes: Informer<NodeObject> = informers.all();
    let mut changes = nodes.subscribe();
    while let Some(change) = changes.recv().await {
        let (Delta::Added(node) | Delta::Updated { new: node, .. }) = change else { continue };
        let conditions =
            node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let is_ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        if node.metadata.name.as_deref() == Some(name) && is_ready {
            return;
        }
    }
}
