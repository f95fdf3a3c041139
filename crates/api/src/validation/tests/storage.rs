//! Volumes, claims, classes, drivers.

use super::*;

#[test]
fn volumes_and_claims() {
    check(
        "v1",
        "PersistentVolumeClaim",
        json!({"spec": {}}),
        &[
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources.requests[storage]: Required value",
        ],
    );
    check(
        "v1",
        "PersistentVolume",
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
        &["spec: Required value: must specify a volume type"],
    );
    check("storage.k8s.io/v1", "StorageClass", json!({"provisioner": "x/y"}), &[]);
}

#[test]
fn drivers_and_attachments() {
    check_update(
        "storage.k8s.io/v1",
        "VolumeAttachment",
        json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        json!({"spec": {"attacher": "a.b", "nodeName": "m", "source": {"persistentVolumeName": "v"}}}),
        &[
            "spec: Invalid value: {\"attacher\":\"a.b\",\"nodeName\":\"m\",\"source\":{\"persistentVolumeName\":\"v\"}}: field is immutable",
        ],
    );
    check(
        "storage.k8s.io/v1",
        "VolumeAttachment",
        json!({"spec": {"attacher": "a.b", "nodeName": "n", "source": {}}}),
        &[
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    check(
        "storage.k8s.io/v1",
        "VolumeAttributesClass",
        json!({"driverName": "a.b"}),
        &["parameters: Required value: must contain at least one key/value pair"],
    );
    check(
        "storage.k8s.io/v1",
        "CSINode",
        json!({"spec": {"drivers": [{"name": "a.b", "nodeID": "n"}, {"name": "a.b", "nodeID": ""}]}}),
        &["spec.drivers[1].name: Duplicate value: \"a.b\"", "spec.drivers[1].nodeID: Required value"],
    );
}

#[test]
fn claims_that_are_bound_grow() {
    let claim = |size: &str, class: Value, phase: &str| {
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": size}}},
            "status": {"phase": phase, "capacity": {"storage": "1Gi"}}})
    };
    let why = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let bound = |size: &str| claim(size, json!("a"), "Bound");
    check_update("v1", "PersistentVolumeClaim", bound("1Gi"), bound("2Gi"), &[]);
    check_update("v1", "PersistentVolumeClaim", bound("3Gi"), bound("2Gi"), &[]);
    check_update(
        "v1",
        "PersistentVolumeClaim",
        bound("3Gi"),
        bound("1Gi"),
        &["spec.resources.requests[storage]: Forbidden: field can not be less than status.capacity"],
    );
    let pending = |size: &str, class: Value| claim(size, class, "Pending");
    check_update(
        "v1",
        "PersistentVolumeClaim",
        pending("1Gi", json!("a")),
        pending("2Gi", json!("a")),
        &[why],
    );
    check_update("v1", "PersistentVolumeClaim", pending("1Gi", Value::Null), pending("1Gi", json!("a")), &[]);
    check_update(
        "v1",
        "PersistentVolumeClaim",
        pending("1Gi", json!("")),
        pending("1Gi", json!("a")),
        &[why],
    );
}

#[test]
fn where_volumes_begin() {
    let claim = |fields: Value| {
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"spec": spec})
    };
    let snapshot = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    check("v1", "PersistentVolumeClaim", claim(json!({"dataSource": snapshot})), &[]);
    check(
        "v1",
        "PersistentVolumeClaim",
        claim(
            json!({"dataSource": snapshot, "dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "c"}}),
        ),
        &[
            r#"spec.dataSource: Invalid value: {"apiGroup":"snapshot.storage.k8s.io","kind":"VolumeSnapshot","name":"s"}: must match dataSourceRef"#,
        ],
    );
    let mut object = claim(json!({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "c"}}));
    crate::defaults::apply(&gvk("v1", "PersistentVolumeClaim"), &mut object);
    assert_eq!(object["spec"]["dataSource"], object["spec"]["dataSourceRef"]);
}
