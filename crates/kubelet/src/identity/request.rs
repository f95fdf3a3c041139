//! One certificate asked for: a CertificateSigningRequest, and what becomes of it.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use pki::Leaf;

/// How long somebody may take to approve.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    Client,
    Serving,
}

impl Signer {
    fn name(self) -> &'static str {
        match self {
            Signer::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Signer::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    /// The metric of failures.
    pub fn errors(self) -> &'static str {
        match self {
            Signer::Client => "kubelet_certificate_manager_client_expiration_renew_errors",
            Signer::Serving => "kubelet_server_expiration_renew_errors",
        }
    }

    /// Keys are of elliptic curves, which encipher nothing.
    fn usages(self) -> Vec<String> {
        let what = match self {
            Signer::Client => "client auth",
            Signer::Serving => "server auth",
        };
        vec!["digital signature".into(), what.into()]
    }
}

/// The certificate and its key, in PEM.
pub async fn sign(client: &kube::Client, leaf: &Leaf, signer: Signer, node: &str) -> Result<String, String> {
    let made = leaf.request().map_err(|error| error.to_string())?;
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            // Of the node, though names are generated: people look through many of them.
            generate_name: Some(match signer {
                Signer::Client => "node-csr-".to_owned(),
                Signer::Serving => "csr-".to_owned(),
            }),
            ..Default::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(made.request.into_bytes()),
            signer_name: signer.name().to_owned(),
            usages: Some(signer.usages()),
            ..Default::default()
        },
        status: None,
    };
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let created = api
        .create(&PostParams::default(), &request)
        .await
        .map_err(|error| format!("cannot create a CertificateSigningRequest for node {node}: {error}"))?;
    let name = created.metadata.name.unwrap_or_default();
    let ended = |request: Option<&CertificateSigningRequest>| {
        request.is_none_or(|request| outcome(request).is_some())
    };
    let request = tokio::time::timeout(PATIENCE, await_condition(api, &name, ended))
        .await
        .map_err(|_| format!("nobody has approved CertificateSigningRequest {name}"))?
        .map_err(|error| format!("cannot follow CertificateSigningRequest {name}: {error}"))?;
    match request.as_ref().and_then(outcome) {
        Some(Ok(certificate)) => Ok(format!("{certificate}{}", made.key)),
        Some(Err(why)) => Err(format!("CertificateSigningRequest {name} was not granted: {why}")),
        None => Err(format!("CertificateSigningRequest {name} was deleted")),
    }
}

/// The certificate, or why there will be none; nothing while it is open.
fn outcome(request: &CertificateSigningRequest) -> Option<Result<String, String>> {
    let status = request.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    if let Some(no) = conditions.find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed")) {
        return Some(Err(format!("{}: {}", no.type_, no.message.clone().unwrap_or_default())));
    }
    let certificate = status.certificate.as_ref().filter(|certificate| !certificate.0.is_empty())?;
    Some(String::from_utf8(certificate.0.clone()).map_err(|error| error.to_string()))
}
