//! Looking into PEM texts: which certificates there are, and whose keys they name.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;

use crate::Error;

const CERTIFICATE: &str = "CERTIFICATE";
const END: &str = "-----END CERTIFICATE-----";

fn unusable(reason: impl ToString) -> Error {
    Error::Unusable { what: "certificate", path: PathBuf::from("the text"), reason: reason.to_string() }
}

/// The certificates of a text in DER.
pub fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, Error> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(unusable)?;
        if block.label == CERTIFICATE {
            found.push(block.contents);
        }
    }
    Ok(found)
}

/// Each certificate of a text as a text of its own.
pub fn split_pem(pem: &str) -> Vec<String> {
    let parts = pem.split_inclusive(END).filter(|part| part.ends_with(END));
    parts.map(|part| format!("{}\n", part.trim_start())).collect()
}

/// `sha256:` and the hash of the public key of the first certificate, as kubeadm writes it: by it an authority is known,
/// whatever certificates it gives itself.
pub fn public_key_hash(pem: &str) -> Result<String, Error> {
    let der = certificates(pem)?.into_iter().next().ok_or_else(|| unusable("there is none"))?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).map_err(unusable)?;
    let digest = Sha256::digest(certificate.public_key().raw);
    Ok(digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}
