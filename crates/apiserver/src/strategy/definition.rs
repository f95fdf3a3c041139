//! CustomResourceDefinitions: they remember in which versions objects may be stored, and go only after their objects.

use serde_json::{Value, json};

use super::{PLAIN, StatusMetadata, Strategy, status};
use crate::UserInfo;
use crate::write::meta;

pub static STRATEGY: Strategy = Strategy {
    create,
    update: |crd, _| remember_storage_version(crd),
    // The first delete marks it; the objects go before the finalizer does.
    deletable: |crd| !meta::text(crd, "deletionTimestamp").is_empty(),
    deleting,
    generation: true,
    status_metadata: StatusMetadata::Nothing,
    versioned_update: true,
    ..PLAIN
};

const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

fn create(crd: &mut Value, _: &UserInfo) {
    crd["status"] =
        json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": null, "storedVersions": []});
    remember_storage_version(crd);
}

fn remember_storage_version(crd: &mut Value) {
    let versions = crd["spec"]["versions"].as_array().into_iter().flatten();
    let storage =
        versions.filter(|version| version["storage"] == true).filter_map(|version| version["name"].as_str());
    let Some(storage) = storage.map(str::to_owned).next() else { return };
    let stored = &mut status(crd)["storedVersions"];
    match stored.as_array_mut() {
        Some(list) if list.iter().any(|version| *version == storage) => {}
        Some(list) => list.push(json!(storage)),
        None => *stored = json!([storage]),
    }
}

fn deleting(crd: &mut Value) {
    let metadata = meta::of(crd);
    let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(list) = finalizers.as_array_mut()
        && list.iter().any(|name| name == CLEANUP)
    {
        return;
    }
    match finalizers.as_array_mut() {
        Some(list) => list.push(json!(CLEANUP)),
        None => *finalizers = json!([CLEANUP]),
    }
    let conditions = &mut status(crd)["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|condition| condition["type"] != "Terminating");
        list.push(json!({
            "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
            "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            "lastTransitionTime": meta::now(),
        }));
    }
}
