//! CustomResourceDefinitions: names, versions, conversion, columns, subresources, and whether schemas are structural.

mod conversion;
mod names;
mod nested;
mod paths;
mod schema;
mod version;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::names::dns1035_label;
use super::names::dns1123_subdomain;
use super::read::{given, is_true, items, text, unchanged};
use crate::field::{FieldErrors, Path};

/// Groups of these domains are the Kubernetes community's.
const PROTECTED: [&str; 2] = [".k8s.io", ".kubernetes.io"];
pub const APPROVED: &str = "api-approved.kubernetes.io";

/// Whether CRDs of the group need the community's approval.
pub fn is_protected(group: &str) -> bool {
    PROTECTED.iter().any(|domain| group.ends_with(domain) || group == &domain[1..])
}

pub fn create(object: &Value, errors: &mut FieldErrors) {
    name(object, errors);
    spec(&object["spec"], errors);
    approval(object, errors);
}

pub fn update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (spec_new, spec_old) = (&new["spec"], &old["spec"]);
    // What has been accepted once, perhaps by an older server, may stay.
    if spec_new != spec_old {
        spec(spec_new, errors);
    }
    let path = Path::new("spec");
    unchanged(&spec_new["group"], &spec_old["group"], &path.child("group"), errors);
    let names = path.child("names");
    unchanged(&spec_new["names"]["plural"], &spec_old["names"]["plural"], &names.child("plural"), errors);
    if is_established(old) {
        unchanged(&spec_new["scope"], &spec_old["scope"], &path.child("scope"), errors);
        unchanged(&spec_new["names"]["kind"], &spec_old["names"]["kind"], &names.child("kind"), errors);
    }
    stored_versions(new, &old["status"], errors);
    if !approved(old) || approved(new) {
        return;
    }
    approval(new, errors);
}

/// What is wrong with a change of the status.
pub fn update_status(new: &Value, errors: &mut FieldErrors) {
    stored_versions(new, &new["status"], errors);
    let stored = &new["status"]["storedVersions"];
    let storage = items(&new["spec"]["versions"]).iter().find(|version| is_true(&version["storage"]));
    let storage = storage.map(|version| text(&version["name"])).unwrap_or_default();
    if !items(stored).iter().any(|version| version == storage) {
        let status = Path::new("status");
        let path = status.child("storedVersions");
        errors.invalid(&path, stored.clone(), format!("must have the storage version {storage}"));
    }
}

fn name(object: &Value, errors: &mut FieldErrors) {
    let (group, plural) = (text(&object["spec"]["group"]), text(&object["spec"]["names"]["plural"]));
    let name = &object["metadata"]["name"];
    // That there is none is told of every kind.
    if !text(name).is_empty() && text(name) != format!("{plural}.{group}") {
        let metadata = Path::new("metadata");
        errors.invalid(&metadata.child("name"), name.clone(), "must be spec.names.plural+\".\"+spec.group");
    }
}

