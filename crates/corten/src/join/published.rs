//! What servers tell those who join, in the ConfigMaps that kubeadm made familiar: `cluster-info`, which everybody may
//! read, `kubeadm-config` and `kubelet-config`, which whoever has a token may.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::Network;
use crate::cli::NetworkArgs;

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";
const RBAC: &str = "rbac.authorization.k8s.io/v1";
/// Who joins, and who has joined.
const READERS: [&str; 2] = ["system:bootstrappers:kubeadm:default-node-token", "system:nodes"];

/// Publishes all of it. `server` is how other machines reach this API server.
pub async fn publish(
    client: &kube::Client,
    server: &str,
    authority: &str,
    services: &str,
    network: &NetworkArgs,
) -> Result<()> {
    for object in objects(server, authority, services, network)? {
        apply(client, object).await?;
    }
    Ok(())
}

fn objects(server: &str, authority: &str, services: &str, network: &NetworkArgs) -> Result<Vec<Value>> {
    let info = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "contexts": null,
        "current-context": "",
        "users": null,
    });
    let cluster = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": "kubernetes",
        "kubernetesVersion": "v1.36.0",
        "controlPlaneEndpoint": server.trim_start_matches("https://"),
        "networking": {
            "dnsDomain": network.cluster_domain,
            "podSubnet": network.cluster_cidr,
            "serviceSubnet": services,
        },
    });
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "clusterDNS": [network.cluster_dns],
        "clusterDomain": network.cluster_domain,
        "rotateCertificates": true,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": "/etc/kubernetes/pki/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
    });
    let map = |namespace: &str, name: &str, key: &str, value: &Value| -> Result<Value> {
        let text = serde_saphyr::to_string(value).context("cannot write YAML")?;
        Ok(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace},
            "data": {key: text},
        }))
    };
    let mut objects = vec![
        map(PUBLIC, "cluster-info", "kubeconfig", &info)?,
        map(SYSTEM, "kubeadm-config", "ClusterConfiguration", &cluster)?,
        map(SYSTEM, "kubelet-config", "kubelet", &kubelet)?,
    ];
    let groups: Vec<Value> = READERS.iter().map(|name| subject("Group", name)).collect();
    let everybody = vec![subject("User", "system:anonymous")];
    for (namespace, role, name, subjects) in [
        (PUBLIC, "kubeadm:bootstrap-signer-clusterinfo", "cluster-info", everybody),
        (SYSTEM, "kubeadm:nodes-kubeadm-config", "kubeadm-config", groups.clone()),
        (SYSTEM, "kubeadm:kubelet-config", "kubelet-config", groups),
    ] {
        let metadata = json!({"name": role, "namespace": namespace});
        objects.push(json!({
            "apiVersion": RBAC,
            "kind": "Role",
            "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get"]}],
        }));
        objects.push(json!({
            "apiVersion": RBAC,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
            "subjects": subjects,
        }));
    }
    Ok(objects)
}

fn subject(kind: &str, name: &str) -> Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

async fn apply(client: &kube::Client, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object).context("an object of ours is malformed")?;
    let types = object.types.clone().unwrap_or_default();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name = object.metadata.name.clone().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    // Signatures of tokens are somebody else's fields of the same ConfigMap.
    api.patch(&name, &PatchParams::apply("corten").force(), &Patch::Apply(&object))
        .await
        .with_context(|| format!("cannot publish {} {namespace}/{name}", types.kind))?;
    Ok(())
}

/// What the nodes of the cluster agree on.
pub async fn network(client: &kube::Client) -> Result<Network> {
    let cluster = read(client, "kubeadm-config", "ClusterConfiguration").await?;
    let kubelet = read(client, "kubelet-config", "kubelet").await?;
    parse(&cluster, &kubelet)
}

async fn read(client: &kube::Client, name: &str, key: &str) -> Result<Value> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM);
    let map = maps.get(name).await.with_context(|| format!("cannot read the ConfigMap {SYSTEM}/{name}"))?;
    let text = map.data.as_ref().and_then(|data| data.get(key));
    let text = text.with_context(|| format!("the ConfigMap {SYSTEM}/{name} has no {key}"))?;
    serde_saphyr::from_str(text)
        .with_context(|| format!("{key} of the ConfigMap {SYSTEM}/{name} is not YAML"))
}

fn parse(cluster: &Value, kubelet: &Value) -> Result<Network> {
    let networking = &cluster["networking"];
    let pods = networking["podSubnet"].as_str().filter(|text| !text.is_empty());
    let dns = kubelet["clusterDNS"][0].as_str().context("kubelet-config has no clusterDNS")?;
    let domain = kubelet["clusterDomain"].as_str().or_else(|| networking["dnsDomain"].as_str());
    Ok(Network {
        cluster_cidr: pods.context("kubeadm-config has no networking.podSubnet")?.to_owned(),
        cluster_dns: dns.parse().with_context(|| format!("clusterDNS {dns:?} is no IP address"))?,
        cluster_domain: domain.unwrap_or("cluster.local").trim_end_matches('.').to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_understood() {
        let network = NetworkArgs {
            cluster_cidr: "10.1.0.0/16".into(),
            cluster_dns: "10.2.0.10".parse().unwrap(),
            cluster_domain: "example".into(),
            stub_domains: Vec::new(),
        };
        let objects = objects("https://s:6443", "pem", "10.2.0.0/16", &network).unwrap();
        let data = |name: &str, key: &str| -> Value {
            let map = objects.iter().find(|o| o["kind"] == "ConfigMap" && o["metadata"]["name"] == name);
            serde_saphyr::from_str(map.unwrap()["data"][key].as_str().unwrap()).unwrap()
        };
        let read = parse(&data("kubeadm-config", "ClusterConfiguration"), &data("kubelet-config", "kubelet"));
        let expected = Network {
            cluster_cidr: network.cluster_cidr,
            cluster_dns: network.cluster_dns,
            cluster_domain: network.cluster_domain,
        };
        assert_eq!(read.unwrap(), expected);
        assert_eq!(data("cluster-info", "kubeconfig")["clusters"][0]["cluster"]["server"], "https://s:6443");
        assert!(parse(&json!({}), &json!({})).is_err());
    }
}
