//! A certificate authority on disk.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::Error;
use crate::files::{read_if_there, write_private, write_public};
use crate::leaf::{CertAndKey, Leaf, validity};

const TEN_YEARS: u64 = 10 * 365;

/// A certificate authority: `<name>.crt` and `<name>.key` in one directory.
pub struct Authority {
    certificate: String,
    certificate_path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority of that name in `directory`, made with `common_name` where there is none.
    pub fn ensure(directory: &Path, name: &str, common_name: &str) -> Result<Self, Error> {
        let certificate_path = directory.join(format!("{name}.crt"));
        let key_path = directory.join(format!("{name}.key"));
        let key = match read_if_there(&key_path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|e| Error::Unusable {
                what: "private key",
                path: key_path.clone(),
                reason: e.to_string(),
            })?,
            None => {
                let key = generate(common_name)?;
                write_private(&key_path, &key.serialize_pem())?;
                key
            }
        };
        let certificate = match read_if_there(&certificate_path)? {
            Some(pem) => pem,
            None => {
                let pem = params(common_name)
                    .and_then(|params| params.self_signed(&key))
                    .map_err(|source| issue_error(common_name, source))?
                    .pem();
                write_public(&certificate_path, &pem)?;
                pem
            }
        };
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|e| Error::Unusable {
            what: "CA certificate",
            path: certificate_path.clone(),
            reason: e.to_string(),
        })?;
        Ok(Self { certificate, certificate_path, issuer })
    }

    /// The authority's own certificate, in PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    pub fn certificate_path(&self) -> &Path {
        &self.certificate_path
    }

    /// A new key, and a certificate for it.
    pub fn issue(&self, leaf: &Leaf) -> Result<CertAndKey, Error> {
        let key = generate(&leaf.common_name)?;
        let certificate = leaf
            .params()
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .map_err(|source| issue_error(&leaf.common_name, source))?;
        Ok(CertAndKey { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// `<name>.crt` and `<name>.key` in `directory`: as they are when they are still good for `leaf`, or anew.
    pub fn ensure_leaf(&self, directory: &Path, name: &str, leaf: &Leaf) -> Result<CertAndKey, Error> {
        let certificate_path = directory.join(format!("{name}.crt"));
        let key_path = directory.join(format!("{name}.key"));
        if let (Some(certificate), Some(key)) = (read_if_there(&certificate_path)?, read_if_there(&key_path)?)
            && leaf.is_served_by(&certificate, &self.certificate)
        {
            return Ok(CertAndKey { certificate, key });
        }
        let issued = self.issue(leaf)?;
        write_private(&key_path, &issued.key)?;
        write_public(&certificate_path, &issued.certificate)?;
        Ok(issued)
    }
}

fn params(common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![common_name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    (params.not_before, params.not_after) = validity(TEN_YEARS);
    Ok(params)
}

fn generate(subject: &str) -> Result<KeyPair, Error> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|source| issue_error(subject, source))
}

fn issue_error(subject: &str, source: rcgen::Error) -> Error {
    Error::Issue { subject: subject.to_owned(), source }
}
