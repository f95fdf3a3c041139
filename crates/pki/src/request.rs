//! Asking somebody else to sign: a key of one's own and a request that says what the certificate is to say.

use std::time::SystemTime;

use rcgen::{CertificateParams, DnType, KeyPair};

use crate::error::Error;
use crate::leaf::{CertAndKey, Leaf};

/// A certificate signing request in PEM, and the private key that it was made with.
pub struct Request {
    pub request: String,
    pub key: String,
}

fn params(leaf: &Leaf) -> Result<CertificateParams, rcgen::Error> {
    let mut names = leaf.dns_names.clone();
    names.extend(leaf.addresses.iter().map(ToString::to_string));
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(organization) = &leaf.organization {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    params.distinguished_name.push(DnType::CommonName, leaf.common_name.as_str());
    Ok(params)
}

impl Leaf {
    /// A request for this. What the certificate may be used for is told to the signer in other words.
    pub fn request(&self) -> Result<Request, Error> {
        let failed = |source| Error::Issue { subject: self.common_name.clone(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let request = params(self).and_then(|params| params.serialize_request(&key)).map_err(failed)?;
        Ok(Request { request: request.pem().map_err(failed)?, key: key.serialize_pem() })
    }

    /// A certificate that nobody but itself vouches for.
    pub fn self_signed(&self) -> Result<CertAndKey, Error> {
        let failed = |source| Error::Issue { subject: self.common_name.clone(), source };
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = self.params().and_then(|params| params.self_signed(&key)).map_err(failed)?;
        Ok(CertAndKey { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// From when until when the first certificate of a PEM text is valid.
pub fn validity(pem: &str) -> Option<(SystemTime, SystemTime)> {
    let mut rest = pem.as_bytes();
    loop {
        let (after, block) = x509_parser::pem::parse_x509_pem(rest).ok()?;
        if block.label == "CERTIFICATE" {
            let validity = block.parse_x509().ok()?.validity().clone();
            let at = |time: x509_parser::time::ASN1Time| {
                let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
                SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)
            };
            return Some((at(validity.not_before), at(validity.not_after)));
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_read() {
        let leaf = Leaf { dns_names: vec!["n".into()], server: true, ..Leaf::client("system:node:n", None) };
        let request = leaf.request().unwrap();
        assert!(request.request.contains("BEGIN CERTIFICATE REQUEST") && request.key.contains("PRIVATE KEY"));
        let issued = leaf.self_signed().unwrap();
        // The key comes first in the files of kubelets, or last.
        let (from, until) = validity(&format!("{}{}", issued.key, issued.certificate)).unwrap();
        assert!(from < SystemTime::now() && SystemTime::now() < until);
        assert_eq!(validity("nonsense"), None);
    }
}
