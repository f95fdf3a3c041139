//! Volumes that nodes reach over a network, or used to: in pods, and as PersistentVolumes.

use super::names;
use super::read::{given, in_range, invalid_if, is_empty, is_true, items, members, one_of, required, text};
use super::security::{descending, no_backsteps};
use crate::field::{FieldErrors, Path};
use serde_json::Value;

/// Sources, the one that counts first where there are several.
pub const ORDER: [&str; 29] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// What sources cannot do without.
const NEEDED: [(&str, &[&str]); 17] = [
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cephfs", &["monitors"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("quobyte", &["registry", "volume"]),
    ("rbd", &["monitors", "image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("storageos", &["volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

/// Sources of a pod are in its namespace; those of a PersistentVolume name the namespaces they mean.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    Pod,
    Volume(&'a str),
}

/// One source of that kind. Those that every node has by itself are looked at elsewhere.
pub fn source(kind: &str, source: &Value, of: Of<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let needed = NEEDED.iter().find(|(known, _)| *known == kind).map_or(&[][..], |(_, fields)| *fields);
    for field in needed {
        required(&source[*field], &path.child(field), errors);
    }
    match kind {
        "nfs" => nfs(source, path, errors),
        "iscsi" => iscsi(source, of, path, errors),
        "fc" => fibre_channel(source, path, errors),
        "gitRepo" => descending(&source["directory"], &path.child("directory"), errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            in_range(&source["partition"], 0, 255, &path.child("partition"), errors);
        }
        "cinder" => secret_ref(source, of, path, errors),
        "storageos" => storageos(source, path, errors),
        "azureDisk" => azure_disk(source, path, errors),
        "azureFile" if given(&source["secretNamespace"]) => {
            required(&source["secretNamespace"], &path.child("secretNamespace"), errors);
        }
        "glusterfs" => endpoints_namespace(source, path, errors),
        "flexVolume" => options(&source["options"], &path.child("options"), errors),
        "quobyte" => quobyte(source, path, errors),
        _ => {}
    }
}

fn nfs(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    required(&source["server"], &path.child("server"), errors);
    let exported = path.child("path");
    required(&source["path"], &exported, errors);
    if !text(&source["path"]).starts_with('/') {
        errors.invalid(&exported, text(&source["path"]), "must be an absolute path");
    }
}

/// A qualified name of iSCSI, in one of its three ways of naming.
fn iscsi_name(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(value);
    let alphanumeric =
        |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let well_formed = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        Some("eui") => name.get(4..).is_some_and(|rest| alphanumeric(rest, 16)),
        Some("naa") => name.get(4..).is_some_and(|rest| alphanumeric(rest, 32)),
        _ => {
            errors.invalid(path, name, "must be valid format starting with iqn, eui, or naa");
            return;
        }
    };
    if !well_formed {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `iqn.yyyy-mm.reversed.domain:what-is-meant`.
fn is_iqn(name: &str) -> bool {
    let digits = |text: Option<&str>, count: usize| {
        text.is_some_and(|text| text.len() == count && text.bytes().all(|b| b.is_ascii_digit()))
    };
    let Some((date, rest)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let mut date = date.split('-');
    let Some((authority, unique)) = rest.split_once(':') else { return false };
    digits(date.next(), 4)
        && digits(date.next(), 2)
        && date.next().is_none()
        && !authority.is_empty()
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !unique.is_empty()
        && !unique.contains(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '*' | '&' | '$' | '|'))
}

fn iscsi(source: &Value, of: Of<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let (portal, initiator) = (&source["targetPortal"], &source["initiatorName"]);
    if let Of::Volume(name) = of
        && given(initiator)
        && name.len() + 1 + text(portal).len() > 64
    {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.invalid(&path.child("targetportal"), portal.clone(), why);
    }
    if !is_empty(&source["iqn"]) {
        iscsi_name(&source["iqn"], &path.child("iqn"), errors);
    }
    in_range(&source["lun"], 0, 255, &path.child("lun"), errors);
    let secret = path.child("secretRef");
    if (is_true(&source["chapAuthDiscovery"]) || is_true(&source["chapAuthSession"]))
        && !given(&source["secretRef"])
    {
        errors.required(&secret, "");
    }
    if of != Of::Pod && given(&source["secretRef"]) {
        required(&source["secretRef"]["name"], &secret.child("name"), errors);
    }
    if given(initiator) {
        iscsi_name(initiator, &path.child("initiatorname"), errors);
    }
}

fn fibre_channel(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let (names, ids) = (&source["targetWWNs"], &source["wwids"]);
    let field = path.child("targetWWNs");
    match (items(names).is_empty(), items(ids).is_empty()) {
        (true, true) => errors.required(&field, "must specify either targetWWNs or wwids, but not both"),
        (false, false) => {
            errors.invalid(&field, names.clone(), "targetWWNs and wwids can not be specified simultaneously");
        }
        _ => {}
    }
    if !items(names).is_empty() {
        let lun = path.child("lun");
        if given(&source["lun"]) {
            in_range(&source["lun"], 0, 255, &lun, errors);
        } else {
            errors.required(&lun, "lun is required if targetWWNs is specified");
        }
    }
}

fn secret_ref(source: &Value, of: Of<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let secret = &source["secretRef"];
    if !given(secret) {
        return;
    }
    let path = path.child("secretRef");
    required(&secret["name"], &path.child("name"), errors);
    if of != Of::Pod {
        required(&secret["namespace"], &path.child("namespace"), errors);
    }
}

fn storageos(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["volumeName", "volumeNamespace"] {
        let value = &source[field];
        if !is_empty(value) {
            invalid_if(names::dns1123_label(text(value)), value, &path.child(field), errors);
        }
    }
    if given(&source["secretRef"]) {
        let secret = path.child("secretRef");
        required(&source["secretRef"]["name"], &secret.child("name"), errors);
    }
}

fn azure_disk(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    one_of(&source["cachingMode"], &["None", "ReadOnly", "ReadWrite"], &path.child("cachingMode"), errors);
    one_of(&source["kind"], &["Dedicated", "Managed", "Shared"], &path.child("kind"), errors);
    let (uri, field) = (text(&source["diskURI"]), path.child("diskURI"));
    let managed = text(&source["kind"]) == "Managed";
    if managed && !uri.starts_with("/subscriptions/") {
        let form =
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        errors.not_supported(&field, uri, &[form]);
    } else if !managed && given(&source["kind"]) && !uri.starts_with("https://") {
        let form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
        errors.not_supported(&field, uri, &[form]);
    }
}

fn endpoints_namespace(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let namespace = &source["endpointsNamespace"];
    let path = path.child("endpointsNamespace");
    if !given(namespace) {
        return;
    }
    if text(namespace).is_empty() {
        let why = "if the endpointnamespace is set, it must be a valid namespace name";
        errors.invalid(&path, "", why);
    } else {
        invalid_if(names::dns1123_label(text(namespace)), namespace, &path, errors);
    }
}

/// Options of a driver, which does not speak for Kubernetes.
fn options(options: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (key, _) in members(options) {
        let prefix = key.split_once('/').map_or(key.as_str(), |(prefix, _)| prefix);
        let domain = format!(".{}", prefix.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&path.key(key), key.as_str(), why);
        }
    }
}

fn quobyte(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let registry = text(&source["registry"]);
    if registry.len() >= 65 {
        let why = "must be a host:port pair or multiple pairs separated by commas and have a maximal length of 64 characters";
        errors.invalid(&path.child("registry"), registry, why);
    } else if !registry.is_empty() {
        for pair in registry.split(',') {
            if pair.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.is_empty()) {
                let why = "must be a host:port pair or multiple pairs separated by commas";
                errors.invalid(&path.child("registry"), registry, why);
            }
        }
    }
    if text(&source["tenant"]).len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&path.child("tenant"), why);
    }
}

/// A directory of the node itself.
pub fn local(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.child("path");
    if is_empty(&source["path"]) {
        errors.required(&path, "");
    } else {
        no_backsteps(&source["path"], &path, errors);
    }
}
