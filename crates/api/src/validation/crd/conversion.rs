//! `spec.conversion`. Upstream names its fields as they were in v1beta1.

use serde_json::Value;

use super::super::names::{dns1035_label, dns1123_label};
use super::super::read::{given, items, text};
use crate::field::{FieldErrors, Path};

pub fn check(conversion: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let webhook = &conversion["webhook"];
    let client = path.child("webhookClientConfig");
    let versions = path.child("conversionReviewVersions");
    match text(&conversion["strategy"]) {
        "" => errors.required(&path.child("strategy"), ""),
        "None" => {
            if given(&webhook["clientConfig"]) {
                errors.forbidden(&client, "should not be set when strategy is not set to Webhook");
            }
            if !items(&webhook["conversionReviewVersions"]).is_empty() {
                errors.forbidden(&versions, "should not be set when strategy is not set to Webhook");
            }
        }
        "Webhook" => {
            match &webhook["clientConfig"] {
                config if given(config) => client_config(config, &client, errors),
                _ => errors.required(&client, "required when strategy is set to Webhook"),
            }
            review_versions(&webhook["conversionReviewVersions"], &versions, errors);
        }
        other => errors.not_supported(&path.child("strategy"), other, &["None", "Webhook"]),
    }
}

fn client_config(config: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match (given(&config["url"]), given(&config["service"])) {
        (true, false) => url(text(&config["url"]), &path.child("url"), errors),
        (false, true) => service(&config["service"], &path.child("service"), errors),
        _ => errors.required(path, "exactly one of url or service is required"),
    }
}

fn url(url: &str, path: &Path<'_>, errors: &mut FieldErrors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some(rest) = url.strip_prefix("https://") else {
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        return errors.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        errors.invalid(path, "", format!("host must be specified{FORM}"));
    }
    if host.contains('@') {
        errors.invalid(path, "", "user information is not permitted in the URL");
    }
    if rest.contains('#') {
        errors.invalid(path, "", "fragments are not permitted in the URL");
    }
    if rest.contains('?') {
        errors.invalid(path, "", "query parameters are not permitted in the URL");
    }
}

fn service(service: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["name", "namespace"] {
        if text(&service[field]).is_empty() {
            errors.required(&path.child(field), format!("service {field} is required"));
        }
    }
    if let Some(at) = service["path"].as_str() {
        let path = path.child("path");
        if !at.starts_with('/') {
            errors.invalid(&path, at, "must start with a '/'");
        } else if at != "/" {
            let segments = at.trim_start_matches('/').trim_end_matches('/').split('/');
            if segments.clone().any(str::is_empty) {
                errors.invalid(&path, at, "segments may not be empty");
            }
        }
    }
    let port = service["port"].as_i64().unwrap_or(443);
    if !(1..=65535).contains(&port) {
        errors.invalid(
            &path.child("port"),
            port,
            "port is not valid: must be between 1 and 65535, inclusive",
        );
    }
}

fn review_versions(versions: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let list = items(versions);
    if list.is_empty() {
        return errors.required(path, "");
    }
    let mut seen = std::collections::HashSet::new();
    for (index, version) in list.iter().enumerate() {
        let version = text(version);
        if !seen.insert(version) {
            errors.invalid(&path.index(index), version, "duplicate version");
        }
        if let Some(problem) = dns1035_label(version).or_else(|| dns1123_label(version)) {
            errors.invalid(&path.index(index), version, problem);
        }
    }
    if !list.iter().any(|version| matches!(text(version), "v1" | "v1beta1")) {
        errors.invalid(path, versions.clone(), "must include at least one of v1, v1beta1");
    }
}
