//! Objects that every cluster of ours has beyond those of a bare API server.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cli::NetworkArgs;

pub async fn ensure(client: &kube::Client, network: &NetworkArgs) -> Result<()> {
    dns_service(client, network).await?;
    metrics_readers(client).await?;
    network_of_nodes(client).await
}

/// What the parts of a node that route Services, answer names, join nodes and enforce policies must read. They use the
/// kubelet's identity, of which the Node authorizer lets kubelets alone do less.
async fn network_of_nodes(client: &kube::Client) -> Result<()> {
    const NAME: &str = "corten:node-network";
    let rule = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": [
            rule("", &["namespaces", "nodes", "pods", "services"]),
            rule("discovery.k8s.io", &["endpointslices"]),
            rule("networking.k8s.io", &["networkpolicies"]),
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    });
    let parameters = PatchParams::apply("corten").force();
    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles
        .patch(NAME, &parameters, &Patch::Apply(&role))
        .await
        .context("cannot make the role of the network of nodes")?;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings
        .patch(NAME, &parameters, &Patch::Apply(&binding))
        .await
        .context("cannot give nodes the role of their network")?;
    Ok(())
}

/// Whoever may look at the objects of a namespace may know what its pods use, as with the usual metrics server.
async fn metrics_readers(client: &kube::Client) -> Result<()> {
    const NAME: &str = "system:aggregated-metrics-reader";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": NAME,
            "labels": {
                "rbac.authorization.k8s.io/aggregate-to-admin": "true",
                "rbac.authorization.k8s.io/aggregate-to-edit": "true",
                "rbac.authorization.k8s.io/aggregate-to-view": "true",
            },
        },
        "rules": [{"apiGroups": [metrics::GROUP], "resources": ["nodes", "pods"], "verbs": ["get", "list", "watch"]}],
    });
    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles
        .patch(NAME, &PatchParams::apply("corten").force(), &Patch::Apply(&role))
        .await
        .context("cannot make the role of those who may read metrics")?;
    Ok(())
}

/// The Service of the cluster DNS, where people and tools look for it. Each node answers at its address itself, so it
/// selects no pods.
async fn dns_service(client: &kube::Client, network: &NetworkArgs) -> Result<()> {
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
