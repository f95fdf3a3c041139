//! Certificate signing requests: the request, its approval and the certificate.

use super::names;
use super::read::{is_empty, items, same, text};
use crate::field::{FieldErrors, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use std::collections::HashSet;

const SPEC: Path<'static> = Path::new("spec");
const STATUS: Path<'static> = Path::new("status");
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub fn request(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let request = SPEC.child("request");
    match pem_block(text(&spec["request"])) {
        Some(label) if label == "CERTIFICATE REQUEST" => {}
        _ => errors.invalid(&request, spec["request"].clone(), "PEM block type must be CERTIFICATE REQUEST"),
    }
    usages(&spec["usages"], errors);
    let signer = SPEC.child("signerName");
    match text(&spec["signerName"]) {
        "" => errors.required(&signer, ""),
        "kubernetes.io/legacy-unknown" => {
            errors.invalid(
                &signer,
                text(&spec["signerName"]),
                "the legacy signerName is not allowed via this API version",
            );
        }
        name => signer_name(name, &signer, errors),
    }
    if spec["expirationSeconds"].as_i64().is_some_and(|seconds| seconds < 600) {
        errors.invalid(
            &SPEC.child("expirationSeconds"),
            spec["expirationSeconds"].clone(),
            "may not specify a duration less than 600 seconds (10 minutes)",
        );
    }
    conditions(&object["status"]["conditions"], errors);
}

/// The label of the one PEM block that base64 text holds.
fn pem_block(text: &str) -> Option<String> {
    let bytes = BASE64.decode(text).ok()?;
    let pem = std::str::from_utf8(&bytes).ok()?;
    let begin = pem.find("-----BEGIN ")?;
    let rest = pem.get(begin + "-----BEGIN ".len()..)?;
    let (label, rest) = rest.split_once("-----")?;
    let end = format!("-----END {label}-----");
    rest.contains(&end).then(|| label.to_owned())
}

fn usages(list: &Value, errors: &mut FieldErrors) {
    let path = SPEC.child("usages");
    if is_empty(list) {
        errors.required(&path, "usages are required");
    }
    let mut seen = HashSet::new();
    for (i, usage) in items(list).iter().enumerate() {
        let path = path.index(i);
        if !USAGES.contains(&text(usage)) {
            errors.not_supported(&path, usage.clone(), &USAGES);
        }
        if !seen.insert(text(usage)) {
            errors.duplicate(&path, usage.clone());
        }
    }
}

/// `example.com/name`
pub fn signer_name(name: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    let Some((domain, rest)) = name.split_once('/') else {
        errors.invalid(
            path,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
        return;
    };
    if name.len() > 571 {
        errors.too_long(path, 571);
    }
    if let Some(problem) = names::dns1123_subdomain(domain) {
        errors.invalid(path, domain, format!("validating label {}: {problem}", crate::field::quote(domain)));
    } else if domain.split('.').count() < 2 {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    if rest.is_empty() || rest.split('.').any(|part| names::dns1123_label(part).is_some()) {
        errors.invalid(path, rest, "must be a DNS-1123 subdomain after the domain");
    }
}

fn conditions(list: &Value, errors: &mut FieldErrors) {
    let path = STATUS.child("conditions");
    let mut seen = HashSet::new();
    let (mut approved, mut denied) = (false, false);
    for (i, condition) in items(list).iter().enumerate() {
        let path = path.index(i);
        let (kind, status) = (text(&condition["type"]), text(&condition["status"]));
        if kind.is_empty() {
            errors.required(&path.child("type"), "");
        }
        match status {
            "" => errors.required(&path.child("status"), ""),
            "True" => {}
            "False" | "Unknown" if matches!(kind, "Approved" | "Denied" | "Failed") => {
                errors.not_supported(&path.child("status"), status, &["True"]);
            }
            "False" | "Unknown" => {}
            other => errors.not_supported(&path.child("status"), other, &["False", "True", "Unknown"]),
        }
        approved |= kind == "Approved";
        denied |= kind == "Denied";
        if !seen.insert(kind) {
            errors.duplicate(&path.child("type"), kind);
        }
    }
    if approved && denied {
        errors.invalid(&path, list.clone(), "Approved and Denied conditions are mutually exclusive");
    }
}

/// The conditions of this type stay as they were, unless this endpoint sets them.
fn fixed(kind: &str, new: &Value, old: &Value, errors: &mut FieldErrors) {
    let of = |object: &Value| -> Vec<Value> {
        items(&object["status"]["conditions"]).iter().filter(|c| text(&c["type"]) == kind).cloned().collect()
    };
    let (now, before) = (of(new), of(old));
    let path = STATUS.child("conditions");
    if now.len() < before.len() {
        errors.forbidden(
            &path,
            format!("updates may not remove a condition of type {}", crate::field::quote(kind)),
        );
    } else if now.len() > before.len() {
        errors.forbidden(
            &path,
            format!("updates may not add a condition of type {}", crate::field::quote(kind)),
        );
    } else if now != before {
        errors.forbidden(
            &path,
            format!("updates may not modify a condition of type {}", crate::field::quote(kind)),
        );
    }
}

pub fn status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    // Signers say what has become of a request, not whether it is approved.
    for kind in ["Approved", "Denied"] {
        fixed(kind, new, old, errors);
    }
    conditions(&new["status"]["conditions"], errors);
    let certificate = &new["status"]["certificate"];
    let path = STATUS.child("certificate");
    if !is_empty(&old["status"]["certificate"]) && !same(certificate, &old["status"]["certificate"]) {
        errors.forbidden(&path, "updates may not modify existing certificate content");
    } else if !is_empty(certificate) {
        match pem_block(text(certificate)) {
            Some(label) if label == "CERTIFICATE" => {}
            Some(_) => errors.invalid(
                &path,
                "<certificate data>",
                "only CERTIFICATE PEM blocks are allowed, found another",
            ),
            None => {
                errors.invalid(&path, "<certificate data>", "must contain at least one CERTIFICATE PEM block")
            }
        }
    }
}

pub fn approval(new: &Value, old: &Value, errors: &mut FieldErrors) {
    fixed("Failed", new, old, errors);
    // Decided is decided.
    for kind in ["Approved", "Denied"] {
        let had = items(&old["status"]["conditions"]).iter().any(|c| text(&c["type"]) == kind);
        let has = items(&new["status"]["conditions"]).iter().any(|c| text(&c["type"]) == kind);
        if had && !has {
            let path = STATUS.child("conditions");
            let why = format!("updates may not remove a condition of type {}", crate::field::quote(kind));
            errors.forbidden(&path, why);
        }
    }
    conditions(&new["status"]["conditions"], errors);
}
