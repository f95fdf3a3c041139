//! From nodes that run to a cluster that can be used: its API answers, nodes may join, they are Ready.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use client::{Delta, Informer, Informers};
use cluster::plan::Role;
use cluster::record::Record;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

const SERVER_LABEL: &str = "node-role.kubernetes.io/control-plane";
/// Between attempts to reach an API server that is just starting.
const PAUSE: Duration = Duration::from_millis(20);

/// A client, as soon as the API server answers.
pub async fn api(kubeconfig: &Path, deadline: Instant) -> Result<kube::Client> {
    let client = client::from_kubeconfig(kubeconfig, "corten").await?;
    loop {
        let request = http::Request::get("/readyz").body(Vec::new()).context("cannot ask the API server")?;
        match client.request_text(request).await {
            Ok(_) => return Ok(client),
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("the API server does not answer");
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Waits until every node of the record is Ready, and tells of each. Servers are given their role's label, which no
/// kubelet may give itself.
pub async fn nodes(
    client: &kube::Client,
    record: &Record,
    deadline: Instant,
    mut tell: impl FnMut(&str),
) -> Result<()> {
    let informers = Informers::new(client.clone());
    let all: Informer<Node> = informers.all();
    let mut changes = all.subscribe();
    let mut waiting: BTreeSet<&str> = record.nodes.iter().map(|node| node.name.as_str()).collect();
    let mut unlabelled: BTreeSet<&str> =
        record.nodes.iter().filter(|node| node.role == Role::Server).map(|node| node.name.as_str()).collect();
    while !waiting.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let change = match tokio::time::timeout(left, changes.recv()).await {
            Ok(Some(change)) => change,
            Ok(None) => bail!("the watch on nodes has ended"),
            Err(_) => {
                let missing: Vec<&str> = waiting.into_iter().collect();
                bail!("not Ready in time: {}", missing.join(", "));
            }
        };
        let (Delta::Added(node) | Delta::Updated { new: node, .. }) = change else { continue };
        let Some(name) = node.metadata.name.as_deref() else { continue };
        if unlabelled.remove(name) {
            label(client, name).await?;
        }
        if is_ready(&node) && waiting.remove(name) {
            tell(&format!("node {name} is Ready"));
        }
    }
    Ok(())
}

async fn label(client: &kube::Client, node: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = json!({"metadata": {"labels": {SERVER_LABEL: ""}}});
    nodes
        .patch(node, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("cannot label node {node}"))?;
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
