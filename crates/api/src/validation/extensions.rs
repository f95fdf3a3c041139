//! APIServices, and the revisions that workloads keep.

use super::names;
use super::read::{IMMUTABLE, given, in_range, invalid_if, is_empty, is_true, not_negative, same, text};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

const SPEC: Path<'static> = Path::new("spec");

pub fn api_service(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let (group, version) = (text(&spec["group"]), text(&spec["version"]));
    let wanted = format!("{version}.{group}");
    let name = text(&object["metadata"]["name"]);
    if name != wanted {
        let metadata = Path::new("metadata");
        let why = format!("must be `spec.version+\".\"+spec.group`: {}", crate::field::quote(&wanted));
        errors.invalid(&metadata.child("name"), name, why);
    }
    if group.is_empty() && version != "v1" {
        errors.required(&SPEC.child("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        invalid_if(names::dns1123_subdomain(group), &spec["group"], &SPEC.child("group"), errors);
    }
    invalid_if(names::dns1035_label(version), &spec["version"], &SPEC.child("version"), errors);
    for (field, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        if !spec[field].as_i64().is_some_and(|n| n > 0 && n <= max) {
            let why =
                format!("must be positive and less than {}", if max == 1_000 { "1000" } else { "20000" });
            errors.invalid(&SPEC.child(field), spec[field].as_i64().unwrap_or(0), why);
        }
    }
    let service = &spec["service"];
    if !given(service) {
        if !is_empty(&spec["caBundle"]) {
            let why = "local APIServices may not have a caBundle";
            errors.invalid(&SPEC.child("caBundle"), format!("{} bytes", text(&spec["caBundle"]).len()), why);
        }
        if is_true(&spec["insecureSkipTLSVerify"]) {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&SPEC.child("insecureSkipTLSVerify"), true, why);
        }
        return;
    }
    let path = SPEC.child("service");
    for field in ["namespace", "name"] {
        if is_empty(&service[field]) {
            errors.required(&path.child(field), "");
        }
    }
    in_range(&service["port"], 1, 65535, &path.child("port"), errors);
    if is_true(&spec["insecureSkipTLSVerify"]) && !is_empty(&spec["caBundle"]) {
        let why = "may not be true if caBundle is present";
        errors.invalid(&SPEC.child("insecureSkipTLSVerify"), true, why);
    }
}

pub fn revision(object: &Value, errors: &mut FieldErrors) {
    not_negative(&object["revision"], &Path::new("revision"), errors);
    if !given(&object["data"]) {
        errors.required(&Path::new("data"), "data is mandatory");
    }
}

pub fn revision_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    if !same(&new["data"], &old["data"]) {
        errors.invalid(&Path::new("data"), new["data"].clone(), IMMUTABLE);
    }
}
