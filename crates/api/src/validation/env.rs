//! Environment variables and the references from which they, and files, take their values.

use super::names;
use super::read::{given, invalid_if, is_empty, items, required, text};
use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use serde_json::Value;

const FIELDS: [&str; 11] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

pub fn variables(env: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, variable) in items(env).iter().enumerate() {
        let path = path.index(i);
        let name = &variable["name"];
        if text(name).is_empty() {
            errors.required(&path.child("name"), "");
        } else {
            invalid_if(names::env_var_name(text(name)), name, &path.child("name"), errors);
        }
        if given(&variable["valueFrom"]) {
            value_from(variable, &path.child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let source = &variable["valueFrom"];
    let mut found = 0;
    for name in ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"] {
        let reference = &source[name];
        if !given(reference) {
            continue;
        }
        found += 1;
        let path = path.child(name);
        match name {
            "fieldRef" => field_ref(reference, true, &path, errors),
            "resourceFieldRef" => resource_ref(reference, false, &path, errors),
            "fileKeyRef" => required(&reference["key"], &path.child("key"), errors),
            _ => key_ref(reference, &path, errors),
        }
    }
    if found == 0 {
        errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        );
    } else if !is_empty(&variable["value"]) {
        errors.invalid(path, "", "may not be specified when `value` is not empty");
    } else if found > 1 {
        errors.invalid(path, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(reference: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    // Both are names of objects, in whichever kind the key is.
    let name = &reference["name"];
    invalid_if(names::dns1123_subdomain(text(name)), &Value::from(text(name)), &path.child("name"), errors);
    let key = &reference["key"];
    if text(key).is_empty() {
        errors.required(&path.child("key"), "");
    } else {
        invalid_if(names::config_map_key(text(key)), key, &path.child("key"), errors);
    }
}

/// A field of the pod. Addresses are known to environments only; whole maps to files only.
pub fn field_ref(reference: &Value, environment: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    required(&reference["apiVersion"], &path.child("apiVersion"), errors);
    let field = text(&reference["fieldPath"]);
    let path = path.child("fieldPath");
    if field.is_empty() {
        errors.required(&path, "");
        return;
    }
    if let Some((map, key)) = field.strip_suffix("']").and_then(|f| f.split_once("['")) {
        if !matches!(map, "metadata.labels" | "metadata.annotations") {
            errors.invalid(&path, field, "does not support subscript");
        } else if let Some(problem) = names::qualified_name(&key.to_lowercase()) {
            errors.invalid(&path, field, problem);
        }
        return;
    }
    let allowed = |f: &&str| match *f {
        "metadata.labels" | "metadata.annotations" => !environment,
        f if f.starts_with("metadata.") => true,
        _ => environment,
    };
    if !FIELDS.contains(&field) {
        errors.invalid(
            &path,
            field,
            format!("error converting fieldPath: field label not supported: {field}"),
        );
    } else if !allowed(&field) {
        let supported: Vec<&str> = FIELDS.into_iter().filter(allowed).collect();
        errors.not_supported(&path, field, &supported);
    }
}

/// A resource of a container; files must say of which.
pub fn resource_ref(reference: &Value, file: bool, path: &Path<'_>, errors: &mut FieldErrors) {
    if file {
        required(&reference["containerName"], &path.child("containerName"), errors);
    }
    let resource = text(&reference["resource"]);
    let field = path.child("resource");
    if resource.is_empty() {
        errors.required(&field, "");
    } else if !RESOURCES.contains(&resource) && !resource.contains(".hugepages-") {
        errors.not_supported(&field, resource, &RESOURCES);
    }
    divisor(resource, &reference["divisor"], path, errors);
}

const CPU_UNITS: [&str; 2] = ["1m", "1"];
const BYTE_UNITS: [&str; 13] =
    ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// In which unit an amount is told: a power of a thousand or of 1024, or thousandths of a CPU.
fn divisor(resource: &str, divisor: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let unit = Quantity::from_value(divisor).map(|q| q.to_string()).unwrap_or_default();
    let (units, what): (&[&str], &str) = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => (&CPU_UNITS, "the cpu"),
        Some("memory") => (&BYTE_UNITS, "the memory"),
        Some("ephemeral-storage") => (&BYTE_UNITS, "the local ephemeral storage"),
        Some(name) if name.starts_with("hugepages-") => (&BYTE_UNITS, "the hugepages"),
        _ => return,
    };
    if given(divisor) && unit != "0" && !units.contains(&unit.as_str()) {
        let known = match units.split_last() {
            Some((last, [one])) => format!("{one} and {last}"),
            _ => units.join(", "),
        };
        let why = format!("only divisor's values {known} are supported with {what} resource");
        errors.invalid(&path.child("divisor"), resource, why);
    }
}

pub fn env_from(sources: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, source) in items(sources).iter().enumerate() {
        let path = path.index(i);
        if !is_empty(&source["prefix"]) {
            invalid_if(
                names::env_var_name(text(&source["prefix"])),
                &source["prefix"],
                &path.child("prefix"),
                errors,
            );
        }
        let given: Vec<&str> =
            ["configMapRef", "secretRef"].into_iter().filter(|name| given(&source[*name])).collect();
        match given.as_slice() {
            [] => errors.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            [one] => {
                let (name, path) = (&source[*one]["name"], path.child(one));
                required(name, &path.child("name"), errors);
                if !is_empty(name) {
                    invalid_if(names::dns1123_subdomain(text(name)), name, &path.child("name"), errors);
                }
            }
            _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
        }
    }
}
