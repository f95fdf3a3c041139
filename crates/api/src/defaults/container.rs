//! Containers of all three sorts: pull policy, termination message, ports, environment, probes, hooks.

use super::edit::{Object, each, ensure, get, set, set_number, set_text, text};
use super::quantities;
use serde_json::Value;

pub fn container(c: &mut Object) {
    let policy = pull_policy(text(c, "image"));
    set_text(c, "imagePullPolicy", policy);
    set_text(c, "terminationMessagePath", "/dev/termination-log");
    set_text(c, "terminationMessagePolicy", "File");
    each(c, "ports", |port| set_text(port, "protocol", "TCP"));
    each(c, "env", |variable| {
        let Some(source) = get(variable, "valueFrom") else { return };
        if let Some(field) = get(source, "fieldRef") {
            set_text(field, "apiVersion", "v1");
        }
        if let Some(resource) = get(source, "resourceFieldRef") {
            divisor(resource);
        }
        if let Some(file) = get(source, "fileKeyRef") {
            set(file, "optional", false);
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = get(c, name) {
            probe(p);
        }
    }
    if let Some(lifecycle) = get(c, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(http) = get(lifecycle, name).and_then(|hook| get(hook, "httpGet")) {
                http_get(http);
            }
        }
    }
    // Not a default, but always there: a plain struct in the API's Go types.
    if let Some(resources) = ensure(c, "resources") {
        quantities::requirements(resources);
    }
}

/// `resourceFieldRef.divisor` is a plain quantity, shown as "0" when it is not given.
pub fn divisor(resource: &mut Object) {
    set(resource, "divisor", "0");
    quantities::single(resource, "divisor");
}

fn probe(p: &mut Object) {
    set_number(p, "timeoutSeconds", 1);
    set_number(p, "periodSeconds", 10);
    set_number(p, "successThreshold", 1);
    set_number(p, "failureThreshold", 3);
    if let Some(http) = get(p, "httpGet") {
        http_get(http);
    }
    if let Some(grpc) = get(p, "grpc") {
        set(grpc, "service", "");
    }
}

fn http_get(http: &mut Object) {
    set_text(http, "path", "/");
    set_text(http, "scheme", "HTTP");
}

/// Always for `:latest` (said or meant), else only when the image is not there.
pub fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    // A colon before the last slash belongs to the registry's port.
    let last = name.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        Some(_) => "IfNotPresent",
        None if digest || image.is_empty() => "IfNotPresent",
        None => "Always",
    }
}

/// What a container may use at most it also asks for, unless it asks for something else. Only in pods, not in templates.
pub fn requests_from_limits(c: &mut Object) {
    let Some(resources) = get(c, "resources") else { return };
    let Some(Value::Object(limits)) = resources.get("limits") else { return };
    let requests = resources.get("requests").and_then(Value::as_object);
    let absent: Vec<(String, Value)> = limits
        .iter()
        .filter(|(name, _)| requests.is_none_or(|r| !r.contains_key(*name)))
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect();
    if !absent.is_empty()
        && let Some(requests) = ensure(resources, "requests")
    {
        requests.extend(absent);
    }
}

/// On the host's network a container port is a host port.
pub fn host_ports(c: &mut Object) {
    each(c, "ports", |port| {
        if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
            set_number(port, "hostPort", number);
        }
    });
}