fn is_established(crd: &Value) -> bool {
    let conditions = items(&crd["status"]["conditions"]);
    conditions.iter().any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

/// Versions that objects may still be stored in must stay.
fn stored_versions(new: &Value, status: &Value, errors: &mut FieldErrors) {
    let path = Path::new("status");
    let path = path.child("storedVersions");
    for (index, stored) in items(&status["storedVersions"]).iter().enumerate() {
        let known = items(&new["spec"]["versions"]).iter().any(|version| version["name"] == *stored);
        if !known {
            let version = text(stored);
            errors.invalid(
                &path.index(index),
                version,
                format!(
                    "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from status.storedVersions"
                ),
            );
        }
    }
}

/// `approved` says where, `unapproved...` that nobody has.
fn approved(crd: &Value) -> bool {
    let value = text(&crd["metadata"]["annotations"][APPROVED]);
    !is_protected(text(&crd["spec"]["group"])) || value.starts_with("unapproved") || value.contains("://")
}

fn approval(crd: &Value, errors: &mut FieldErrors) {
    if approved(crd) {
        return;
    }
    let metadata = Path::new("metadata");
    let annotations = metadata.child("annotations");
    let path = annotations.key(APPROVED);
    match &crd["metadata"]["annotations"][APPROVED] {
        Value::Null => errors.required(
            &path,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
        value => errors.invalid(
            &path,
            value.clone(),
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
    }
}

fn spec(spec: &Value, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    group(&spec["group"], &path.child("group"), errors);
    match &spec["scope"] {
        scope if text(scope).is_empty() => errors.required(&path.child("scope"), ""),
        scope if !matches!(text(scope), "Cluster" | "Namespaced") => {
            errors.not_supported(&path.child("scope"), scope.clone(), &["Cluster", "Namespaced"]);
        }
        _ => {}
    }
    if is_true(&spec["preserveUnknownFields"]) {
        errors.invalid(
            &path.child("preserveUnknownFields"),
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    names::check(&spec["names"], &path.child("names"), errors);
    conversion::check(&spec["conversion"], &path.child("conversion"), errors);
    versions(spec, &path, errors);
}

fn group(group: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let group = text(group);
    if group.is_empty() {
        return errors.required(path, "");
    }
    if let Some(problem) = dns1123_subdomain(group) {
        errors.invalid(path, group, problem);
    } else if !group.contains('.') {
        errors.invalid(path, group, "should be a domain with at least one dot");
    }
}

fn versions(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let list = path.child("versions");
    let versions = items(&spec["versions"]);
    let mut seen = std::collections::HashSet::new();
    for (index, version) in versions.iter().enumerate() {
        let path = list.index(index);
        let name = text(&version["name"]);
        seen.insert(name);
        if let Some(problem) = dns1035_label(name) {
            errors.invalid(&path.child("name"), name, problem);
        }
        if is_true(&version["deprecationWarning"]) || given(&version["deprecationWarning"]) {
            version::deprecation(version, &path.child("deprecationWarning"), errors);
        }
        if !given(&version["schema"]["openAPIV3Schema"]) {
            errors.required(&path.child("schema").child("openAPIV3Schema"), "");
        }
    }
    // What all versions have in common is told once, of the definition as a whole.
    if common(versions, "schema") {
        if let Some(version) = versions.first() {
            schema_of(version, &path.child("validation"), errors);
        }
    } else {
        for (index, version) in versions.iter().enumerate() {
            schema_of(version, &list.index(index).child("schema"), errors);
        }
    }
    each(versions, "subresources", path, &list, errors, version::subresources);
    each(versions, "additionalPrinterColumns", path, &list, errors, version::columns);
    let one = common(versions, "selectableFields");
    for (index, version) in versions.iter().enumerate() {
        if one && common(versions, "schema") {
            version::selectable_fields(version, &path.child("selectableFields"), errors);
            break;
        }
        version::selectable_fields(version, &list.index(index).child("selectableFields"), errors);
    }
    if seen.len() != versions.len() {
        errors.invalid(&list, spec["versions"].clone(), "must contain unique version names");
    }
    if versions.iter().filter(|version| is_true(&version["storage"])).count() != 1 {
        let detail = "must have exactly one version marked as storage version";
        errors.invalid(&list, spec["versions"].clone(), detail);
    }
}

fn common(versions: &[Value], field: &str) -> bool {
    let mut values = versions.iter().map(|version| &version[field]);
    let first = values.next();
    values.all(|value| Some(value) == first)
}

type Check = fn(&Value, &Path<'_>, &mut FieldErrors);

fn each(
    versions: &[Value],
    field: &str,
    spec: &Path<'_>,
    list: &Path<'_>,
    errors: &mut FieldErrors,
    check: Check,
) {
    if common(versions, field) {
        if let Some(version) = versions.first() {
            check(&version[field], &spec.child(field), errors);
        }
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        check(&version[field], &list.index(index).child(field), errors);
    }
}

fn schema_of(version: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let schema = &version["schema"]["openAPIV3Schema"];
    if given(schema) {
        let status = given(&version["subresources"]["status"]);
        schema::check(schema, status, &path.child("openAPIV3Schema"), errors);
    }
}
