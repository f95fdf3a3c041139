//! Signs approved requests for the signers of Kubernetes' own.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use super::authority::Authority;
use super::request::Request;
use super::{FAILED, add_condition, certificate, condition, is_approved, signers};
use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World};

/// What a certificate lasts at most.
const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

pub fn start(world: &Arc<World>, loops: &mut Loops, authority: Authority) {
    let queue = Queue::default();
    let due = queue.clone();
    world.certificate_signing_requests.on(move |change| {
        if let Some(csr) = change.new.filter(|csr| wants_signature(csr)) {
            due.add(Key::of(&**csr));
        }
    });
    loops.add(Signer { world: world.clone(), authority }, queue);
}

fn wants_signature(csr: &CertificateSigningRequest) -> bool {
    signers::is_ours(&csr.spec.signer_name)
        && certificate(csr).is_none()
        && is_approved(csr)
        && condition(csr, FAILED).is_none()
}

struct Signer {
    world: Arc<World>,
    authority: Authority,
}

impl Controller for Signer {
    const NAME: &'static str = "certificatesigningrequest-signing-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let view = &self.world.certificate_signing_requests;
        let Some(csr) = view.by_key(key).filter(|csr| wants_signature(csr)) else { return Ok(None) };
        let mut told = (*csr).clone();
        match self.signed(&csr) {
            Ok(pem) => {
                told.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
            }
            Err(why) => add_condition(&mut told, FAILED, "SignerValidationFailure", &why),
        }
        match view.replace_status(&told).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(None),
        }
    }
}

impl Signer {
    fn signed(&self, csr: &CertificateSigningRequest) -> Result<String, String> {
        let spec = &csr.spec;
        let usages = spec.usages.as_deref().unwrap_or_default();
        let request = Request::parse(&spec.request.0)?;
        signers::check(&spec.signer_name, &request, usages)?;
        let asked = spec.expiration_seconds.map(|seconds| SignedDuration::from_secs(i64::from(seconds)));
        let lifetime = asked.unwrap_or(LIFETIME).min(LIFETIME);
        self.authority.sign(&request, usages, lifetime, Timestamp::now()).map_err(|error| error.to_string())
    }
}
