//! Waiting until a volume is attached to this node. A controller attaches it when it sees that a pod here needs it.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Api;

use super::saved::attachment_name;
use crate::context::Context;

/// One attempt; the pod makes more of them.
const PATIENCE: Duration = Duration::from_secs(60);

/// The name of the attachment, and what the driver's controller said when it attached the volume.
pub struct Attached {
    pub name: String,
    pub publish_context: HashMap<String, String>,
}

/// The node tells that it uses the volume, so that it is not detached again.
pub async fn told_in_use(ctx: &Context, unique_name: &str) -> Result<(), String> {
    let told = |node: &Node| {
        let status = node.status.as_ref();
        status
            .and_then(|status| status.volumes_in_use.as_ref())
            .is_some_and(|used| used.iter().any(|v| v == unique_name))
    };
    wait(ctx, told)
        .await
        .map_err(|()| format!("the node's status does not say yet that volume {unique_name} is in use"))
}

pub async fn wait_for(
    ctx: &Context,
    driver: &str,
    handle: &str,
    unique_name: &str,
) -> Result<Attached, String> {
    let attached = |node: &Node| {
        let status = node.status.as_ref();
        status
            .and_then(|status| status.volumes_attached.as_ref())
            .is_some_and(|attached| attached.iter().any(|volume| volume.name == unique_name))
    };
    let name = attachment_name(handle, driver, &ctx.options.node_name);
    let waited = wait(ctx, attached).await;
    let api: Api<VolumeAttachment> = Api::all(ctx.client.clone());
    let attachment =
        api.get_opt(&name).await.map_err(|error| format!("cannot read volumeattachment {name}: {error}"))?;
    let status = attachment.and_then(|attachment| attachment.status);
    if let Some(error) = status.as_ref().and_then(|status| status.attach_error.as_ref()) {
        return Err(format!(
            "attachment of volume {handle} failed: {}",
            error.message.clone().unwrap_or_default()
        ));
    }
    match status.filter(|status| status.attached && waited.is_ok()) {
        Some(status) => Ok(Attached {
            name,
            publish_context: status.attachment_metadata.unwrap_or_default().into_iter().collect(),
        }),
        None => Err(format!("volume attachment {name} of volume {handle} is not attached yet")),
    }
}

/// Until the node's object, as the API has it, is as `wanted`.
async fn wait(ctx: &Context, wanted: impl Fn(&Node) -> bool) -> Result<(), ()> {
    let mut nodes = ctx.node.subscribe();
    let is_so = || ctx.node.get("", &ctx.options.node_name).is_some_and(|node| wanted(&node));
    let change = async {
        while !is_so() {
            if nodes.recv().await.is_none() {
                return Err(());
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, change).await.map_err(|_| ())?
}
