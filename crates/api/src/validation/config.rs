//! ConfigMaps and Secrets.

use super::names;
use super::read::{is_true, members, same, text};
use crate::field::{FieldErrors, Path};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

/// All values together.
const MAX_SIZE: usize = 1 << 20;
const DATA: Path<'static> = Path::new("data");

pub fn config_map(object: &Value, errors: &mut FieldErrors) {
    let mut size = 0;
    for (key, value) in members(&object["data"]) {
        if let Some(problem) = names::config_map_key(key) {
            errors.invalid(&DATA.key(key), key.as_str(), problem);
        }
        if object["binaryData"].get(key).is_some() {
            let detail = "duplicate of key present in binaryData";
            errors.invalid(&DATA.key(key), key.as_str(), detail);
        }
        size += text(value).len();
    }
    let binary = Path::new("binaryData");
    for (key, value) in members(&object["binaryData"]) {
        if let Some(problem) = names::config_map_key(key) {
            errors.invalid(&binary.key(key), key.as_str(), problem);
        }
        size += decoded_len(value);
    }
    if size > MAX_SIZE {
        // All of it is too much, not one field: so clients see it.
        errors.too_long(&Path::ROOT.key(""), MAX_SIZE);
    }
}

/// The number of bytes that base64 text stands for.
fn decoded_len(value: &Value) -> usize {
    let text = text(value);
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

pub fn config_map_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    frozen(new, old, &["data", "binaryData"], errors);
}

/// Once `immutable` is set, neither it nor the contents change.
fn frozen(new: &Value, old: &Value, fields: &[&str], errors: &mut FieldErrors) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !is_true(&old["immutable"]) {
        return;
    }
    if !is_true(&new["immutable"]) {
        errors.forbidden(&Path::new("immutable"), WHY);
    }
    for field in fields {
        if !same(&new[*field], &old[*field]) {
            errors.forbidden(&Path::new(field), WHY);
        }
    }
}

pub fn secret(object: &Value, errors: &mut FieldErrors) {
    let mut size = 0;
    for (key, value) in members(&object["data"]) {
        if let Some(problem) = names::config_map_key(key) {
            errors.invalid(&DATA.key(key), key.as_str(), problem);
        }
        size += decoded_len(value);
    }
    if size > MAX_SIZE {
        errors.too_long(&DATA, MAX_SIZE);
    }
    secret_type(object, errors);
}

fn secret_type(object: &Value, errors: &mut FieldErrors) {
    let data = &object["data"];
    match text(&object["type"]) {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if text(&object["metadata"]["annotations"][key]).is_empty() {
                let metadata = Path::new("metadata");
                errors.required(&metadata.child("annotations").key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => json_key(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_key(data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            errors.required(&DATA.key("username"), "");
            errors.required(&DATA.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if text(&data["ssh-privatekey"]).is_empty() => {
            errors.required(&DATA.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| data.get(key).is_none()) {
                errors.required(&DATA.key(key), "");
            }
        }
        _ => {}
    }
}

/// A value that must be JSON. The message does not repeat it: it is a secret.
fn json_key(data: &Value, key: &str, errors: &mut FieldErrors) {
    let path = DATA.key(key);
    match data.get(key) {
        None => errors.required(&path, ""),
        Some(value) => {
            let valid =
                BASE64.decode(text(value)).is_ok_and(|json| serde_json::from_slice::<Value>(&json).is_ok());
            if !valid {
                errors.invalid(&path, "<secret contents redacted>", "invalid character in JSON");
            }
        }
    }
}

pub fn secret_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    super::read::unchanged(&new["type"], &old["type"], &Path::new("type"), errors);
    frozen(new, old, &["data"], errors);
}
