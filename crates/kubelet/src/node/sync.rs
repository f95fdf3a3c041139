//! Registers the node and keeps its status true: told when it changes, and every five minutes anyway.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::{Delta, Subscription};
use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeStatus,
};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::advertised;
use super::object::{SERVING_CERTIFICATE, base_status, own_labels, registration, serving_certificate};
use super::status::{Health, conditions, runtime_trouble};
use crate::context::Context;

/// While not ready, readiness is what everybody waits for.
const CHECK_UNREADY: Duration = Duration::from_millis(250);

/// Until `shutdown`; `changed` says that something has happened that may make the node ready.
pub async fn keep(ctx: Arc<Context>, changed: Arc<Notify>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep_forever(ctx, changed) => {}
    }
}

async fn keep_forever(ctx: Arc<Context>, changed: Arc<Notify>) {
    let mut old = register(&ctx).await;
    tell_of_start(&ctx, &old);
    let report_every = report_frequency(&ctx);
    // How often the runtime and the machine are asked how they are. Nobody tells us that.
    let check = crate::config::duration(&ctx.options.config.node_status_update_frequency);
    let check = check.unwrap_or(Duration::from_secs(10)).max(Duration::from_secs(1));
    let mut reported: Option<Instant> = None;
    let mut told = ctx.node.subscribe();
    loop {
        let known = known(&ctx);
        if is_doubted(&known) {
            // The node was silent for too long, and others have written so: what was reported is no longer there.
            old = known;
        }
        let status = gather(&ctx, &old).await;
        let ready = is_ready(&status);
        if reported.is_none_or(|at| at.elapsed() >= report_every) || differs(&old, &status) {
            match report(&ctx, &status).await {
                Ok(()) => {
                    if ready && !is_ready(&old) {
                        info!(node = ctx.options.node_name, "node is ready");
                    }
                    if ready {
                        ctx.milestones.lock().ready.get_or_insert_with(Timestamp::now);
                    }
                    tell_of_changes(&ctx, &old, &status);
                    old = status;
                    reported = Some(Instant::now());
                }
                Err(kube::Error::Api(status)) if status.code == 404 => old = register(&ctx).await,
                Err(error) => warn!(%error, "cannot report the node's status, trying again"),
            }
        }
        let wait = if ready && reported.is_some() { check } else { CHECK_UNREADY };
        tokio::select! {
            () = changed.notified() => {}
            () = ctx.csi.in_use_changed.notified() => {}
            () = ctx.devices.changed.notified() => {}
            () = ctx.shutdown.changed.notified() => {}
            () = doubt(&mut told) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What is said once, when the kubelet has found its node.
fn tell_of_start(ctx: &Context, known: &NodeStatus) {
    let name = &ctx.options.node_name;
    if ctx.options.config.cgroups_per_qos {
        let message = "Updated Node Allocatable limit across pods";
        ctx.events.node(name, false, "NodeAllocatableEnforced", message);
    }
    let booted = known.node_info.as_ref().map(|info| info.boot_id.as_str()).unwrap_or_default();
    if !booted.is_empty() && booted != ctx.machine.boot_id {
        let message = format!("Node {name} has been rebooted, boot id: {}", ctx.machine.boot_id);
        ctx.events.node(name, true, "Rebooted", &message);
    }
}

/// Events of conditions that are not what they were.
fn tell_of_changes(ctx: &Context, old: &NodeStatus, new: &NodeStatus) {
    let name = &ctx.options.node_name;
    for condition in new.conditions.iter().flatten() {
        let mut before = old.conditions.iter().flatten();
        if before.any(|before| before.type_ == condition.type_ && before.status == condition.status) {
            continue;
        }
        let on = condition.status == "True";
        let reason = match (condition.type_.as_str(), on) {
            ("Ready", true) => "NodeReady",
            ("Ready", false) => "NodeNotReady",
            ("MemoryPressure", true) => "NodeHasInsufficientMemory",
            ("MemoryPressure", false) => "NodeHasSufficientMemory",
            ("DiskPressure", true) => "NodeHasDiskPressure",
            ("DiskPressure", false) => "NodeHasNoDiskPressure",
            ("PIDPressure", true) => "NodeHasInsufficientPID",
            ("PIDPressure", false) => "NodeHasSufficientPID",
            _ => continue,
        };
        ctx.events.node(name, false, reason, &format!("Node {name} status is now: {reason}"));
    }
}

fn report_frequency(ctx: &Context) -> Duration {
    let text = &ctx.options.config.node_status_report_frequency;
    crate::config::duration(text).unwrap_or(Duration::from_secs(300))
}

/// Makes the Node object, or takes the one that is there; tries until it works.
async fn register(ctx: &Context) -> NodeStatus {
    let api: Api<Node> = Api::all(ctx.client.clone());
    let name = &ctx.options.node_name;
    let mut wait = Duration::from_millis(50);
    ctx.milestones.lock().asked.get_or_insert_with(Timestamp::now);
    loop {
        match try_register(ctx, &api).await {
            Ok(node) => {
                ctx.milestones.lock().registered.get_or_insert_with(Timestamp::now);
                ctx.events.node(name, false, "Starting", "Starting kubelet.");
                return node.status.unwrap_or_default();
            }
            Err(error) => debug!(%error, "cannot register the node, trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

async fn try_register(ctx: &Context, api: &Api<Node>) -> Result<Node, kube::Error> {
    let name = &ctx.options.node_name;
    if ctx.options.config.register_node {
        // With its status, so that it is whole from the first moment (servers that ignore it hear it next).
        let node = Node { status: Some(base_status(ctx)), ..registration(ctx) };
        match api.create(&PostParams::default(), &node).await {
            Ok(node) => {
                info!(node = name, "node registered");
                return Ok(node);
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    let node = api.get(name).await?;
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let own = own_labels(name);
    // What an earlier kubelet of the node has said of its certificate does not hold for this one's.
    let told = serving_certificate(ctx);
    let annotations = BTreeMap::from([(SERVING_CERTIFICATE, told.as_deref())]);
    let annotated = node.metadata.annotations.clone().unwrap_or_default();
    if own.iter().all(|(key, value)| labels.get(key) == Some(value))
        && annotations.iter().all(|(key, value)| annotated.get(*key).map(String::as_str) == *value)
    {
        return Ok(node);
    }
    let patch = serde_json::json!({"metadata": {"labels": own, "annotations": annotations}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

async fn gather(ctx: &Context, old: &NodeStatus) -> NodeStatus {
    let runtime = ctx.cri.status(cri::StatusRequest { verbose: false });
    let images = ctx.cri.list_images(cri::ListImagesRequest { filter: None });
    let (runtime, images) = tokio::join!(runtime, images);
    if let Ok(status) = &runtime {
        ctx.handlers.lock().clone_from(&status.runtime_handlers);
    }
    let (handlers, features) = abilities(runtime.as_ref().ok());
    let down = || ctx.shutdown.is_now().then(|| "node is shutting down".to_owned());
    let runtime = runtime_trouble(runtime).or_else(down);
    let health = Health { runtime, ..ctx.pressure.health(ctx) };
    let conditions = conditions(&health, old.conditions.as_deref().unwrap_or_default(), Timestamp::now());
    let mut status = NodeStatus {
        conditions: Some(conditions),
        images: images
            .ok()
            .map(|list| reported_images(list.images, ctx.options.config.node_status_max_images)),
        runtime_handlers: handlers,
        features,
        volumes_in_use: Some(ctx.csi.volumes_in_use()),
        ..base_status(ctx)
    };
    advertised::follow(&known(ctx), &mut status);
    status
}

/// The status that the API has.
fn known(ctx: &Context) -> NodeStatus {
    let node = ctx.node.get("", &ctx.options.node_name);
    node.and_then(|node| node.status.clone()).unwrap_or_default()
}

/// What the runtime says that it can do.
fn abilities(
    status: Option<&cri::StatusResponse>,
) -> (Option<Vec<NodeRuntimeHandler>>, Option<NodeFeatures>) {
    let Some(status) = status else { return (None, None) };
    let handlers: Vec<NodeRuntimeHandler> = status
        .runtime_handlers
        .iter()
        .map(|handler| NodeRuntimeHandler {
            name: Some(handler.name.clone()),
            features: handler.features.as_ref().map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        })
        .collect();
    let features = status.features.as_ref().map(|features| NodeFeatures {
        supplemental_groups_policy: Some(features.supplemental_groups_policy),
    });
    ((!handlers.is_empty()).then_some(handlers), features)
}

/// The largest ones, so many at most; all when negative.
fn reported_images(mut images: Vec<cri::Image>, most: i32) -> Vec<ContainerImage> {
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    images
        .into_iter()
        .take(usize::try_from(most).unwrap_or(usize::MAX))
        .map(|image| ContainerImage {
            names: Some(image.repo_digests.into_iter().chain(image.repo_tags).take(5).collect()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

fn is_ready(status: &NodeStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Somebody has said that nothing is known of this node. A kubelet never says so itself.
fn is_doubted(status: &NodeStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.status == "Unknown")
}

/// Resolves when the API's node says that nothing is known of it.
async fn doubt(told: &mut Subscription<Node>) {
    while let Some(change) = told.recv().await {
        if let Delta::Added(node) | Delta::Updated { new: node, .. } = change
            && node.status.as_ref().is_some_and(is_doubted)
        {
            return;
        }
    }
    std::future::pending().await
}

/// Differs in more than heartbeat times.
fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    let bare = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        // What others write.
        status.volumes_attached = None;
        status.volumes_in_use = status.volumes_in_use.filter(|volumes| !volumes.is_empty());
        status
    };
    bare(old) != bare(new)
}

async fn report(ctx: &Context, status: &NodeStatus) -> Result<(), kube::Error> {
    let api: Api<Node> = Api::all(ctx.client.clone());
    let mut patch = serde_json::json!({"status": status});
    advertised::forget(&known(ctx), status, &mut patch);
    let params = PatchParams::default();
    api.patch_status(&ctx.options.node_name, &params, &Patch::Strategic(patch)).await.map(drop)
}
