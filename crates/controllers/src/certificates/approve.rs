//! Approves the client certificates of kubelets: of a new node, if who asks may make nodes; of an existing one, if it
//! asks for itself. And the serving certificates of nodes that have joined by a token of ours ([`serving`]).

use std::collections::BTreeSet;
use std::net::IpAddr;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use kube::api::PostParams;

use super::request::Request;
use super::serving::{self, Judgement};
use super::{APPROVED, DENIED, add_condition, certificate, condition, signers};
use crate::Loops;
use crate::kit::{Context, Controller, Key, Queue, SyncError, World};

/// The permission (a subresource of requests) that stands for a rule, and what an approval by it says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rule {
    permission: &'static str,
    message: &'static str,
}

const SELF: Rule = Rule {
    permission: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const NODE: Rule = Rule {
    permission: "nodeclient",
    message: "Auto approving kubelet client certificate after SubjectAccessReview.",
};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.certificate_signing_requests.on(move |change| {
        if let Some(csr) = change.new.filter(|csr| is_open(csr)) {
            due.add(Key::of(&**csr));
        }
    });
    loops.add(Approver { world: world.clone() }, queue);
}

fn is_open(csr: &CertificateSigningRequest) -> bool {
    matches!(csr.spec.signer_name.as_str(), signers::KUBELET_CLIENT | signers::KUBELET_SERVING)
        && certificate(csr).is_none()
        && condition(csr, APPROVED).is_none()
        && condition(csr, DENIED).is_none()
}

/// The rules by which a request could be approved.
fn rules(csr: &CertificateSigningRequest) -> Vec<Rule> {
    let Ok(request) = Request::parse(&csr.spec.request.0) else { return Vec::new() };
    let usages = csr.spec.usages.iter().flatten().map(String::as_str).collect();
    if signers::kubelet_client(&request, &usages).is_err() {
        return Vec::new();
    }
    let itself = csr.spec.username.as_deref() == Some(&request.common_name);
    if itself { vec![SELF, NODE] } else { vec![NODE] }
}

struct Approver {
    world: Arc<World>,
}

impl Controller for Approver {
    const NAME: &'static str = "certificatesigningrequest-approving-controller";
    const QUEUE: &'static str = "certificate";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let view = &self.world.certificate_signing_requests;
        let Some(csr) = view.by_key(key).filter(|csr| is_open(csr)) else { return Ok(None) };
        if csr.spec.signer_name == signers::KUBELET_SERVING {
            return self.sync_serving(key, &csr).await;
        }
        let rules = rules(&csr);
        let recognized = !rules.is_empty();
        for rule in rules {
            if self.may(&csr, rule).await? {
                return self.approve(key, &csr, rule.message).await;
            }
        }
        if recognized {
            // The permission may only be on its way.
            return Err(SyncError::Waiting(format!("permission to approve CertificateSigningRequest {key}")));
        }
        Ok(None)
    }
}

impl Approver {
    async fn approve(
        &self,
        key: &Key,
        csr: &CertificateSigningRequest,
        message: &str,
    ) -> Result<Option<Duration>, SyncError> {
        let view = &self.world.certificate_signing_requests;
        let mut approved = csr.clone();
        add_condition(&mut approved, APPROVED, "AutoApproved", message);
        let replaced = view
            .api("")
            .replace_subresource("approval", &key.name, &PostParams::default(), &approved)
            .await
            .context("approve", || format!("CertificateSigningRequest {key}"))?;
        view.assume(replaced);
        Ok(None)
    }

    async fn sync_serving(
        &self,
        key: &Key,
        csr: &CertificateSigningRequest,
    ) -> Result<Option<Duration>, SyncError> {
        let Some((request, name)) = serving::node_of(csr) else { return Ok(None) };
        let node = self.world.nodes.get("", &name);
        match serving::judge(&request, &name, node.as_deref(), &self.taken(&name)) {
            Judgement::Approve => self.approve(key, csr, serving::MESSAGE).await,
            Judgement::Wait(what) => Err(SyncError::Waiting(what)),
            Judgement::Leave => Ok(None),
        }
    }

    /// Addresses that are not that node's: of other nodes, of Services, of the API servers.
    fn taken(&self, node: &str) -> BTreeSet<IpAddr> {
        let nodes = self.world.nodes.list();
        let others = nodes.iter().filter(|other| other.metadata.name.as_deref() != Some(node));
        let others = others.flat_map(|other| serving::addresses(other));
        let services = self.world.services.list();
        let services = services.iter().flat_map(|service| {
            let spec = service.spec.as_ref();
            let ips = spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
            ips.filter_map(|ip| ip.parse().ok()).collect::<Vec<IpAddr>>()
        });
        let servers = self.world.endpoints.get("default", "kubernetes");
        let servers = servers.iter().flat_map(|servers| servers.subsets.iter().flatten());
        let servers = servers.flat_map(|subset| subset.addresses.iter().flatten());
        let servers = servers.filter_map(|address| address.ip.parse().ok()).collect::<Vec<IpAddr>>();
        others.chain(services).chain(servers).collect()
    }

    async fn may(&self, csr: &CertificateSigningRequest, rule: Rule) -> Result<bool, SyncError> {
        let spec = &csr.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    verb: Some("create".to_owned()),
                    subresource: Some(rule.permission.to_owned()),
                    version: Some("*".to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.world.client.clone());
        let answer = api.create(&PostParams::default(), &review).await;
        let user = spec.username.as_deref().unwrap_or_default();
        let answer = answer.context("review the access of", || format!("user {user}"))?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;

    fn csr(user: &str, common_name: &str) -> CertificateSigningRequest {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, common_name);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let mut csr: CertificateSigningRequest =
            serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {
            "signerName": signers::KUBELET_CLIENT, "username": user, "request": "",
            "usages": ["digital signature", "client auth"]}}))
            .unwrap();
        csr.spec.request = ByteString(pem.into_bytes());
        csr
    }
    use k8s_openapi::ByteString;

    #[test]
    fn nodes_may_ask_for_themselves() {
        let check = |user: &str, name: &str, expected: &[Rule]| assert_eq!(rules(&csr(user, name)), expected);
        check("system:node:n1", "system:node:n1", &[SELF, NODE]);
        check("system:bootstrap:abcdef", "system:node:n1", &[NODE]);
        check("system:bootstrap:abcdef", "admin", &[]);
    }

    #[test]
    fn what_is_decided_is_left_alone() {
        let mut decided = csr("u", "system:node:n1");
        assert!(is_open(&decided));
        add_condition(&mut decided, DENIED, "No", "no");
        assert!(!is_open(&decided));
    }
}
