//! The cluster's certificate authority, as far as signing requests needs it. Free of IO.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::pem::parse_x509_pem;

use super::der;
use super::request::Request;
use crate::Error;

/// Clocks of those who look at a new certificate may be a little behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// Certificates that last less than this are not backdated: it would be a part of their life.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const ECDSA_SHA384: &[u64] = &[1, 2, 840, 10045, 4, 3, 3];
const RSA_SHA256: &[u64] = &[1, 2, 840, 113_549, 1, 1, 11];
const NULL: [u8; 2] = [5, 0];

enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

pub struct Authority {
    key: Key,
    /// The name that certificates have as their issuer; DER.
    name: Vec<u8>,
    key_id: Option<Vec<u8>>,
    /// No certificate outlives the authority's own.
    expires: Timestamp,
    random: SystemRandom,
}

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("unsupported key usage: {0}")]
    Usage(String),
    #[error("the random numbers of this machine fail")]
    Random,
    #[error("the key of the cluster's certificate authority does not sign")]
    Key,
}

impl Authority {
    pub fn new(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let unusable = |what, reason: String| Error::Signing { what, reason };
        let bad_certificate = |reason: String| unusable("certificate", reason);
        let (_, pem) =
            parse_x509_pem(certificate_pem.as_bytes()).map_err(|error| bad_certificate(error.to_string()))?;
        let certificate = pem.parse_x509().map_err(|error| bad_certificate(error.to_string()))?;
        let key_id =
            certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
        let expires = Timestamp::from_second(certificate.validity().not_after.timestamp())
            .map_err(|error| bad_certificate(error.to_string()))?;
        let (_, pem) =
            parse_x509_pem(key_pem.as_bytes()).map_err(|error| unusable("private key", error.to_string()))?;
        let random = SystemRandom::new();
        let key = read_key(&pem.contents, &random).ok_or_else(|| {
            unusable("private key", "it is neither PKCS#8 ECDSA (P-256, P-384) nor RSA".to_owned())
        })?;
        Ok(Self { key, name: certificate.subject().as_raw().to_vec(), key_id, expires, random })
    }

    /// A certificate (PEM) for what was requested.
    pub fn sign(
        &self,
        request: &Request,
        usages: &[String],
        lifetime: SignedDuration,
        now: Timestamp,
    ) -> Result<String, SignError> {
        let mut serial = [0_u8; 16];
        self.random.fill(&mut serial).map_err(|_| SignError::Random)?;
        // A serial number is positive.
        serial[0] &= 0x7f;
        let backdate = if lifetime < SHORT { SignedDuration::ZERO } else { BACKDATE };
        let from = now.checked_sub(backdate).unwrap_or(now);
        let until = now.checked_add(lifetime - backdate).unwrap_or(self.expires).min(self.expires);
        let algorithm = self.algorithm();
        let body = der::sequence(&[
            der::explicit(0, &der::integer(&[2])),
            der::integer(&serial),
            algorithm.clone(),
            self.name.clone(),
            der::sequence(&[der::time(from), der::time(until)]),
            request.subject.clone(),
            request.public_key.clone(),
            der::explicit(3, &der::sequence(&self.extensions(request, usages)?)),
        ]);
        let signature = self.signature(&body)?;
        let certificate = der::sequence(&[body, algorithm, der::bit_string(&signature)]);
        Ok(to_pem(&certificate))
    }

    fn algorithm(&self) -> Vec<u8> {
        match self.key {
            Key::P256(_) => der::sequence(&[der::oid(ECDSA_SHA256)]),
            Key::P384(_) => der::sequence(&[der::oid(ECDSA_SHA384)]),
            Key::Rsa(_) => der::sequence(&[der::oid(RSA_SHA256), NULL.to_vec()]),
        }
    }

    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.key {
            Key::P256(pair) | Key::P384(pair) => {
                let signature = pair.sign(&self.random, message).map_err(|_| SignError::Key)?;
                Ok(signature.as_ref().to_vec())
            }
            Key::Rsa(pair) => {
                let mut out = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.random, message, &mut out).map_err(|_| SignError::Key)?;
                Ok(out)
            }
        }
    }

    fn extensions(&self, request: &Request, usages: &[String]) -> Result<Vec<Vec<u8>>, SignError> {
        let (mut bits, mut extended) = (Vec::new(), Vec::new());
        for usage in usages {
            match usage_of(usage) {
                Some(Usage::Bit(bit)) => bits.push(bit),
                Some(Usage::Extended(arcs)) => extended.push(der::oid(arcs)),
                None => return Err(SignError::Usage(usage.clone())),
            }
        }
        let mut extensions = Vec::new();
        if !bits.is_empty() {
            extensions.push(extension(&[2, 5, 29, 15], true, &der::named_bits(&bits)));
        }
        if !extended.is_empty() {
            extensions.push(extension(&[2, 5, 29, 37], false, &der::sequence(&extended)));
        }
        // Nobody who gets a certificate this way becomes an authority.
        extensions.push(extension(&[2, 5, 29, 19], true, &der::sequence(&[])));
        if let Some(id) = &self.key_id {
            let identifier = der::sequence(&[der::tagged(0x80, id)]);
            extensions.push(extension(&[2, 5, 29, 35], false, &identifier));
        }
        if let Some(names) = &request.alternative_names {
            extensions.push(extension(&[2, 5, 29, 17], false, names));
        }
        Ok(extensions)
    }
}

