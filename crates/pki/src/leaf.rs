//! What a certificate is to say, and whether one that exists says it.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::X509Certificate;

const ONE_YEAR: u64 = 365;
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks of machines that just booted may be a little behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate in PEM and its private key in PKCS#8 PEM.
pub struct CertAndKey {
    pub certificate: String,
    pub key: String,
}

/// What a certificate is to say. Kubernetes reads the common name as a user and the organization as a group.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    pub common_name: String,
    pub organization: Option<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub server: bool,
    pub client: bool,
}

impl Leaf {
    /// A certificate with which `user`, a member of `group`, proves itself to the API server.
    pub fn client(user: &str, group: Option<&str>) -> Self {
        Self {
            common_name: user.to_owned(),
            organization: group.map(str::to_owned),
            client: true,
            ..Self::default()
        }
    }

    pub(crate) fn params(&self) -> Result<CertificateParams, rcgen::Error> {
        let mut names = self.dns_names.clone();
        names.extend(self.addresses.iter().map(IpAddr::to_string));
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(organization) = &self.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        if self.server {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if self.client {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        }
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(ONE_YEAR);
        Ok(params)
    }

    /// Whether `certificate` says all that this leaf wants, is signed by `authority`, and will be valid for a while.
    pub(crate) fn is_served_by(&self, certificate: &str, authority: &str) -> bool {
        let (Ok((_, leaf_pem)), Ok((_, authority_pem))) =
            (parse_x509_pem(certificate.as_bytes()), parse_x509_pem(authority.as_bytes()))
        else {
            return false;
        };
        let (Ok(leaf), Ok(authority)) = (leaf_pem.parse_x509(), authority_pem.parse_x509()) else {
            return false;
        };
        let now = since_epoch().as_secs() as i64;
        let lasts = leaf.validity().not_after.timestamp() - now > RENEW_BEFORE.as_secs() as i64;
        lasts
            && leaf.verify_signature(Some(authority.public_key())).is_ok()
            && first(leaf.subject().iter_common_name()) == Some(&self.common_name)
            && first(leaf.subject().iter_organization()) == self.organization.as_deref()
            && self.names_are_in(&leaf)
    }

    fn names_are_in(&self, certificate: &X509Certificate<'_>) -> bool {
        let names: &[GeneralName<'_>] = match certificate.subject_alternative_name() {
            Ok(Some(extension)) => &extension.value.general_names,
            _ => &[],
        };
        let has_dns = |wanted: &String| {
            names.iter().any(|name| matches!(name, GeneralName::DNSName(dns) if dns == wanted))
        };
        let has_address = |wanted: &IpAddr| {
            let octets = match wanted {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            names.iter().any(|name| matches!(name, GeneralName::IPAddress(bytes) if *bytes == octets))
        };
        self.dns_names.iter().all(has_dns) && self.addresses.iter().all(has_address)
    }
}

fn first<'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Option<&'a str> {
    attributes.next().and_then(|attribute| attribute.as_str().ok())
}

fn since_epoch() -> Duration {
    // A clock before 1970 is broken; certificates from 1970 on are the best that can be had then.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// From an hour ago until `days` from now, in the type that rcgen wants.
pub(crate) fn validity<T>(days: u64) -> (T, T)
where
    T: From<std::time::SystemTime>,
{
    let now = UNIX_EPOCH + since_epoch();
    (T::from(now - CLOCK_SKEW), T::from(now + DAY * days as u32))
}
