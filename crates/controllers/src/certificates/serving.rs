//! Which serving certificates of kubelets are approved without an administrator: those of nodes that have joined by a
//! token of ours, for nothing but their own name and addresses. Free of IO.
//!
//! Upstream approves none, for a node says itself what its addresses are. So what belongs to somebody else is never
//! approved here: an address of another node, of a Service or of an API server, a name that API servers answer to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;

use super::request::Request;
use super::signers;

/// On a Node that asks for it: set by nodes that have joined with `corten node --server`.
pub const ANNOTATION: &str = "corten.dev/serving-certificate";

pub const MESSAGE: &str = "Auto approving the serving certificate of a node that has joined by a token: it is for the node's own name and addresses.";

/// What is to become of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    Approve,
    /// The node may say later what it lacks now.
    Wait(String),
    /// An administrator decides.
    Leave,
}

/// The node that a request is about, if its kubelet has made it.
pub fn node_of(csr: &CertificateSigningRequest) -> Option<(Request, String)> {
    let request = Request::parse(&csr.spec.request.0).ok()?;
    let usages: Vec<String> = csr.spec.usages.clone().unwrap_or_default();
    signers::check(signers::KUBELET_SERVING, &request, &usages).ok()?;
    let user = csr.spec.username.as_deref()?;
    let of_nodes = csr.spec.groups.iter().flatten().any(|group| group == "system:nodes");
    let node = user.strip_prefix("system:node:")?.to_owned();
    (user == request.common_name && of_nodes).then_some((request, node))
}

/// `taken` are the addresses that are not this node's, whatever it says.
pub fn judge(request: &Request, name: &str, node: Option<&Node>, taken: &BTreeSet<IpAddr>) -> Judgement {
    let Some(node) = node else { return Judgement::Wait(format!("Node {name}")) };
    if !node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(ANNOTATION)) {
        return Judgement::Leave;
    }
    // Clients of API servers know them by such names.
    let special = ["kubernetes", "localhost"].contains(&name) || name.starts_with("kubernetes.");
    if special || request.dns.iter().any(|dns| dns != name) {
        return Judgement::Leave;
    }
    let own = addresses(node);
    if request.ips.iter().any(|ip| taken.contains(ip) || ip.is_loopback()) {
        return Judgement::Leave;
    }
    match request.ips.iter().find(|ip| !own.contains(ip)) {
        Some(ip) => Judgement::Wait(format!("Node {name} to have address {ip}")),
        None => Judgement::Approve,
    }
}

/// The addresses that a node says it has.
pub fn addresses(node: &Node) -> BTreeSet<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.filter(|address| matches!(address.type_.as_str(), "InternalIP" | "ExternalIP"))
        .filter_map(|address| address.address.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;

    fn csr(user: &str, names: &[&str]) -> CertificateSigningRequest {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:n1");
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let mut csr: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"name": "c"},
            "spec": {"signerName": signers::KUBELET_SERVING, "username": user, "request": "",
                "groups": ["system:nodes"], "usages": ["digital signature", "server auth"]},
        }))
        .unwrap();
        csr.spec.request = ByteString(pem.into_bytes());
        csr
    }

    fn node(annotated: bool, addresses: &[&str]) -> Node {
        let addresses: Vec<_> =
            addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
        let annotations = if annotated { json!({ANNOTATION: "wanted"}) } else { json!({}) };
        serde_json::from_value(json!({
            "metadata": {"name": "n1", "annotations": annotations},
            "status": {"addresses": addresses},
        }))
        .unwrap()
    }

    #[test]
    fn nodes_get_certificates_for_what_is_theirs() {
        let taken = BTreeSet::from(["10.96.0.1".parse().unwrap()]);
        let check = |names: &[&str], node: Option<&Node>, expected: &str| {
            let (request, name) = node_of(&csr("system:node:n1", names)).unwrap();
            let got = match judge(&request, &name, node, &taken) {
                Judgement::Approve => "approve",
                Judgement::Wait(_) => "wait",
                Judgement::Leave => "leave",
            };
            assert_eq!(got, expected, "{names:?}");
        };
        let ours = node(true, &["192.0.2.1", "10.96.0.1"]);
        check(&["n1", "192.0.2.1"], Some(&ours), "approve");
        check(&["n1"], Some(&ours), "approve");
        check(&["n1", "192.0.2.1"], Some(&node(false, &["192.0.2.1"])), "leave");
        check(&["n1", "192.0.2.1"], None, "wait");
        check(&["n1", "192.0.2.9"], Some(&ours), "wait");
        check(&["n2", "192.0.2.1"], Some(&ours), "leave");
        check(&["kubernetes.default.svc"], Some(&ours), "leave");
        check(&["n1", "10.96.0.1"], Some(&ours), "leave");
        check(&["n1", "127.0.0.1"], Some(&node(true, &["127.0.0.1"])), "leave");
    }

    #[test]
    fn a_node_asks_for_itself() {
        for user in ["system:node:n2", "admin", "system:serviceaccount:a:b"] {
            assert!(node_of(&csr(user, &["n1"])).is_none(), "{user}");
        }
        let mut stranger = csr("system:node:n1", &["n1"]);
        stranger.spec.groups = None;
        assert!(node_of(&stranger).is_none());
    }
}