fn extension(id: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::boolean(true) } else { Vec::new() };
    der::sequence(&[der::oid(id), critical, der::octet_string(value)])
}

fn read_key(der: &[u8], random: &SystemRandom) -> Option<Key> {
    let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der, random).ok();
    ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
        .map(Key::P256)
        .or_else(|| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Key::P384))
        .or_else(|| RsaKeyPair::from_pkcs8(der).ok().map(|pair| Key::Rsa(Box::new(pair))))
        .or_else(|| RsaKeyPair::from_der(der).ok().map(|pair| Key::Rsa(Box::new(pair))))
}

enum Usage {
    Bit(u8),
    Extended(&'static [u64]),
}

fn usage_of(name: &str) -> Option<Usage> {
    Some(match name {
        "signing" | "digital signature" => Usage::Bit(0),
        "content commitment" => Usage::Bit(1),
        "key encipherment" => Usage::Bit(2),
        "data encipherment" => Usage::Bit(3),
        "key agreement" => Usage::Bit(4),
        "cert sign" => Usage::Bit(5),
        "crl sign" => Usage::Bit(6),
        "encipher only" => Usage::Bit(7),
        "decipher only" => Usage::Bit(8),
        "any" => Usage::Extended(&[2, 5, 29, 37, 0]),
        "server auth" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 1]),
        "client auth" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 2]),
        "code signing" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 3]),
        "email protection" | "s/mime" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 4]),
        "ipsec end system" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 5]),
        "ipsec tunnel" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 6]),
        "ipsec user" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 7]),
        "timestamping" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 8]),
        "ocsp signing" => Usage::Extended(&[1, 3, 6, 1, 5, 5, 7, 3, 9]),
        "microsoft sgc" => Usage::Extended(&[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
        "netscape sgc" => Usage::Extended(&[2, 16, 840, 1, 113_730, 4, 1]),
        _ => return None,
    })
}

fn to_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        // Base64 is ASCII: any place is a character's.
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, SanType};
    use x509_parser::extensions::GeneralName;

    use super::*;

    fn authority() -> (Authority, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        (Authority::new(&certificate, &key.serialize_pem()).expect("usable"), certificate)
    }

    #[test]
    fn what_is_requested_is_certified_and_verifies() {
        let (authority, authority_pem) = authority();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, "system:node:n1");
        params.subject_alt_names = vec![SanType::IpAddress("10.0.0.1".parse().unwrap())];
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let request = Request::parse(pem.as_bytes()).unwrap();
        assert_eq!((request.common_name.as_str(), request.addresses), ("system:node:n1", 1));

        let usages = ["digital signature", "key encipherment", "server auth"].map(str::to_owned);
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let signed = authority.sign(&request, &usages, SignedDuration::from_hours(24), now).unwrap();
        let (_, pem) = parse_x509_pem(signed.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        let (_, authority_pem) = parse_x509_pem(authority_pem.as_bytes()).unwrap();
        let authority = authority_pem.parse_x509().unwrap();
        certificate.verify_signature(Some(authority.public_key())).expect("signed by the authority");
        assert_eq!(certificate.issuer(), authority.subject());
        assert_eq!(certificate.subject().as_raw(), request.subject);
        assert!(!certificate.is_ca());
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        let extended = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth);
        let names = certificate.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names, [GeneralName::IPAddress(&[10, 0, 0, 1])]);
        assert_eq!(certificate.validity().not_before.timestamp(), now.as_second() - 300);
        assert_eq!(certificate.validity().not_after.timestamp(), now.as_second() + 24 * 3600 - 300);
    }

    #[test]
    fn garbage_is_refused() {
        let (authority, certificate) = authority();
        let check = |pem: &str| assert!(Request::parse(pem.as_bytes()).is_err(), "{pem}");
        check("");
        check("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n");
        check(&certificate);
        let usages = ["world domination".to_owned()];
        let day = SignedDuration::from_hours(24);
        assert!(authority.sign(&Request::default(), &usages, day, Timestamp::UNIX_EPOCH).is_err());
        assert!(Authority::new("x", "y").is_err());
    }
}
