//! Certificate signing requests: [`approve`] approves those that kubelets make for themselves, [`sign`] signs what is
//! approved for the signers of Kubernetes' own, [`clean`] removes old ones.

mod approve;
mod authority;
mod clean;
mod der;
mod request;
mod serving;
mod sign;
mod signers;

use std::sync::Arc;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

use crate::kit::World;
use crate::{Config, Error, Loops};

pub use authority::Authority;

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

pub fn start(world: &Arc<World>, loops: &mut Loops, config: &Config) -> Result<(), Error> {
    loops.start("certificatesigningrequest-approving-controller", |loops| approve::start(world, loops));
    loops.start("certificatesigningrequest-cleaner-controller", |loops| clean::start(world, loops));
    if let Some(files) = &config.cluster_signing
        && loops.runs("certificatesigningrequest-signing-controller")
    {
        sign::start(world, loops, Authority::new(&files.certificate_pem, &files.key_pem)?);
    }
    Ok(())
}

fn condition<'a>(
    csr: &'a CertificateSigningRequest,
    type_: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = csr.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status != "False")
}

/// Approved, and not denied as well.
fn is_approved(csr: &CertificateSigningRequest) -> bool {
    condition(csr, APPROVED).is_some() && condition(csr, DENIED).is_none()
}

fn certificate(csr: &CertificateSigningRequest) -> Option<&[u8]> {
    let certificate = csr.status.as_ref()?.certificate.as_ref()?;
    (!certificate.0.is_empty()).then_some(&certificate.0)
}

fn add_condition(csr: &mut CertificateSigningRequest, type_: &str, reason: &str, message: &str) {
    let now = crate::kit::meta::now();
    let condition = CertificateSigningRequestCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now),
    };
    csr.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
}
