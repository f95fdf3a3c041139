//! Volumes and the mounts of them.

use super::read::{given, is_empty, is_true, items, one_of, quantity, required, text};
use super::security::{descending, no_backsteps};
use super::sources::{self, Of};
use super::{env, names, projected};
use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// A pod's volumes by name.
pub type Volumes<'a> = HashMap<&'a str, &'a Value>;

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

pub fn volumes<'a>(volumes: &'a Value, path: &Path<'_>, errors: &mut FieldErrors) -> Volumes<'a> {
    let mut seen = Volumes::new();
    for (i, volume) in items(volumes).iter().enumerate() {
        let path = path.index(i);
        let name = &volume["name"];
        let name_path = path.child("name");
        source(volume, &path, errors);
        if text(name).is_empty() {
            errors.required(&name_path, "");
        } else if let Some(problem) = names::dns1123_label(text(name)) {
            errors.invalid(&name_path, name.clone(), problem);
        } else if seen.insert(text(name), volume).is_some() {
            errors.duplicate(&name_path, name.clone());
        }
    }
    seen
}

fn source(volume: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut found = false;
    for kind in sources::ORDER {
        let source = &volume[kind];
        if !given(source) {
            continue;
        }
        let path = path.child(kind);
        if std::mem::replace(&mut found, true) {
            errors.forbidden(&path, "may not specify more than 1 volume type");
            continue;
        }
        one_source(kind, source, &path, errors);
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn one_source(kind: &str, source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    match kind {
        "hostPath" => host_path(source, path, errors),
        "emptyDir" if given(&source["sizeLimit"]) => {
            if Quantity::from_value(&source["sizeLimit"]).is_ok_and(|limit| limit.is_negative()) {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.forbidden(&path.child("sizeLimit"), why);
            } else {
                quantity(&source["sizeLimit"], &path.child("sizeLimit"), errors);
            }
        }
        "secret" => {
            required(&source["secretName"], &path.child("secretName"), errors);
            files(source, path, errors);
        }
        "configMap" => {
            required(&source["name"], &path.child("name"), errors);
            files(source, path, errors);
        }
        "downwardAPI" => {
            mode(&source["defaultMode"], &path.child("defaultMode"), errors);
            downward_files(&source["items"], &path.child("items"), errors);
        }
        "projected" => projected::projected(source, path, errors),
        "persistentVolumeClaim" => required(&source["claimName"], &path.child("claimName"), errors),
        "csi" => {
            super::csi::driver_name(&source["driver"], &path.child("driver"), errors);
            let secret = &source["nodePublishSecretRef"];
            if given(secret) {
                required(&secret["name"], &path.child("nodePublishSecretRef").child("name"), errors);
            }
        }
        "ephemeral" => {
            let template = &source["volumeClaimTemplate"];
            let path = path.child("volumeClaimTemplate");
            if given(template) {
                super::storage::claim_spec(&template["spec"], &path.child("spec"), errors);
            } else {
                errors.required(&path, "");
            }
        }
        "image" => {
            required(&source["reference"], &path.child("reference"), errors);
            one_of(
                &source["pullPolicy"],
                &["Always", "IfNotPresent", "Never"],
                &path.child("pullPolicy"),
                errors,
            );
        }
        other => sources::source(other, source, Of::Pod, path, errors),
    }
}

pub fn host_path(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path_path = path.child("path");
    if is_empty(&source["path"]) {
        errors.required(&path_path, "");
        return;
    }
    no_backsteps(&source["path"], &path_path, errors);
    one_of(&source["type"], &HOST_PATH_TYPES, &path.child("type"), errors);
}

pub fn mode(mode: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if mode.as_i64().is_some_and(|m| !(0..=0o777).contains(&m)) {
        errors.invalid(path, mode.clone(), "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// `defaultMode` and `items` of what becomes files.
fn files(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    key_files(&source["items"], &path.child("items"), errors);
}

pub fn key_files(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, item) in items(list).iter().enumerate() {
        let path = path.index(i);
        required(&item["key"], &path.child("key"), errors);
        file_path(item, &path, errors);
    }
}

fn file_path(item: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let field = path.child("path");
    required(&item["path"], &field, errors);
    descending(&item["path"], &field, errors);
    if text(&item["path"]).starts_with("..") && !text(&item["path"]).split('/').any(|p| p == "..") {
        errors.invalid(&field, item["path"].clone(), "must not start with '..'");
    }
    mode(&item["mode"], &path.child("mode"), errors);
}

pub fn downward_files(list: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (i, item) in items(list).iter().enumerate() {
        let path = path.index(i);
        file_path(item, &path, errors);
        match (given(&item["fieldRef"]), given(&item["resourceFieldRef"])) {
            (true, true) => {
                errors.invalid(
                    &path,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
            (true, false) => env::field_ref(&item["fieldRef"], false, &path.child("fieldRef"), errors),
            (false, true) => {
                env::resource_ref(&item["resourceFieldRef"], true, &path.child("resourceFieldRef"), errors)
            }
            (false, false) => errors.required(&path, "one of fieldRef and resourceFieldRef is required"),
        }
    }
}

/// `volumeMounts` and `volumeDevices` of a container.
pub fn mounts(container: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    let list = path.child("volumeMounts");
    for (i, mount) in items(&container["volumeMounts"]).iter().enumerate() {
        let path = list.index(i);
        named(mount, volumes, &path, errors);
        let mount_path = text(&mount["mountPath"]);
        if mount_path.is_empty() {
            errors.required(&path.child("mountPath"), "");
        } else if !seen.insert(mount_path) {
            errors.invalid(&path.child("mountPath"), mount_path, "must be unique");
        }
        for field in ["subPath", "subPathExpr"] {
            if !is_empty(&mount[field]) {
                descending(&mount[field], &path.child(field), errors);
            }
        }
        if !is_empty(&mount["subPath"]) && !is_empty(&mount["subPathExpr"]) {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&path.child("subPathExpr"), mount["subPathExpr"].clone(), detail);
        }
        let propagation = path.child("mountPropagation");
        one_of(
            &mount["mountPropagation"],
            &["Bidirectional", "HostToContainer", "None"],
            &propagation,
            errors,
        );
        if text(&mount["mountPropagation"]) == "Bidirectional"
            && !is_true(&container["securityContext"]["privileged"])
        {
            errors.forbidden(
                &propagation,
                "Bidirectional mount propagation is available only to privileged containers",
            );
        }
        let recursive = path.child("recursiveReadOnly");
        one_of(&mount["recursiveReadOnly"], &["Disabled", "Enabled", "IfPossible"], &recursive, errors);
        if matches!(text(&mount["recursiveReadOnly"]), "Enabled" | "IfPossible")
            && !is_true(&mount["readOnly"])
        {
            errors.forbidden(&recursive, "may only be specified when readOnly is true");
        }
        if matches!(text(&mount["recursiveReadOnly"]), "Enabled" | "IfPossible")
            && !matches!(text(&mount["mountPropagation"]), "" | "None")
        {
            let why = "may only be specified when mountPropagation is None or not specified";
            errors.forbidden(&recursive, why);
        }
    }
    let list = path.child("volumeDevices");
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for (i, device) in items(&container["volumeDevices"]).iter().enumerate() {
        let path = list.index(i);
        named(device, volumes, &path, errors);
        let source = volumes.get(text(&device["name"]));
        if source.is_some_and(|v| !given(&v["persistentVolumeClaim"]) && !given(&v["ephemeral"])) {
            let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.invalid(&path.child("name"), text(&device["name"]), why);
        }
        if !names.insert(text(&device["name"])) {
            errors.invalid(&path.child("name"), text(&device["name"]), "must be unique");
        }
        if items(&container["volumeMounts"]).iter().any(|mount| mount["name"] == device["name"]) {
            let why = "must not already exist in volumeMounts";
            errors.invalid(&path.child("name"), text(&device["name"]), why);
        }
        let device_path = text(&device["devicePath"]);
        if device_path.is_empty() {
            errors.required(&path.child("devicePath"), "");
        } else if !paths.insert(device_path) {
            errors.invalid(&path.child("devicePath"), device_path, "must be unique");
        } else if seen.contains(device_path) {
            let why = "must not already exist as a path in volumeMounts";
            errors.invalid(&path.child("devicePath"), device_path, why);
        } else {
            no_backsteps(&device["devicePath"], &path.child("devicePath"), errors);
        }
    }
}

fn named(mount: &Value, volumes: &Volumes<'_>, path: &Path<'_>, errors: &mut FieldErrors) {
    let name = text(&mount["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if !volumes.contains_key(name) {
        errors.not_found(&path.child("name"), name);
    }
}
