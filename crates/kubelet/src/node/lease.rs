//! The node's Lease in `kube-node-lease`: a sign of life that costs next to nothing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::context::Context;

const RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(7);

/// Renews until `shutdown`, four times as often as the lease runs out.
pub async fn keep(ctx: Arc<Context>, shutdown: CancellationToken) {
    let seconds = ctx.options.config.node_lease_duration_seconds.max(4);
    let period = Duration::from_secs(u64::try_from(seconds).unwrap_or(40)) / 4;
    let mut retry = RETRY;
    loop {
        let wait = match renew(&ctx, seconds).await {
            Ok(()) => {
                retry = RETRY;
                period
            }
            Err(error) => {
                debug!(%error, "cannot renew the node's lease, trying again");
                let wait = retry;
                retry = (retry * 2).min(LONGEST_RETRY);
                wait
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn renew(ctx: &Context, seconds: i32) -> Result<(), kube::Error> {
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), "kube-node-lease");
    let name = &ctx.options.node_name;
    let now = MicroTime(Timestamp::now());
    let patch = serde_json::json!({"spec": {"renewTime": now, "holderIdentity": name, "leaseDurationSeconds": seconds}});
    let found = match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(lease) if lease.metadata.owner_references.is_some() => return Ok(()),
        Ok(_) => true,
        Err(kube::Error::Api(status)) if status.code == 404 => false,
        Err(error) => return Err(error),
    };
    // The node owns it, so that it goes with the node. It may not be known yet when the first lease is made.
    let node = ctx.node.get("", name);
    let owner = node.and_then(|node| node.metadata.uid.clone()).map(|uid| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid,
        ..Default::default()
    });
    if found {
        if let Some(owner) = owner {
            let patch = serde_json::json!({"metadata": {"ownerReferences": [owner]}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        return Ok(());
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..Default::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(seconds),
            renew_time: Some(now),
            ..Default::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.map(drop)
}
