//! What is accepted but should be thought about: told to the client in `Warning` headers.
//!
//! Deprecated resources and fields, settings without effect, and lists whose duplicates some patches lose.

mod addresses;
mod pod;
mod service;
mod storage;

use serde_json::Value;

use crate::field::Path;
use crate::gvk::GroupVersionKind;
use crate::structural::format::Format;
use crate::validation::read::text;

const SPEC: Path<'static> = Path::new("spec");

/// What whoever uses this resource at all is told.
pub fn of_resource(gvk: &GroupVersionKind) -> Option<&'static str> {
    match (gvk.group.as_str(), gvk.version.as_str(), gvk.kind.as_str()) {
        ("", "v1", "ComponentStatus") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "v1", "Endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        _ => None,
    }
}

/// What the writer of an object is told. `old` is the object that an update changes.
pub fn of_object(gvk: &GroupVersionKind, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let spec = &new["spec"];
    if crate::registry::Registry::builtin().kind(gvk).is_none() {
        custom_finalizers(new, old, &mut out);
    }
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => {
            pod::name(new, old, &mut out);
            // Of a pod that exists already hardly anything can be changed any more.
            if old.is_none() {
                pod::annotations(&new["metadata"], &Path::new("metadata"), spec, &mut out);
                pod::spec(spec, &SPEC, &mut out);
            }
        }
        ("", "PodTemplate") => template(&new["template"], old.map(|o| &o["template"]), &Path::ROOT, &mut out),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => {
            if !matches!(gvk.kind.as_str(), "StatefulSet" | "DaemonSet") {
                pod::generated_name(new, old, &mut out);
            }
            template(&spec["template"], old.map(|o| &o["spec"]["template"]), &SPEC, &mut out);
            if gvk.kind == "StatefulSet" {
                stateful_set(spec, &mut out);
            }
        }
        ("batch", "CronJob") => {
            pod::generated_name(new, old, &mut out);
            let path = SPEC.child("jobTemplate");
            let old = old.map(|o| &o["spec"]["jobTemplate"]["spec"]["template"]);
            template(&spec["jobTemplate"]["spec"]["template"], old, &path.child("spec"), &mut out);
            time_zone(spec, &mut out);
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => formats(spec, old, &mut out),
        ("", "Service") => service::service(new, &mut out),
        ("", "Endpoints") => addresses::endpoints(new, &mut out),
        ("discovery.k8s.io", "EndpointSlice") => addresses::endpoint_slice(new, &mut out),
        ("networking.k8s.io", "NetworkPolicy") => addresses::network_policy(spec, &mut out),
        ("", "PersistentVolume") => storage::volume(new, &mut out),
        ("", "PersistentVolumeClaim") => storage::claim(spec, &SPEC, &mut out),
        ("storage.k8s.io", "StorageClass") => storage::class(new, &mut out),
        ("node.k8s.io", "RuntimeClass") => {
            let path = Path::new("scheduling");
            pod::node_selector(&new["scheduling"]["nodeSelector"], &path.child("nodeSelector"), &mut out);
        }
        ("", "Node") => {
            for (field, why) in [
                ("configSource", "the feature is no longer supported"),
                ("externalID", "this field is deprecated, and is unused by Kubernetes"),
            ] {
                if spec[field].is_object() || !text(&spec[field]).is_empty() {
                    out.push(format!("{}: {why}", SPEC.child(field)));
                }
            }
        }
        ("", "ServiceAccount")
            if new["metadata"]["annotations"].get("kubernetes.io/enforce-mountable-secrets").is_some() =>
        {
            out.push(
                "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
                    .to_owned(),
            );
        }
        ("networking.k8s.io", "Ingress")
            if old.is_none()
                && new["metadata"]["annotations"].get("kubernetes.io/ingress.class").is_some() =>
        {
            out.push("annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead".to_owned());
        }
        _ => {}
    }
    out
}

/// Names of finalizers without a domain may be meant by several.
fn custom_finalizers(new: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    let list = |object: &Value| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let known = old.map(list).unwrap_or_default();
    for finalizer in list(new).iter().filter(|finalizer| !known.contains(finalizer)) {
        let name = text(finalizer);
        if !name.contains('/') && !matches!(name, "orphan" | "foregroundDeletion" | "kubernetes") {
            out.push(format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name to avoid accidental conflicts \
                 with other finalizer writers"
            ));
        }
    }
}

/// Formats of texts that mean nothing.
fn formats(spec: &Value, old: Option<&Value>, out: &mut Vec<String>) {
    let before: Vec<&Value> =
        old.and_then(|old| old["spec"]["versions"].as_array()).into_iter().flatten().collect();
    for version in spec["versions"].as_array().into_iter().flatten() {
        let schema = &version["schema"]["openAPIV3Schema"];
        if !before.iter().any(|before| before["schema"]["openAPIV3Schema"] == *schema) {
            formats_below(schema, 0, out);
        }
    }
}

fn formats_below(schema: &Value, depth: usize, out: &mut Vec<String>) {
    const MAX_DEPTH: usize = 100;
    if depth > MAX_DEPTH || !schema.is_object() {
        return;
    }
    let format = text(&schema["format"]);
    if schema["type"] == "string"
        && !format.is_empty()
        && !Format::parse(format).is_some_and(Format::is_of_texts)
    {
        let warning = format!("unrecognized format {format:?}");
        if !out.contains(&warning) {
            out.push(warning);
        }
    }
    for property in schema["properties"].as_object().into_iter().flatten().map(|(_, property)| property) {
        formats_below(property, depth + 1, out);
    }
    for below in [&schema["items"], &schema["additionalProperties"]] {
        formats_below(below, depth + 1, out);
    }
}

/// Nothing is repeated about a template that stays as it was.
fn template(new: &Value, old: Option<&Value>, path: &Path<'_>, out: &mut Vec<String>) {
    if old == Some(new) {
        return;
    }
    let path = path.child("template");
    pod::annotations(&new["metadata"], &path.child("metadata"), &new["spec"], out);
    pod::spec(&new["spec"], &path.child("spec"), out);
}

fn stateful_set(spec: &Value, out: &mut Vec<String>) {
    let list = SPEC.child("volumeClaimTemplates");
    for (i, claim) in spec["volumeClaimTemplates"].as_array().into_iter().flatten().enumerate() {
        storage::claim(&claim["spec"], &list.index(i).child("Spec"), out);
    }
    if spec["revisionHistoryLimit"].as_i64().is_some_and(|limit| limit < 0) {
        out.push(format!(
            "{}: a negative value retains all historical revisions; a value >= 0 is recommended",
            SPEC.child("revisionHistoryLimit")
        ));
    }
}

fn time_zone(spec: &Value, out: &mut Vec<String>) {
    if text(&spec["schedule"]).contains("TZ=") {
        out.push(format!(
            "{}: TZ or CRON_TZ in the schedule is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
            SPEC.child("schedule")
        ));
    }
}

#[cfg(test)]
mod tests;
