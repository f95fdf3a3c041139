//! Persistent volumes, claims, storage classes and CSI drivers.

use super::edit::{Object, ensure, get, has_items, set, set_text, text};
use super::{quantities, volume};
use serde_json::Value;

pub fn persistent_volume(object: &mut Object) {
    if let Some(spec) = get(object, "spec") {
        set_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
        quantities::list(spec, "capacity");
        volume::source(spec);
    }
    if let Some(status) = ensure(object, "status") {
        set_text(status, "phase", "Pending");
    }
}

pub fn persistent_volume_claim(object: &mut Object) {
    if let Some(spec) = get(object, "spec") {
        claim_spec(spec);
    }
    if let Some(status) = ensure(object, "status") {
        set_text(status, "phase", "Pending");
        quantities::list(status, "capacity");
        quantities::list(status, "allocatedResources");
    }
}

pub fn claim_spec(spec: &mut Object) {
    set(spec, "volumeMode", "Filesystem");
    data_sources(spec);
    if let Some(resources) = get(spec, "resources") {
        quantities::requirements(resources);
    }
}

/// The two fields for what a volume begins with say the same; the older one knows only claims and snapshots of the
/// same namespace.
fn data_sources(spec: &mut Object) {
    const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
    let group = |source: &Object| text(source, "apiGroup").to_owned();
    let known = |source: &Object| match text(source, "kind") {
        "PersistentVolumeClaim" => group(source).is_empty(),
        "VolumeSnapshot" => group(source) == SNAPSHOTS,
        _ => false,
    };
    if get(spec, "dataSource").is_some_and(|source| !known(source)) {
        spec.remove("dataSource");
    }
    let (old, new) = (get(spec, "dataSource").cloned(), get(spec, "dataSourceRef").cloned());
    match (old, new) {
        (Some(old), None) => {
            spec.insert("dataSourceRef".to_owned(), Value::Object(old));
        }
        (None, Some(new)) if text(&new, "namespace").is_empty() => {
            spec.insert("dataSource".to_owned(), Value::Object(new));
        }
        _ => {}
    }
}

pub fn storage_class(object: &mut Object) {
    set(object, "reclaimPolicy", "Delete");
    set(object, "volumeBindingMode", "Immediate");
}

pub fn csi_driver(object: &mut Object) {
    let Some(spec) = ensure(object, "spec") else { return };
    set(spec, "attachRequired", true);
    set(spec, "podInfoOnMount", false);
    set(spec, "storageCapacity", false);
    set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    set(spec, "requiresRepublish", false);
    set(spec, "seLinuxMount", false);
    if !has_items(spec, "volumeLifecycleModes") {
        spec.insert("volumeLifecycleModes".into(), vec!["Persistent"].into());
    }
}

/// Clients count on the list, which is nothing in protobuf when it is empty.
pub fn csi_node(object: &mut Object) {
    if let Some(spec) = ensure(object, "spec") {
        set(spec, "drivers", Vec::<Value>::new());
    }
}
