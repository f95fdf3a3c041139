//! Who owns the claims of a StatefulSet's pods, and so with whom they go. Free of IO.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::pods::start_ordinal;
use crate::kit::meta;

const POD: (&str, &str) = ("v1", "Pod");

/// The owners that a claim should have, if it has others. Owners that are none of this set's business stay.
pub fn owners(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    pod: &Pod,
    ordinal: i32,
    claim: &PersistentVolumeClaim,
) -> Option<Vec<OwnerReference>> {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let deletes = |policy: Option<&String>| policy.is_some_and(|policy| policy == "Delete");
    let when_deleted = deletes(policy.and_then(|policy| policy.when_deleted.as_ref()));
    let when_scaled = deletes(policy.and_then(|policy| policy.when_scaled.as_ref()));
    let start = start_ordinal(spec);
    let is_wanted = (start..start.saturating_add(spec.replicas.unwrap_or(1))).contains(&ordinal);
    let by_pod = when_scaled && !is_wanted;
    let by_set = when_deleted && !by_pod;

    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let ours = |owner: &OwnerReference| {
        owner.uid == meta::uid(set)
            || ((owner.api_version.as_str(), owner.kind.as_str()) == POD && owner.name == meta::name(pod))
    };
    let mut owners: Vec<_> = before.iter().filter(|owner| !ours(owner)).cloned().collect();
    // One that another controller keeps is not ours to give away.
    if owners.iter().any(|owner| owner.controller == Some(true)) {
        return None;
    }
    if by_set {
        owners.push(meta::controller_reference(set));
    } else if by_pod {
        owners.push(meta::controller_reference(pod));
    }
    (owners != before).then_some(owners)
}

/// Whether a claim is to be deleted with a pod of this name, which may be gone already.
pub fn goes_with_a_pod(claim: &PersistentVolumeClaim, pod: &str) -> bool {
    let owners = claim.metadata.owner_references.iter().flatten();
    owners
        .into_iter()
        .any(|owner| (owner.api_version.as_str(), owner.kind.as_str()) == POD && owner.name == pod)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn claims_go_with_whom_the_policy_names() {
        let check = |deleted: &str, scaled: &str, ordinal: i32, has: Value, expected: Option<&[&str]>| {
            let set: StatefulSet =
                serde_json::from_value(json!({"metadata": {"name": "web", "uid": "set"}, "spec": {
                "replicas": 2, "selector": {}, "template": {}, "serviceName": "",
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}}}))
                .unwrap();
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"name": format!("web-{ordinal}"), "uid": "pod"}}))
                    .unwrap();
            let claim =
                serde_json::from_value(json!({"metadata": {"name": "c", "ownerReferences": has}})).unwrap();
            let found = owners(&set, set.spec.as_ref().unwrap(), &pod, ordinal, &claim);
            let found = found.map(|owners| owners.into_iter().map(|owner| owner.uid).collect::<Vec<_>>());
            let expected = expected.map(|uids| uids.iter().map(|uid| (*uid).to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expected, "{deleted} {scaled} {ordinal}");
        };
        let by = |kind: &str, name: &str, uid: &str| {
            let version = if kind == "Pod" { "v1" } else { "apps/v1" };
            json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true}])
        };
        check("Retain", "Retain", 0, json!([]), None);
        check("Retain", "Retain", 0, by("StatefulSet", "web", "set"), Some(&[]));
        check("Delete", "Retain", 0, json!([]), Some(&["set"]));
        check("Delete", "Retain", 5, json!([]), Some(&["set"]));
        check("Delete", "Retain", 0, by("StatefulSet", "web", "set"), None);
        check("Retain", "Delete", 0, json!([]), None);
        check("Retain", "Delete", 5, json!([]), Some(&["pod"]));
        check("Delete", "Delete", 0, by("Pod", "web-0", "old"), Some(&["set"]));
        check("Delete", "Delete", 5, by("StatefulSet", "web", "set"), Some(&["pod"]));
        check("Delete", "Delete", 5, by("Operator", "other", "x"), None);
    }
}
