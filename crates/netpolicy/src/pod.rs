//! What of a Pod matters for policies.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod as PodObject};

use crate::policy::protocol;

pub(crate) type Labels = BTreeMap<String, String>;

/// A pod with addresses of its own, as the API server knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub labels: Labels,
    /// None yet, or none any more when it has ended.
    pub ips: Vec<IpAddr>,
    /// The node that it runs on.
    pub node: String,
    pub ended: bool,
    /// Named ports of its containers: protocol, name, number.
    pub ports: Vec<(u8, String, u16)>,
}

/// A pod of this node that was just given its addresses, as the runtime knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    pub ips: Vec<IpAddr>,
}

impl Pod {
    /// Nothing for one that uses its node's addresses: policies are not about nodes.
    pub fn parse(pod: &PodObject) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        if spec.host_network == Some(true) {
            return None;
        }
        let status = pod.status.as_ref();
        let ended = matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
        let all = status.and_then(|s| s.pod_ips.as_ref()).into_iter().flatten().map(|ip| &ip.ip);
        let first = status.and_then(|s| s.pod_ip.as_ref());
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in all.chain(first).filter_map(|ip| ip.parse().ok()) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        // Of the initial containers those that stay.
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        Some(Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            ips: if ended { Vec::new() } else { ips },
            node: spec.node_name.clone().unwrap_or_default(),
            ended,
            ports: spec.containers.iter().chain(sidecars).flat_map(named_ports).collect(),
        })
    }
}

fn named_ports(container: &Container) -> impl Iterator<Item = (u8, String, u16)> {
    container.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.container_port).ok()?;
        Some((protocol(port.protocol.as_deref())?, port.name.clone()?, number))
    })
}
