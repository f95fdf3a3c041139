//! Users by client certificate.
//!
//! The handshake has proved that the client has the key; here the chain is verified against an authority and the
//! subject read: the common name is the user, each organization a group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use exposition::{Family, Kind, Meters, Page};
use jiff::Timestamp;
use parking_lot::Mutex;
use ring::digest;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
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

const LEFT: &str = "apiserver_client_certificate_expiration_seconds";
const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
const FAMILIES: &[Family] = &[Family {
    name: LEFT,
    kind: Kind::Histogram(&[
        0.0,
        HOUR / 2.0,
        HOUR,
        2.0 * HOUR,
        6.0 * HOUR,
        12.0 * HOUR,
        DAY,
        2.0 * DAY,
        4.0 * DAY,
        7.0 * DAY,
        30.0 * DAY,
        90.0 * DAY,
        180.0 * DAY,
        360.0 * DAY,
    ]),
    help: "Distribution of the remaining lifetime on the certificate used to authenticate a request.",
}];

/// Users of the certificates seen, of one authority.
pub struct Users {
    authority: ArcSwap<Authority>,
    /// By the certificates themselves: hashing them well for every request would cost more than all else here.
    seen: Mutex<AHashMap<Box<[u8]>, Entry>>,
    meters: Meters,
}

/// Whose certificates are accepted.
type Authority = Arc<dyn ClientCertVerifier>;

/// The authority of PEM text.
fn authority(pem: &[u8]) -> Result<Authority, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.build().map_err(|error| error.to_string())
}

impl Users {
    pub fn new(pem: &[u8]) -> Result<Self, String> {
        let authority = ArcSwap::from_pointee(authority(pem)?);
        Ok(Self { authority, seen: Mutex::default(), meters: Meters::new(FAMILIES) })
    }

    /// How long the certificates that came still hold, as Prometheus reads it.
    pub fn write_metrics(&self, page: &mut Page) {
        self.meters.write(page);
    }

    /// Other certificates of authorities are in force.
    pub fn set_authority(&self, pem: &[u8]) -> Result<(), String> {
        self.authority.store(Arc::new(authority(pem)?));
        self.seen.lock().clear();
        Ok(())
    }

    /// The user that a certificate names, which comes with those between it and its authority. Its time is checked
    /// again: connections live long.
    pub fn user(&self, certificates: &[CertificateDer<'_>], now: Timestamp) -> Result<UserInfo, AuthnError> {
        let (certificate, between) =
            certificates.split_first().ok_or(AuthnError::Certificate { reason: "there is none" })?;
        let seen = self.seen.lock().get(&certificate[..]).cloned();
        let entry = match seen {
            Some(entry) => entry,
            None => {
                let fingerprint = digest::digest(&digest::SHA256, certificate);
                let entry = read(certificate, fingerprint.as_ref())?;
                if now.as_second() > entry.not_after {
                    return Err(AuthnError::Certificate { reason: "it has expired" });
                }
                let authority = self.authority.load();
                let verified = authority.verify_client_cert(certificate, between, UnixTime::now());
                verified.map_err(|_| AuthnError::Certificate { reason: "its authority is not trusted" })?;
                let mut seen = self.seen.lock();
                if seen.len() >= MAX_CACHED {
                    seen.clear();
                }
                seen.insert(certificate[..].into(), entry.clone());
                entry
            }
        };
        let left = entry.not_after.saturating_sub(now.as_second());
        if left < 0 {
            return Err(AuthnError::Certificate { reason: "it has expired" });
        }
        self.meters.took(LEFT, &[], Duration::from_secs(left.unsigned_abs()));
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
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    };

    use super::*;

    fn params(name: Option<&str>, groups: &[&str]) -> CertificateParams {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        if let Some(name) = name {
            subject.push(DnType::CommonName, name);
        }
        for group in groups {
            subject.push(DnType::OrganizationName, *group);
        }
        params.distinguished_name = subject;
        params
    }

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = params(Some("ca"), &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
    }

    fn certificate(
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: Option<&str>,
        groups: &[&str],
    ) -> CertificateDer<'static> {
        let key = KeyPair::generate().expect("a key");
        params(name, groups).signed_by(&key, authority).expect("a certificate").der().clone()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn subject_names_user_and_groups() {
        let authority = authority();
        let users = Users::new(authority.pem().as_bytes()).expect("an authority");
        let der = certificate(&authority, Some("kubernetes-admin"), &["kubeadm:cluster-admins"]);
        for _ in 0..2 {
            let user = users.user(std::slice::from_ref(&der), at(1_800_000_000)).expect("accepted");
            assert_eq!(user.name, "kubernetes-admin");
            assert_eq!(user.groups, ["kubeadm:cluster-admins", "system:authenticated"]);
            assert!(user.extra[super::super::CREDENTIAL_ID][0].starts_with("X509SHA256="));
        }
        let mut page = Page::default();
        users.write_metrics(&mut page);
        let metrics = page.text();
        let count = format!("{LEFT}_count 2");
        assert!(metrics.contains(&count), "{metrics}");
        // An authority that is trusted no more.
        users.set_authority(super::tests::authority().pem().as_bytes()).expect("another authority");
        assert!(users.user(&[der], at(1_800_000_000)).is_err());
    }

    #[test]
    fn refusals() {
        let ours = authority();
        let users = Users::new(ours.pem().as_bytes()).expect("an authority");
        let check = |der: CertificateDer<'static>, now: i64, part: &str| {
            let error = users.user(&[der], at(now)).expect_err("refused");
            assert!(error.to_string().contains(part), "{error}");
        };
        check(certificate(&ours, None, &["x"]), 1_800_000_000, "common name");
        check(CertificateDer::from(vec![1, 2, 3]), 1_800_000_000, "DER");
        check(certificate(&authority(), Some("x"), &[]), 1_800_000_000, "not trusted");
        // rcgen's default is to be valid until the year 4096.
        check(certificate(&ours, Some("x"), &[]), 100_000_000_000, "expired");
        assert!(users.user(&[], at(0)).is_err());
    }
}
