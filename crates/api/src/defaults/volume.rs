//! Volumes of pods.

use super::container::{divisor, pull_policy};
use super::edit::{Object, each, get, set, set_text, text};
use super::{quantities, storage};

/// Readable by everybody, writable by the owner: 0644.
const FILE_MODE: i64 = 0o644;

pub fn volume(v: &mut Object) {
    if !v.iter().any(|(key, source)| key != "name" && !source.is_null()) {
        set(v, "emptyDir", Object::new());
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = get(v, name) {
            set(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = get(v, "emptyDir") {
        quantities::single(source, "sizeLimit");
    }
    if let Some(source) = get(v, "downwardAPI") {
        each(source, "items", downward_api_file);
    }
    if let Some(projected) = get(v, "projected") {
        each(projected, "sources", |source| {
            if let Some(token) = get(source, "serviceAccountToken") {
                set(token, "expirationSeconds", 3600);
            }
            if let Some(certificate) = get(source, "podCertificate") {
                set(certificate, "maxExpirationSeconds", 86_400);
            }
            if let Some(downward) = get(source, "downwardAPI") {
                each(downward, "items", downward_api_file);
            }
        });
    }
    if let Some(image) = get(v, "image") {
        let policy = pull_policy(text(image, "reference"));
        set_text(image, "pullPolicy", policy);
    }
    if let Some(claim) =
        get(v, "ephemeral").and_then(|e| get(e, "volumeClaimTemplate")).and_then(|t| get(t, "spec"))
    {
        storage::claim_spec(claim);
    }
    source(v);
}

fn downward_api_file(file: &mut Object) {
    if let Some(field) = get(file, "fieldRef") {
        set_text(field, "apiVersion", "v1");
    }
    if let Some(resource) = get(file, "resourceFieldRef") {
        divisor(resource);
    }
}

/// Sources that persistent volumes have too.
pub fn source(v: &mut Object) {
    if let Some(host_path) = get(v, "hostPath") {
        set(host_path, "type", "");
    }
    if let Some(iscsi) = get(v, "iscsi") {
        set_text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = get(v, "rbd") {
        set_text(rbd, "pool", "rbd");
        set_text(rbd, "user", "admin");
        set_text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = get(v, "azureDisk") {
        set(disk, "cachingMode", "ReadWrite");
        set(disk, "kind", "Shared");
        set(disk, "fsType", "ext4");
        set(disk, "readOnly", false);
    }
    if let Some(scale_io) = get(v, "scaleIO") {
        set_text(scale_io, "storageMode", "ThinProvisioned");
        set_text(scale_io, "fsType", "xfs");
    }
}
