//! Projected volumes: files from several sources in one directory, no two of them at the same path.

use super::read::{given, in_range, is_empty, items, one_of, required, text};
use super::security::descending;
use super::selector::label_selector;
use super::volume::{downward_files, key_files, mode};
use super::{certificates, names};
use crate::field::{FieldErrors, Path};
use serde_json::Value;
use std::collections::HashSet;

const KEY_TYPES: [&str; 6] = ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
const PATHS_OF_CERTIFICATES: [&str; 3] = ["credentialBundlePath", "keyPath", "certificateChainPath"];
/// An hour and 91 days.
const CERTIFICATE_LIFETIME: (i64, i64) = (3600, 7_862_400);

pub fn projected(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    let sources = path.child("sources");
    let mut paths: HashSet<&str> = HashSet::new();
    for (i, one) in items(&source["sources"]).iter().enumerate() {
        let path = sources.index(i);
        let mut found = false;
        for (kind, projection) in super::read::members(one) {
            if !given(projection) {
                continue;
            }
            let path = path.child(kind);
            if std::mem::replace(&mut found, true) {
                errors.forbidden(&path, "may not specify more than 1 volume type per source");
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    required(&projection["name"], &path.child("name"), errors);
                    key_files(&projection["items"], &path.child("items"), errors);
                }
                "downwardAPI" => downward_files(&projection["items"], &path.child("items"), errors),
                "serviceAccountToken" => token(projection, &path, errors),
                "clusterTrustBundle" => trust_bundle(projection, &path, errors),
                "podCertificate" => certificate(projection, &path, errors),
                _ => {}
            }
            let files = items(&projection["items"]).iter().map(|file| text(&file["path"]));
            let own = ["path"].into_iter().chain(PATHS_OF_CERTIFICATES).map(|field| text(&projection[field]));
            for target in files.chain(own).filter(|target| !target.is_empty()) {
                if !paths.insert(target) {
                    errors.invalid(&path, target, "conflicting duplicate paths");
                }
            }
        }
        if !found {
            errors.required(&path, "");
        }
    }
}

fn token(projection: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    required(&projection["path"], &path.child("path"), errors);
    descending(&projection["path"], &path.child("path"), errors);
    let expiration = &projection["expirationSeconds"];
    let field = path.child("expirationSeconds");
    match expiration.as_i64() {
        Some(n) if n < 600 => errors.invalid(&field, n, "may not specify a duration less than 10 minutes"),
        Some(n) if n > 1 << 32 => {
            errors.invalid(&field, n, "may not specify a duration larger than 2^32 seconds")
        }
        _ => {}
    }
}

fn trust_bundle(projection: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (name, signer) = (&projection["name"], &projection["signerName"]);
    match (given(name), given(signer)) {
        (true, true) => {
            errors.invalid(path, projection.clone(), "only one of name and signerName may be used")
        }
        (false, false) => errors.required(path, "either name or signerName must be specified"),
        (true, false) => {
            required(name, &path.child("name"), errors);
            if given(&projection["labelSelector"]) {
                let why = "labelSelector may only be used with signerName";
                errors.invalid(&path.child("labelSelector"), projection["labelSelector"].clone(), why);
            }
            if let Some(problem) = names::path_segment(text(name)) {
                errors.invalid(&path.child("name"), name.clone(), problem);
            }
        }
        (false, true) => {
            required(signer, &path.child("signerName"), errors);
            if !is_empty(signer) {
                certificates::signer_name(text(signer), &path.child("signerName"), errors);
            }
            label_selector(&projection["labelSelector"], &path.child("labelSelector"), errors);
        }
    }
    required(&projection["path"], &path.child("path"), errors);
    descending(&projection["path"], &path.child("path"), errors);
}

fn certificate(projection: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let signer = text(&projection["signerName"]);
    if signer.is_empty() {
        errors.required(&path.child("signerName"), "");
    } else {
        certificates::signer_name(signer, &path.child("signerName"), errors);
    }
    required(&projection["keyType"], &path.child("keyType"), errors);
    if !is_empty(&projection["keyType"]) {
        one_of(&projection["keyType"], &KEY_TYPES, &path.child("keyType"), errors);
    }
    let (shortest, longest) = CERTIFICATE_LIFETIME;
    in_range(
        &projection["maxExpirationSeconds"],
        shortest,
        longest,
        &path.child("maxExpirationSeconds"),
        errors,
    );
    let mut any = false;
    for field in PATHS_OF_CERTIFICATES {
        any |= !is_empty(&projection[field]);
        descending(&projection[field], &path.child(field), errors);
    }
    if !any {
        errors.required(
            path,
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
        );
    }
    super::metadata::annotations(&projection["userAnnotations"], &path.child("userAnnotations"), errors);
}
