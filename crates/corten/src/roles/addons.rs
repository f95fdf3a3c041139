//! Objects that every cluster of ours has beyond those of a bare API server.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cli::NetworkArgs;

/// The Service of the cluster DNS, where people and tools look for it. Each node answers at its address itself, so it
/// selects no pods.
pub async fn ensure(client: &kube::Client, network: &NetworkArgs) -> Result<()> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS", "kubernetes.io/cluster-service": "true"},
        },
        "spec": {
            "clusterIP": network.cluster_dns.to_string(),
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
            ],
        },
    });
    let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
    services
        .patch("kube-dns", &PatchParams::apply("corten").force(), &Patch::Apply(&service))
        .await
        .context("cannot make the Service of the cluster DNS")?;
    Ok(())
}
