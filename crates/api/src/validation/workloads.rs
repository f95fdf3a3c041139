//! Deployments, ReplicaSets, StatefulSets, DaemonSets and ReplicationControllers.

use super::read::{
    at_most_all, count_or_percent, given, is_empty, is_nothing, not_negative, same, text, unchanged,
};
use super::{names, pod, selector, storage};
use crate::field::{FieldErrors, Path};
use crate::selector::LabelSelector;
use serde_json::{Map, Value};

const SPEC: Path<'static> = Path::new("spec");

pub fn deployment(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(&spec[field], &SPEC.child(field), errors);
    }
    selector::workload(spec, "deployment", &SPEC, errors);
    pod::template_restarting_always(spec, "ReplicaSet", &SPEC, errors);
    strategy(&spec["strategy"], &SPEC.child("strategy"), errors);
    if let (Some(deadline), ready) =
        (spec["progressDeadlineSeconds"].as_i64(), spec["minReadySeconds"].as_i64())
        && deadline <= ready.unwrap_or_default()
    {
        errors.invalid(
            &SPEC.child("progressDeadlineSeconds"),
            deadline,
            "must be greater than minReadySeconds",
        );
    }
}

fn strategy(strategy: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let rolling = &strategy["rollingUpdate"];
    let rolling_path = path.child("rollingUpdate");
    match text(&strategy["type"]) {
        "Recreate" => {
            if given(rolling) {
                errors.forbidden(&rolling_path, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => {
            if !given(rolling) {
                errors.required(&rolling_path, "this should be defaulted and never be nil");
                return;
            }
            let unavailable_path = rolling_path.child("maxUnavailable");
            count_or_percent(&rolling["maxUnavailable"], &unavailable_path, errors);
            count_or_percent(&rolling["maxSurge"], &rolling_path.child("maxSurge"), errors);
            at_most_all(&rolling["maxUnavailable"], &unavailable_path, errors);
            if is_nothing(&rolling["maxUnavailable"]) && is_nothing(&rolling["maxSurge"]) {
                let value = rolling["maxUnavailable"].clone();
                errors.invalid(&unavailable_path, value, "may not be 0 when `maxSurge` is 0");
            }
        }
        other => errors.not_supported(&path.child("type"), other, &["Recreate", "RollingUpdate"]),
    }
}

pub fn replica_set(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    for field in ["replicas", "minReadySeconds"] {
        not_negative(&spec[field], &SPEC.child(field), errors);
    }
    selector::workload(spec, "deployment", &SPEC, errors);
    if given(&spec["template"]) {
        pod::template_restarting_always(spec, "ReplicaSet", &SPEC, errors);
    } else {
        errors.required(&SPEC.child("template"), "");
    }
}

pub fn replication_controller(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    for field in ["replicas", "minReadySeconds"] {
        not_negative(&spec[field], &SPEC.child(field), errors);
    }
    if is_empty(&spec["selector"]) {
        errors.required(&SPEC.child("selector"), "");
    } else if let Some(labels) = spec["selector"].as_object() {
        let labels_of_pods = &spec["template"]["metadata"]["labels"];
        if given(&spec["template"]) && !LabelSelector::from_map(labels).matches(labels_of_pods) {
            selector::mismatch(labels_of_pods, &SPEC, errors);
        }
    }
    if given(&spec["template"]) {
        pod::template_restarting_always(spec, "ReplicationController", &SPEC, errors);
    } else {
        errors.required(&SPEC.child("template"), "");
    }
}

pub fn daemon_set(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    for field in ["minReadySeconds", "revisionHistoryLimit"] {
        not_negative(&spec[field], &SPEC.child(field), errors);
    }
    selector::workload(spec, "daemonset", &SPEC, errors);
    pod::template_restarting_always(spec, "DaemonSet", &SPEC, errors);
    let strategy = &spec["updateStrategy"];
    let path = SPEC.child("updateStrategy");
    match text(&strategy["type"]) {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let path = path.child("rollingUpdate");
            if !given(rolling) {
                errors.required(&path, "");
                return;
            }
            for field in ["maxUnavailable", "maxSurge"] {
                count_or_percent(&rolling[field], &path.child(field), errors);
                at_most_all(&rolling[field], &path.child(field), errors);
            }
            match (is_nothing(&rolling["maxUnavailable"]), is_nothing(&rolling["maxSurge"])) {
                (true, true) => {
                    let value = rolling["maxUnavailable"].clone();
                    errors.invalid(&path.child("maxUnavailable"), value, "cannot be 0 when maxSurge is 0");
                }
                (false, false) => {
                    let value = rolling["maxSurge"].clone();
                    errors.invalid(
                        &path.child("maxSurge"),
                        value,
                        "may not be set when maxUnavailable is non-zero",
                    );
                }
                _ => {}
            }
        }
        other => errors.not_supported(&path.child("type"), other, &["RollingUpdate", "OnDelete"]),
    }
}

pub fn stateful_set(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        not_negative(&spec[field], &SPEC.child(field), errors);
    }
    match text(&spec["podManagementPolicy"]) {
        "" => errors.required(&SPEC.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.invalid(&SPEC.child("podManagementPolicy"), other, detail);
        }
    }
    let strategy = &spec["updateStrategy"];
    let path = SPEC.child("updateStrategy");
    match text(&strategy["type"]) {
        "" => errors.required(&path, ""),
        "OnDelete" => {
            if given(&strategy["rollingUpdate"]) {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                errors.invalid(&path.child("rollingUpdate"), strategy["rollingUpdate"].clone(), detail);
            }
        }
        "RollingUpdate" => {
            let rolling = &strategy["rollingUpdate"];
            let path = path.child("rollingUpdate");
            not_negative(&rolling["partition"], &path.child("partition"), errors);
            if given(&rolling["maxUnavailable"]) {
                let field = path.child("maxUnavailable");
                count_or_percent(&rolling["maxUnavailable"], &field, errors);
                at_most_all(&rolling["maxUnavailable"], &field, errors);
                if is_nothing(&rolling["maxUnavailable"]) {
                    errors.invalid(&field, rolling["maxUnavailable"].clone(), "cannot be 0");
                }
            }
        }
        other => errors.invalid(&path, other, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let retention = SPEC.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let value = &spec["persistentVolumeClaimRetentionPolicy"][field];
        super::read::one_of(value, &["Delete", "Retain"], &retention.child(field), errors);
    }
    not_negative(&spec["ordinals"]["start"], &SPEC.child("ordinals").child("start"), errors);
    selector::workload(spec, "statefulset", &SPEC, errors);
    // The claims of the templates are volumes of each pod, so that mounts may name them.
    pod::template_restarting_always(&with_claims(spec), "StatefulSet", &SPEC, errors);
    let claims = SPEC.child("volumeClaimTemplates");
    for (i, claim) in super::read::items(&spec["volumeClaimTemplates"]).iter().enumerate() {
        storage::claim_spec(&claim["spec"], &claims.index(i).child("spec"), errors);
    }
}

/// The service becomes the subdomain of each pod.
pub fn stateful_set_create(object: &Value, errors: &mut FieldErrors) {
    stateful_set(object, errors);
    let service = &object["spec"]["serviceName"];
    if !is_empty(service) {
        let problem = names::dns1123_label(text(service));
        super::read::invalid_if(problem, service, &SPEC.child("serviceName"), errors);
    }
}

/// The spec as its pods will see it: with a volume for each claim template.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    if let Some(pod) = template.get_mut("spec").and_then(Value::as_object_mut) {
        let claims = super::read::items(&spec["volumeClaimTemplates"]);
        let name = |claim: &Value| claim["metadata"]["name"].clone();
        let mut volumes: Vec<Value> = super::read::items(pod.get("volumes").unwrap_or(&Value::Null)).to_vec();
        volumes.retain(|v| !claims.iter().any(|c| name(c) == v["name"]));
        for claim in claims {
            let name = name(claim);
            volumes.push(serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
        pod.insert("volumes".into(), volumes.into());
    }
    let mut out = Map::new();
    out.insert("template".into(), template);
    Value::Object(out)
}

pub fn selector_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    unchanged(&new["spec"]["selector"], &old["spec"]["selector"], &SPEC.child("selector"), errors);
}

pub fn stateful_set_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    const MAY_CHANGE: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let (new, old) = (&new["spec"], &old["spec"]);
    let fixed = |v: &Value| -> Map<String, Value> {
        let mut map = v.as_object().cloned().unwrap_or_default();
        MAY_CHANGE.iter().for_each(|field| {
            map.remove(*field);
        });
        map.retain(|_, v| !is_empty(v));
        map
    };
    let (new_fixed, old_fixed) = (fixed(new), fixed(old));
    let equal = new_fixed.len() == old_fixed.len()
        && new_fixed.iter().all(|(key, value)| same(value, old_fixed.get(key).unwrap_or(&Value::Null)));
    if !equal {
        errors.forbidden(
            &SPEC,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}
