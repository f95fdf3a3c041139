//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign requests of
//! which signer, and that nobody gets a certificate for `system:masters` this way.

use api::status::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{PemObject, SectionKind};
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{AdmissionRequest, Operation};
use crate::authn::user::MASTERS;
use crate::authz::Authorizer;
use crate::request::RequestInfo;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub async fn validate(request: &AdmissionRequest<'_>, authorizer: &Authorizer) -> Result<(), Status> {
    if request.creates(GROUP, RESOURCE) {
        return restrict_subject(request);
    }
    if request.operation != Operation::Update {
        return Ok(());
    }
    let signer = request.old_object["spec"]["signerName"].as_str().unwrap_or_default();
    let verb = if request.is_subresource(GROUP, RESOURCE, "approval") {
        "approve"
    } else if request.is_subresource(GROUP, RESOURCE, "status") && is_signed_anew(request) {
        "sign"
    } else {
        return Ok(());
    };
    if may(authorizer, request, verb, signer).await {
        return Ok(());
    }
    Err(request.forbidden(format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

fn is_signed_anew(request: &AdmissionRequest<'_>) -> bool {
    let (new, old) = (&request.object["status"], &request.old_object["status"]);
    let failed = |status: &Value| {
        super::objects::items(&status["conditions"])
            .any(|condition| condition["type"].as_str() == Some("Failed"))
    };
    new["certificate"] != old["certificate"] || (failed(new) && !failed(old))
}

/// By the signer's name, or by `<its domain>/*`.
async fn may(authorizer: &Authorizer, request: &AdmissionRequest<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let question = RequestInfo {
            is_resource: true,
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name,
            ..RequestInfo::default()
        };
        if authorizer.allows(request.user, &question).await {
            return true;
        }
    }
    false
}

fn restrict_subject(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    let spec = &request.object["spec"];
    if spec["signerName"].as_str() != Some(CLIENT_SIGNER) {
        return Ok(());
    }
    let groups = organizations(spec["request"].as_str().unwrap_or_default()).ok_or_else(|| {
        request.forbidden("failed to parse CSR: spec.request is not a PEM certificate request")
    })?;
    if groups.iter().any(|group| group == MASTERS) {
        return Err(
            request.forbidden(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"))
        );
    }
    Ok(())
}

/// The organizations in the subject of a request: base64 of PEM of PKCS#10.
fn organizations(encoded: &str) -> Option<Vec<String>> {
    let pem = STANDARD.decode(encoded).ok()?;
    let (kind, der) = <(SectionKind, Vec<u8>)>::pem_slice_iter(&pem).next()?.ok()?;
    if kind != SectionKind::Csr {
        return None;
    }
    let (_, request) = X509CertificationRequest::from_der(&der).ok()?;
    let subject = &request.certification_request_info.subject;
    subject.iter_organization().map(|attribute| attribute.as_str().ok().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use serde_json::json;

    use super::super::testing::Case;
    use super::*;

    fn csr(group: &str) -> String {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::OrganizationName, group);
        params.distinguished_name = subject;
        let key = KeyPair::generate().expect("a key");
        let pem = params.serialize_request(&key).and_then(|csr| csr.pem()).expect("a request");
        STANDARD.encode(pem)
    }

    #[test]
    fn subjects() {
        let check = |signer: &str, csr: String, expected: &str| {
            let object = json!({"metadata": {"name": "x"}, "spec": {"signerName": signer, "request": csr}});
            let refusal = Case::create(GROUP, RESOURCE, object).refusal(|request| restrict_subject(request));
            assert!(refusal.contains(expected) && (refusal.is_empty() == expected.is_empty()), "{refusal}");
        };
        check(CLIENT_SIGNER, csr("dev"), "");
        check(CLIENT_SIGNER, csr(MASTERS), "with system:masters group is not allowed");
        check("example.com/own", csr(MASTERS), "");
        check(CLIENT_SIGNER, "junk".into(), "failed to parse CSR");
        check(CLIENT_SIGNER, STANDARD.encode("-----BEGIN X"), "failed to parse CSR");
    }

    #[test]
    fn what_signing_is() {
        let check = |old: Value, new: Value, expected: bool| {
            let case = Case::update(GROUP, RESOURCE, json!({"status": old}), json!({"status": new}));
            case.run(|request| {
                assert_eq!(is_signed_anew(request), expected);
                Ok(())
            })
            .expect("admitted");
        };
        check(json!({}), json!({"certificate": "x"}), true);
        check(json!({"certificate": "x"}), json!({"certificate": "x", "conditions": []}), false);
        check(json!({}), json!({"conditions": [{"type": "Failed"}]}), true);
        check(json!({}), json!({"conditions": [{"type": "Approved"}]}), false);
    }
}
