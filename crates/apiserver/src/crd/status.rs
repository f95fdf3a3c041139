//! What the status of a definition tells.

use api::validation::crd::is_protected;
use serde_json::{Value, json};

use super::names::Decision;
use super::wire::{Condition, Names};
use crate::write::meta;

/// Puts into the status what has been decided.
pub fn tell(crd: &mut Value, decision: &Decision) {
    if !crd["status"].is_object() {
        crd["status"] = json!({});
    }
    crd["status"]["acceptedNames"] = names(&decision.accepted);
    set(crd, &decision.names);
    set(crd, &decision.established);
    match approval(crd) {
        Some(condition) => set(crd, &condition),
        None => remove(crd, APPROVAL),
    }
    // Schemas that are not structural are not accepted any more.
    remove(crd, "NonStructuralSchema");
}

const APPROVAL: &str = "KubernetesAPIApprovalPolicyConformant";

/// Of a group that is the Kubernetes community's: whether and where it was approved.
fn approval(crd: &Value) -> Option<Condition> {
    if !is_protected(crd["spec"]["group"].as_str().unwrap_or_default()) {
        return None;
    }
    let given = crd["metadata"]["annotations"][api::validation::crd::APPROVED].as_str().unwrap_or_default();
    let (status, reason, message) = match given {
        "" => (
            "False",
            "MissingAnnotation",
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111".to_owned(),
        ),
        text if text.starts_with("unapproved") => ("False", "UnapprovedAnnotation", format!("not approved: {text:?}")),
        text if text.contains("://") => ("True", "ApprovedAnnotation", format!("approved in {text}")),
        text => ("False", "InvalidAnnotation", format!("the annotation is not a URL: {text:?}")),
    };
    Some(Condition {
        kind: APPROVAL.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
    })
}

/// Sets a condition; when it began to hold is kept as long as it does.
pub fn set(crd: &mut Value, condition: &Condition) {
    if !crd["status"]["conditions"].is_array() {
        crd["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = crd["status"]["conditions"].as_array_mut() else { return };
    let mut new = json!({
        "type": condition.kind, "status": condition.status, "reason": condition.reason, "message": condition.message,
        "lastTransitionTime": meta::now(),
    });
    match conditions.iter_mut().find(|known| known["type"] == condition.kind.as_str()) {
        Some(known) => {
            if known["status"] == condition.status.as_str() {
                new["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = new;
        }
        None => conditions.push(new),
    }
}

fn remove(crd: &mut Value, kind: &str) {
    if let Some(conditions) = crd["status"]["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != kind);
    }
}

fn names(names: &Names) -> Value {
    let mut value = json!({"plural": names.plural, "kind": names.kind});
    for (key, text) in [("singular", &names.singular), ("listKind", &names.list_kind)] {
        if !text.is_empty() {
            value[key] = json!(text);
        }
    }
    for (key, list) in [("shortNames", &names.short_names), ("categories", &names.categories)] {
        if !list.is_empty() {
            value[key] = json!(list);
        }
    }
    value
}
