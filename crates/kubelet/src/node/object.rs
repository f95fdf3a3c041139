//! The Node object itself: labels, taints, and the facts of its status that do not change while we run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Node, NodeAddress, NodeDaemonEndpoints, NodeSpec, NodeStatus, NodeSwapStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::machine_info::meminfo;
use crate::context::Context;

/// As Kubernetes names architectures.
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The object that registers the node.
pub fn registration(ctx: &Context) -> Node {
    let options = &ctx.options;
    let name = &options.node_name;
    let mut labels: BTreeMap<String, String> = options.config.node_labels.clone();
    labels.extend(own_labels(name));
    let taints = options.config.register_with_taints.clone();
    Node {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some(labels),
            annotations: Some(
                [("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned())]
                    .into_iter()
                    .chain(serving_certificate(ctx).map(|value| (SERVING_CERTIFICATE.to_owned(), value)))
                    .collect(),
            ),
            ..Default::default()
        },
        spec: Some(NodeSpec {
            taints: (!taints.is_empty()).then_some(taints),
            provider_id: Some(options.config.provider_id.clone()).filter(|id| !id.is_empty()),
            ..Default::default()
        }),
        status: None,
    }
}

pub const SERVING_CERTIFICATE: &str = "corten.dev/serving-certificate";

/// What a node says of the certificate of its API, in an annotation: that the cluster has signed it, or (where the node has joined by a
/// token) is to. API servers verify the certificates of those that say so.
pub fn serving_certificate(ctx: &Context) -> Option<String> {
    let options = &ctx.options;
    let asked_for = options.joined && options.tls_cert.as_os_str().is_empty();
    if options.tls_signed {
        return Some("signed".to_owned());
    }
    let signed = || crate::identity::Pair::serving(&options.cert_dir).is_valid();
    asked_for.then(|| if signed() { "signed" } else { "wanted" }.to_owned())
}

/// Labels that a node always has.
pub fn own_labels(name: &str) -> BTreeMap<String, String> {
    [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Features by gates of their own that the node has, in order: without these, upstream's control plane keeps pods that need
/// them away, and refuses to resize pods as wholes.
const DECLARED: [&str; 2] =
    ["InPlacePodLevelResourcesVerticalScaling", "RestartAllContainersOnContainerExits"];

/// The status without conditions and images.
pub fn base_status(ctx: &Context) -> NodeStatus {
    let machine = &ctx.machine;
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let mut addresses: Vec<NodeAddress> =
        ctx.options.node_ips.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
    addresses.push(address("Hostname", ctx.options.node_name.clone()));
    NodeStatus {
        addresses: Some(addresses),
        declared_features: Some(DECLARED.map(str::to_owned).into()),
        capacity: Some(quantities(ctx.capacity())),
        allocatable: Some(quantities(ctx.allocatable())),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(ctx.options.listen.port()) }),
        }),
        node_info: Some(NodeSystemInfo {
            architecture: arch().into(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: format!("{}://{}", ctx.cri.name, ctx.cri.version),
            kernel_version: machine.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: api::version::GIT_VERSION.into(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            swap: swap_capacity(),
            system_uuid: machine.system_uuid.clone(),
        }),
        ..Default::default()
    }
}

fn swap_capacity() -> Option<NodeSwapStatus> {
    let capacity = meminfo("SwapTotal:").filter(|bytes| *bytes > 0)?;
    Some(NodeSwapStatus { capacity: Some(capacity) })
}

fn quantities(amounts: BTreeMap<String, i64>) -> BTreeMap<String, Quantity> {
    let text = |name: &str, amount: i64| match name {
        "cpu" if amount % 1000 == 0 => (amount / 1000).to_string(),
        "cpu" => format!("{amount}m"),
        "memory" if amount % 1024 == 0 => format!("{}Ki", amount / 1024),
        _ => amount.to_string(),
    };
    amounts
        .into_iter()
        .map(|(name, amount)| {
            let text = text(&name, amount);
            (name, Quantity(text))
        })
        .collect()
}
