//! What of a NetworkPolicy matters for enforcing it.

use api::selector::LabelSelector;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as SelectorObject;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use net::IpNet;

/// A policy of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub pods: LabelSelector,
    /// Who may come in; nothing when the policy is not about that.
    pub ingress: Option<Vec<Rule>>,
    /// Where the pods may go; nothing when the policy is not about that.
    pub egress: Option<Vec<Rule>>,
}

/// One thing that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Everybody when there is nothing.
    pub peers: Option<Vec<Peer>>,
    /// Everything when there is nothing.
    pub ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Pods(Selection),
    Block(Block),
}

/// Pods of the policy's own namespace, or of those that are selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    pub namespaces: Option<LabelSelector>,
    pub pods: LabelSelector,
}

/// Addresses of a network but for those of some smaller ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    pub cidr: IpNet,
    pub except: Vec<IpNet>,
}

impl Block {
    #[cfg(test)]
    pub fn contains(&self, ip: std::net::IpAddr) -> bool {
        self.cidr.contains(&ip) && !self.except.iter().any(|except| except.contains(&ip))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Port {
    Range {
        protocol: u8,
        first: u16,
        last: u16,
    },
    /// A port of a container by its name.
    Named {
        protocol: u8,
        name: String,
    },
}

/// `IPPROTO_*` of a protocol's name; TCP where none is given.
pub(crate) fn protocol(name: Option<&str>) -> Option<u8> {
    let number = match name {
        None | Some("TCP" | "") => libc::IPPROTO_TCP,
        Some("UDP") => libc::IPPROTO_UDP,
        Some("SCTP") => libc::IPPROTO_SCTP,
        Some(_) => return None,
    };
    u8::try_from(number).ok()
}

impl Policy {
    /// Objects come from an API server that has checked them; of one that has not, what makes no sense allows nothing.
    pub fn parse(policy: &NetworkPolicy) -> Self {
        let spec = policy.spec.clone().unwrap_or_default();
        let types = spec.policy_types.unwrap_or_default();
        let has = |name: &str| types.iter().any(|t| t == name);
        let egress = spec.egress.unwrap_or_default();
        let about_egress = if types.is_empty() { !egress.is_empty() } else { has("Egress") };
        let about_ingress = types.is_empty() || has("Ingress");
        let ingress = spec.ingress.unwrap_or_default();
        Self {
            pods: selector(spec.pod_selector.as_ref()).unwrap_or_else(LabelSelector::everything),
            ingress: about_ingress.then(|| ingress.iter().map(ingress_rule).collect()),
            egress: about_egress.then(|| egress.iter().map(egress_rule).collect()),
        }
    }
}

fn ingress_rule(rule: &NetworkPolicyIngressRule) -> Rule {
    parse_rule(rule.from.as_deref(), rule.ports.as_deref())
}

fn egress_rule(rule: &NetworkPolicyEgressRule) -> Rule {
    parse_rule(rule.to.as_deref(), rule.ports.as_deref())
}

fn parse_rule(peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Rule {
    let peers = peers.filter(|peers| !peers.is_empty());
    let ports = ports.filter(|ports| !ports.is_empty());
    Rule {
        peers: peers.map(|peers| peers.iter().filter_map(parse_peer).collect()),
        ports: ports.map(|ports| ports.iter().filter_map(parse_port).collect()),
    }
}

fn parse_peer(peer: &NetworkPolicyPeer) -> Option<Peer> {
    if let Some(block) = &peer.ip_block {
        let net = |text: &String| text.parse::<IpNet>().ok().map(|net| net.trunc());
        let except: Option<Vec<IpNet>> = block.except.iter().flatten().map(net).collect();
        return Some(Peer::Block(Block { cidr: net(&block.cidr)?, except: except? }));
    }
    let (namespaces, pods) =
        (selector(peer.namespace_selector.as_ref()), selector(peer.pod_selector.as_ref()));
    if namespaces.is_none() && pods.is_none() {
        return None;
    }
    Some(Peer::Pods(Selection { namespaces, pods: pods.unwrap_or_else(LabelSelector::everything) }))
}

/// An absent selector is nothing; one that cannot be understood selects nothing.
fn selector(object: Option<&SelectorObject>) -> Option<LabelSelector> {
    let value = serde_json::to_value(object?).unwrap_or_default();
    Some(LabelSelector::from_object(Some(&value)).unwrap_or_else(|_| LabelSelector::nothing()))
}

fn parse_port(port: &NetworkPolicyPort) -> Option<Port> {
    let protocol = protocol(port.protocol.as_deref())?;
    let number = |number: i32| u16::try_from(number).ok();
    match &port.port {
        None => Some(Port::Range { protocol, first: 0, last: u16::MAX }),
        Some(IntOrString::String(name)) => Some(Port::Named { protocol, name: name.clone() }),
        Some(IntOrString::Int(first)) => {
            let first = number(*first)?;
            let last = port.end_port.map_or(Some(first), number)?;
            (first <= last).then_some(Port::Range { protocol, first, last })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(spec: Value) -> Policy {
        Policy::parse(&serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a policy"))
    }

    #[test]
    fn types_are_defaulted() {
        for (spec, about) in [
            (json!({"podSelector": {}}), (true, false)),
            (json!({"podSelector": {}, "egress": [{}]}), (true, true)),
            (json!({"podSelector": {}, "egress": []}), (true, false)),
            (json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]}), (false, true)),
            (json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}), (true, true)),
        ] {
            let policy = parse(spec.clone());
            assert_eq!((policy.ingress.is_some(), policy.egress.is_some()), about, "{spec}");
        }
    }

    #[test]
    fn rules() {
        let rule = |rule: Value| {
            let policy = parse(json!({"podSelector": {}, "ingress": [rule]}));
            policy.ingress.expect("about ingress").remove(0)
        };
        assert_eq!(rule(json!({})), Rule { peers: None, ports: None });
        assert_eq!(rule(json!({"from": [], "ports": []})), Rule { peers: None, ports: None });
        let tcp = |first, last| Port::Range { protocol: 6, first, last };
        for (port, expected) in [
            (json!({"port": 80}), vec![tcp(80, 80)]),
            (json!({"port": 80, "endPort": 90, "protocol": "TCP"}), vec![tcp(80, 90)]),
            (json!({"protocol": "SCTP"}), vec![Port::Range { protocol: 132, first: 0, last: 65_535 }]),
            (
                json!({"port": "web", "protocol": "UDP"}),
                vec![Port::Named { protocol: 17, name: "web".into() }],
            ),
            // What cannot be understood must not become a rule for everything.
            (json!({"port": 80, "protocol": "ICMP"}), vec![]),
            (json!({"port": 80, "endPort": 70}), vec![]),
            (json!({"port": 70_000}), vec![]),
        ] {
            assert_eq!(rule(json!({"ports": [port.clone()]})).ports, Some(expected), "{port}");
        }
        for peer in [
            json!({}),
            json!({"ipBlock": {"cidr": "nonsense"}}),
            json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}),
        ] {
            assert_eq!(rule(json!({"from": [peer.clone()]})).peers, Some(vec![]), "{peer}");
        }
        let bad = json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}});
        match &rule(json!({"from": [bad]})).peers.expect("some")[..] {
            [Peer::Pods(selection)] => assert_eq!(selection.pods, LabelSelector::nothing()),
            other => panic!("{other:?}"),
        }
    }
}
