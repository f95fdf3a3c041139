//! What of a Node matters for its neighbours.

use k8s_openapi::api::core::v1::Node;
use net::mesh;

pub(crate) fn parse(node: &Node) -> mesh::Node {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let internal = addresses.into_iter().flatten().filter(|address| address.type_ == "InternalIP");
    let spec = node.spec.as_ref();
    let cidrs = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
    let first = spec.and_then(|spec| spec.pod_cidr.as_ref());
    let mut pod_cidrs: Vec<net::IpNet> = Vec::new();
    // Objects come from an API server that has checked them; from one that has not, what makes no sense is left out.
    for cidr in cidrs.chain(first).filter_map(|cidr| cidr.parse().ok()) {
        if !pod_cidrs.contains(&cidr) {
            pod_cidrs.push(cidr);
        }
    }
    mesh::Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
        pod_cidrs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{NodeAddress, NodeSpec, NodeStatus};

    #[test]
    fn internal_addresses_and_pod_cidrs() {
        let address =
            |kind: &str, text: &str| NodeAddress { type_: kind.to_owned(), address: text.to_owned() };
        let mut node = Node {
            spec: Some(NodeSpec {
                pod_cidr: Some("10.244.1.0/24".to_owned()),
                pod_cidrs: Some(vec![
                    "10.244.1.0/24".to_owned(),
                    "fd44:0:0:1::/64".to_owned(),
                    "x".to_owned(),
                ]),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                addresses: Some(vec![
                    address("Hostname", "a"),
                    address("ExternalIP", "203.0.113.1"),
                    address("InternalIP", "192.0.2.1"),
                    address("InternalIP", "nonsense"),
                    address("InternalIP", "2001:db8::1"),
                ]),
                ..NodeStatus::default()
            }),
            ..Node::default()
        };
        node.metadata.name = Some("a".to_owned());
        let parsed = parse(&node);
        assert_eq!(parsed.name, "a");
        assert_eq!(
            parsed.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.1", "2001:db8::1"]
        );
        let cidrs: Vec<String> = parsed.pod_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(cidrs, ["10.244.1.0/24", "fd44:0:0:1::/64"]);
        assert_eq!(parse(&Node::default()).pod_cidrs, []);
    }
}
