//! Probes and lifecycle hooks.

use super::read::{given, not_negative, one_of, port, port_or_name, required, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

/// Being unready ends nothing, so there is nothing to be given time for.
pub fn readiness(readiness: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    probe(readiness, false, path, errors);
    let grace = &readiness["terminationGracePeriodSeconds"];
    if given(grace) {
        let why = "must not be set for readinessProbes";
        errors.invalid(&path.child("terminationGracePeriodSeconds"), grace.clone(), why);
    }
}

pub fn probe(probe: &Value, must_succeed_once: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    if !given(probe) {
        return;
    }
    handler(probe, path, errors);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        not_negative(&probe[field], &path.child(field), errors);
    }
    if must_succeed_once && probe["successThreshold"].as_i64().is_some_and(|n| n != 1) {
        errors.invalid(&path.child("successThreshold"), probe["successThreshold"].clone(), "must be 1");
    }
    if probe["terminationGracePeriodSeconds"].as_i64().is_some_and(|n| n <= 0) {
        let field = path.child("terminationGracePeriodSeconds");
        errors.invalid(&field, probe["terminationGracePeriodSeconds"].clone(), "must be greater than 0");
    }
}

/// Exactly one way of asking or acting.
pub fn handler(handler: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut found = 0;
    for name in HANDLERS {
        let action = &handler[name];
        if !given(action) {
            continue;
        }
        found += 1;
        let path = path.child(name);
        if found > 1 {
            errors.forbidden(&path, "may not specify more than 1 handler type");
            continue;
        }
        match name {
            "exec" => required(&action["command"], &path.child("command"), errors),
            "httpGet" => {
                required(&action["path"], &path.child("path"), errors);
                port_or_name(&action["port"], &path.child("port"), errors);
                one_of(&action["scheme"], &["HTTP", "HTTPS"], &path.child("scheme"), errors);
                let headers = path.child("httpHeaders");
                for (i, header) in super::read::items(&action["httpHeaders"]).iter().enumerate() {
                    let name = text(&header["name"]);
                    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                        errors.invalid(
                            &headers.index(i).child("name"),
                            name,
                            "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
                        );
                    }
                }
            }
            "tcpSocket" => port_or_name(&action["port"], &path.child("port"), errors),
            "grpc" => {
                let zero = Value::from(0);
                let number = if given(&action["port"]) { &action["port"] } else { &zero };
                port(number, &path.child("port"), errors);
            }
            // How long a hook may sleep depends on its pod.
            _ => {}
        }
    }
    if found == 0 {
        errors.required(path, "must specify a handler type");
    }
}

/// Hooks; one that sleeps has to wake up within the pod's grace period.
pub fn lifecycle(lifecycle: &Value, grace: i64, path: &Path<'_>, errors: &mut FieldErrors) {
    for hook in ["postStart", "preStop"] {
        let action = &lifecycle[hook];
        if !given(action) {
            continue;
        }
        let path = path.child(hook);
        handler(action, &path, errors);
        let seconds = &action["sleep"]["seconds"];
        if seconds.as_i64().is_some_and(|n| n < 0 || n > grace) {
            let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
            errors.invalid(&path.child("sleep").child("seconds"), seconds.clone(), why);
        }
    }
}
