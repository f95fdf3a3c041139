//! What of this node's Node matters for routing.

use std::net::{IpAddr, Ipv4Addr};

use client::Informers;
use k8s_openapi::api::core::v1::Node;
use net::IpNet;

use crate::{Config, NodePorts};

const ZONE: &str = "topology.kubernetes.io/zone";
/// Said by the cluster autoscaler of nodes that it is about to remove.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

pub(crate) fn zone(node: &Node) -> Option<String> {
    node.metadata.labels.as_ref()?.get(ZONE).cloned()
}

/// False when the node is about to go.
pub(crate) fn stays(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let marked = taints.into_iter().flatten().any(|taint| taint.key == TO_BE_DELETED);
    node.metadata.deletion_timestamp.is_none() && !marked
}

/// On which addresses node ports answer, where the Node or the machine tells.
pub(crate) fn port_addresses(node: &Node, config: &Config) -> Option<Vec<IpAddr>> {
    let mut ips: Vec<IpAddr> = match &config.node_ports {
        NodePorts::Fixed => return None,
        NodePorts::Primary => {
            let internal = internal_ips(node);
            let first = |ipv6: bool| internal.iter().copied().find(|ip| ip.is_ipv6() == ipv6);
            first(false).into_iter().chain(first(true)).collect()
        }
        NodePorts::Networks(networks) => {
            let all = net::addr::local().unwrap_or_else(|error| {
                tracing::error!(%error, "node ports answer nowhere");
                Vec::new()
            });
            all.into_iter().filter(|ip| networks.iter().any(|network| network.contains(ip))).collect()
        }
    };
    if ips.is_empty() && config.node_ports == NodePorts::Primary {
        // The Node has none yet.
        return None;
    }
    if config.localhost_node_ports {
        ips.push(Ipv4Addr::LOCALHOST.into());
    }
    Some(ips)
}

fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let internal = addresses.into_iter().flatten().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}

/// Waits until the node has pod CIDRs.
pub(crate) async fn pod_cidrs(informers: &Informers, name: &str) -> Vec<IpNet> {
    let mut nodes = informers.fields::<Node>(&format!("metadata.name={name}")).subscribe();
    while let Some(delta) = nodes.recv().await {
        let spec = delta.object().and_then(|node| node.spec.as_ref());
        let cidrs = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
        let cidrs: Vec<IpNet> = cidrs.filter_map(|cidr| cidr.parse().ok()).collect();
        if !cidrs.is_empty() {
            return cidrs;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(value: Value) -> Node {
        serde_json::from_value(value).expect("a node")
    }

    #[test]
    fn node_ports_answer_on_the_first_address_of_each_family() {
        let address = |kind: &str, ip: &str| json!({"type": kind, "address": ip});
        let node = node(json!({"metadata": {}, "status": {"addresses": [
            address("ExternalIP", "203.0.113.1"), address("InternalIP", "2001:db8::1"),
            address("InternalIP", "192.0.2.1"), address("InternalIP", "192.0.2.2"),
        ]}}));
        let check = |node_ports: NodePorts, localhost_node_ports, expected: Option<&[&str]>| {
            let config = Config { node_ports, localhost_node_ports, ..Config::default() };
            let ips = port_addresses(&node, &config);
            let ips: Option<Vec<String>> = ips.map(|ips| ips.iter().map(ToString::to_string).collect());
            assert_eq!(
                ips.as_deref(),
                expected.map(|e| e.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>()).as_deref()
            );
        };
        check(NodePorts::Fixed, true, None);
        check(NodePorts::Primary, false, Some(&["192.0.2.1", "2001:db8::1"]));
        check(NodePorts::Primary, true, Some(&["192.0.2.1", "2001:db8::1", "127.0.0.1"]));
        check(NodePorts::Networks(vec!["127.0.0.0/8".parse().expect("net")]), false, Some(&["127.0.0.1"]));
        let empty = self::node(json!({"metadata": {}}));
        assert_eq!(
            port_addresses(&empty, &Config { node_ports: NodePorts::Primary, ..Config::default() }),
            None
        );
    }

    #[test]
    fn nodes_that_are_about_to_go() {
        assert!(stays(&node(json!({"metadata": {}}))));
        assert!(!stays(&node(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))));
        let taint = json!({"key": TO_BE_DELETED, "effect": "NoSchedule"});
        assert!(!stays(&node(json!({"metadata": {}, "spec": {"taints": [taint]}}))));
    }
}
