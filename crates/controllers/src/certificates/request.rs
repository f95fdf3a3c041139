//! What a certificate request (PKCS#10) asks for. Free of IO.

use std::net::IpAddr;

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

/// The parts of a request that signers judge, and those that go into the certificate as they are.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: usize,
    pub addresses: usize,
    pub emails: usize,
    pub uris: usize,
    /// The DNS names and addresses themselves.
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
    /// DER.
    pub subject: Vec<u8>,
    pub public_key: Vec<u8>,
    /// The value of the extension with the alternative names.
    pub alternative_names: Option<Vec<u8>>,
}

impl Request {
    /// Reads PEM; the request must be signed by the key that it is for.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let (_, pem) = parse_x509_pem(pem).map_err(|error| format!("it is not PEM: {error}"))?;
        if !matches!(pem.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") {
            return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
        }
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents)
            .map_err(|error| format!("it is no certificate request: {error}"))?;
        parsed.verify_signature().map_err(|error| format!("its signature is wrong: {error}"))?;
        let info = &parsed.certification_request_info;
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute
                .as_str()
                .map(str::to_owned)
                .map_err(|error| format!("its subject is unreadable: {error}"))
        };
        let mut request = Self {
            common_name: info.subject.iter_common_name().next().map(text).transpose()?.unwrap_or_default(),
            organizations: info.subject.iter_organization().map(text).collect::<Result<_, _>>()?,
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            ..Self::default()
        };
        let extensions = info.iter_attributes().filter_map(|attribute| match attribute.parsed_attribute() {
            x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(extensions) => Some(extensions),
            _ => None,
        });
        for extension in extensions.flat_map(|request| &request.extensions) {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                request.alternative_names = Some(extension.value.to_vec());
                request.count(&names.general_names)?;
            }
        }
        Ok(request)
    }

    fn count(&mut self, names: &[GeneralName<'_>]) -> Result<(), String> {
        for name in names {
            match name {
                GeneralName::DNSName(name) => {
                    self.dns_names += 1;
                    self.dns.push(name.to_ascii_lowercase());
                }
                GeneralName::IPAddress(bytes) => {
                    self.addresses += 1;
                    self.ips.push(address(bytes).ok_or("it has an address of no known family")?);
                }
                GeneralName::RFC822Name(_) => self.emails += 1,
                GeneralName::URI(_) => self.uris += 1,
                _ => {
                    return Err(
                        "it has an alternative name that is no DNS name, address, email or URI".to_owned()
                    );
                }
            }
        }
        Ok(())
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
