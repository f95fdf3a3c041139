//! The node's CSINode object, labels and annotation: which drivers are here, and by what IDs they know the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::driver::Driver;
use crate::context::Context;

const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";
const RETRY: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 5;

/// Makes the object when the node is known, so that schedulers can tell a node without drivers from one that has not
/// said yet.
pub async fn keep(ctx: Arc<Context>, shutdown: CancellationToken) {
    let make = async {
        ctx.node.synced().await;
        while let Err(error) = tell(&ctx, None).await {
            debug!(error, "cannot make the node's CSINode yet");
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = make => {}
    }
}

/// Makes the API's objects say what drivers there are, and not that there is one that has `gone`. Drivers that this
/// process has not met yet are left as they are: after a restart they come one by one.
pub async fn tell(ctx: &Context, gone: Option<&str>) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        // One after the other: each tells of all.
        match try_tell(ctx, gone).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
        tokio::time::sleep(RETRY / 4).await;
    }
    Err(last)
}

fn spec(drivers: &BTreeMap<String, Driver>, known: &[CSINodeDriver], gone: Option<&str>) -> CSINodeSpec {
    let driver = |(name, driver): (&String, &Driver)| CSINodeDriver {
        name: name.clone(),
        node_id: driver.node_id.clone(),
        topology_keys: Some(driver.topology.keys().cloned().collect()),
        allocatable: (driver.max_volumes > 0)
            .then(|| VolumeNodeResources { count: i32::try_from(driver.max_volumes).ok() }),
    };
    let stays =
        |known: &&CSINodeDriver| !drivers.contains_key(&known.name) && gone != Some(known.name.as_str());
    let mut all: Vec<CSINodeDriver> = known.iter().filter(stays).cloned().collect();
    all.extend(drivers.iter().map(driver));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    CSINodeSpec { drivers: all }
}

async fn try_tell(ctx: &Context, gone: Option<&str>) -> Result<(), String> {
    let name = &ctx.options.node_name;
    let drivers: BTreeMap<String, Driver> =
        ctx.csi.drivers.lock().iter().map(|(name, driver)| (name.clone(), driver.clone())).collect();
    let nodes: Api<Node> = Api::all(ctx.client.clone());
    let node = nodes.get(name).await.map_err(|error| format!("cannot read node {name}: {error}"))?;
    tell_node(&nodes, &node, &drivers, gone).await?;
    let api: Api<CSINode> = Api::all(ctx.client.clone());
    let known = api.get_opt(name).await.map_err(|error| format!("cannot read csinode {name}: {error}"))?;
    let before = known.as_ref().map(|known| known.spec.drivers.as_slice()).unwrap_or_default();
    let wanted = spec(&drivers, before, gone);
    let failed = |error: kube::Error| format!("cannot write csinode {name}: {error}");
    match known {
        Some(known) if known.spec == wanted => Ok(()),
        Some(known) => {
            let next = CSINode { spec: wanted, ..known };
            api.replace(name, &PostParams::default(), &next).await.map(drop).map_err(failed)
        }
        None => {
            let owner = OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: name.clone(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                ..Default::default()
            };
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                owner_references: Some(vec![owner]),
                ..Default::default()
            };
            let object = CSINode { metadata, spec: wanted };
            api.create(&PostParams::default(), &object).await.map(drop).map_err(failed)
        }
    }
}

/// The node's labels say where it is in the drivers' topologies.
async fn tell_node(
    nodes: &Api<Node>,
    node: &Node,
    drivers: &BTreeMap<String, Driver>,
    gone: Option<&str>,
) -> Result<(), String> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let labels: BTreeMap<&String, &String> = drivers.values().flat_map(|driver| &driver.topology).collect();
    let known_labels = node.metadata.labels.clone().unwrap_or_default();
    let known_ids =
        node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(NODE_IDS)).cloned();
    let mut ids: BTreeMap<String, String> =
        known_ids.as_deref().and_then(|ids| serde_json::from_str(ids).ok()).unwrap_or_default();
    ids.extend(drivers.iter().map(|(name, driver)| (name.clone(), driver.node_id.clone())));
    gone.and_then(|gone| ids.remove(gone));
    let wanted_ids = (!ids.is_empty()).then(|| serde_json::to_string(&ids).unwrap_or_default());
    if known_ids == wanted_ids && labels.iter().all(|(key, value)| known_labels.get(*key) == Some(*value)) {
        return Ok(());
    }
    let patch = json!({"metadata": {"labels": labels, "annotations": {NODE_IDS: wanted_ids}}});
    let patched = nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map(drop).map_err(|error| format!("cannot write the CSI topology of node {name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_that_have_not_come_yet_stay() {
        let known = |name: &str| CSINodeDriver { name: name.to_owned(), ..Default::default() };
        let before = [known("a"), known("b")];
        let names = |gone: Option<&str>| -> Vec<String> {
            spec(&BTreeMap::new(), &before, gone).drivers.into_iter().map(|driver| driver.name).collect()
        };
        assert_eq!(names(None), ["a", "b"]);
        assert_eq!(names(Some("a")), ["b"]);
    }
}
