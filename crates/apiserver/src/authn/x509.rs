//! Users by client certificate.
//!
//! rustls has verified the chain against the client CA and the proof of the key; what is left is reading the
//! subject: the common name is the user, each organization a group.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use parking_lot::Mutex;
use ring::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AuthnError, UserInfo};

/// The OID by which a subject carries a uid (an arc of Kubernetes' private enterprise number).
const UID_OID: &str = "1.3.6.1.4.1.57683.2";

/// Certificates are read once; more than these at a time and reading starts over.
const MAX_CACHED: usize = 4096;

#[derive(Clone)]
struct Entry {
    user: UserInfo,
    not_after: i64,
}

/// Users of the certificates seen.
#[derive(Default)]
pub struct Users {
    seen: Mutex<HashMap<[u8; 32], Entry>>,
}

impl Users {
    /// The user that a certificate names. Its time is checked again: connections live long.
    pub fn user(&self, certificate: &CertificateDer<'_>, now: Timestamp) -> Result<UserInfo, AuthnError> {
        let digest = digest::digest(&digest::SHA256, certificate);
        let fingerprint: [u8; 32] = digest
            .as_ref()
            .try_into()
            .map_err(|_| AuthnError::Certificate { reason: "it has no fingerprint" })?;
        let seen = self.seen.lock().get(&fingerprint).cloned();
        let entry = match seen {
            Some(entry) => entry,
            None => {
                let entry = read(certificate, &fingerprint)?;
                let mut seen = self.seen.lock();
                if seen.len() >= MAX_CACHED {
                    seen.clear();
                }
                seen.insert(fingerprint, entry.clone());
                entry
            }
        };
        if now.as_second() > entry.not_after {
            return Err(AuthnError::Certificate { reason: "it has expired" });
        }
        Ok(entry.user)
    }
}

fn read(certificate: &CertificateDer<'_>, fingerprint: &[u8]) -> Result<Entry, AuthnError> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| AuthnError::Certificate { reason: "it is not valid DER" })?;
    let subject = parsed.subject();
    let name =
        subject.iter_common_name().next().and_then(|attribute| attribute.as_str().ok()).unwrap_or_default();
    if name.is_empty() {
        return Err(AuthnError::Certificate { reason: "its subject has no common name" });
    }
    let groups: Vec<&str> =
        subject.iter_organization().filter_map(|attribute| attribute.as_str().ok()).collect();
    let uid = subject
        .iter_attributes()
        .find(|attribute| attribute.attr_type().to_id_string() == UID_OID)
        .and_then(|attribute| attribute.as_str().ok())
        .unwrap_or_default();
    let mut user = UserInfo::authenticated(name, &groups);
    user.uid = uid.to_owned();
    user.extra = BTreeMap::from([(
        super::CREDENTIAL_ID.to_owned(),
        vec![format!("X509SHA256={}", super::hex(fingerprint))],
    )]);
    Ok(Entry { user, not_after: parsed.validity().not_after.timestamp() })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn certificate(name: Option<&str>, groups: &[&str]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        if let Some(name) = name {
            subject.push(DnType::CommonName, name);
        }
        for group in groups {
            subject.push(DnType::OrganizationName, *group);
        }
        params.distinguished_name = subject;
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().clone()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn subject_names_user_and_groups() {
        let users = Users::default();
        let der = certificate(Some("kubernetes-admin"), &["kubeadm:cluster-admins"]);
        for _ in 0..2 {
            let user = users.user(&der, at(1_800_000_000)).expect("accepted");
            assert_eq!(user.name, "kubernetes-admin");
            assert_eq!(user.groups, ["kubeadm:cluster-admins", "system:authenticated"]);
            assert!(user.extra[super::super::CREDENTIAL_ID][0].starts_with("X509SHA256="));
        }
    }

    #[test]
    fn refusals() {
        let users = Users::default();
        let check = |der: &CertificateDer<'_>, now: i64, part: &str| {
            let error = users.user(der, at(now)).expect_err("refused");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(&certificate(None, &["x"]), 1_800_000_000, "common name");
        check(&CertificateDer::from(vec![1, 2, 3]), 1_800_000_000, "DER");
        // rcgen's default is to be valid until the year 4096.
        check(&certificate(Some("x"), &[]), 100_000_000_000, "expired");
    }
}
