//! Persistent volumes, claims and storage classes.

use super::names;
use super::read::{IMMUTABLE, given, invalid_if, is_empty, items, one_of, quantity, required, same, text};
use super::selector::label_selector;
use super::sources::{self, Of};
use super::{resources, scheduling, volume};
use crate::field::{FieldErrors, Path};
use crate::quantity::Quantity;
use serde_json::{Map, Value};

const SPEC: Path<'static> = Path::new("spec");
const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// Fields of a PersistentVolumeSpec that are not sources.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn access_modes(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let modes = items(&spec["accessModes"]);
    let path = path.child("accessModes");
    if modes.is_empty() {
        errors.required(&path, "at least 1 access mode is required");
    }
    for mode in modes {
        one_of(mode, &ACCESS_MODES, &path, errors);
    }
    if modes.len() > 1 && modes.iter().any(|m| text(m) == "ReadWriteOncePod") {
        errors.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn class_name(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    if !is_empty(value) {
        invalid_if(names::dns1123_subdomain(text(value)), value, path, errors);
    }
}

fn storage(amounts: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let path = path.key("storage");
    if !given(&amounts["storage"]) {
        errors.required(&path, "");
    } else if let Some(amount) = quantity(&amounts["storage"], &path, errors)
        && amount.is_zero()
    {
        errors.invalid(&path, amounts["storage"].clone(), "must be greater than zero");
    }
}

pub fn claim_spec(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    access_modes(spec, path, errors);
    label_selector(&spec["selector"], &path.child("selector"), errors);
    resources::requirements_of_storage(&spec["resources"], &path.child("resources"), errors);
    let resources = path.child("resources");
    storage(&spec["resources"]["requests"], &resources.child("requests"), errors);
    class_name(&spec["storageClassName"], &path.child("storageClassName"), errors);
    one_of(&spec["volumeMode"], &VOLUME_MODES, &path.child("volumeMode"), errors);
    data_source(spec, path, errors);
    class_name(&spec["volumeAttributesClassName"], &path.child("volumeAttributesClassName"), errors);
}

pub fn claim(object: &Value, errors: &mut FieldErrors) {
    claim_spec(&object["spec"], &SPEC, errors);
}

const IMMUTABLE_CLAIM: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";

/// What a claim's volume begins with.
fn data_source(spec: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in ["dataSource", "dataSourceRef"] {
        let (source, path) = (&spec[field], path.child(field));
        if !given(source) {
            continue;
        }
        for name in ["name", "kind"] {
            required(&source[name], &path.child(name), errors);
        }
        let group = &source["apiGroup"];
        if is_empty(group) && text(&source["kind"]) != "PersistentVolumeClaim" {
            errors.invalid(
                &path,
                text(&source["kind"]),
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            );
        }
        if !is_empty(group) {
            invalid_if(names::dns1123_subdomain(text(group)), group, &path.child("apiGroup"), errors);
        }
    }
    let (old, new) = (&spec["dataSource"], &spec["dataSourceRef"]);
    if given(old) && given(new) && old != new {
        errors.invalid(&path.child("dataSource"), old.clone(), "must match dataSourceRef");
    }
}

pub fn claim_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let bound = text(&new["status"]["phase"]) == "Bound" || text(&old["status"]["phase"]) == "Bound";
    let capacity = &old["status"]["capacity"];
    let (new, old) = (&new["spec"], &old["spec"]);
    let field = |spec: &Value, name: &str| spec.get(name).cloned().unwrap_or(Value::Null);
    let names = ["accessModes", "selector", "volumeMode", "dataSource", "dataSourceRef"];
    // The volume and the class are filled in once; no class at all is a choice too, if it was made.
    let filled = (!is_empty(&old["volumeName"]) && !same(&new["volumeName"], &old["volumeName"]))
        || (given(&old["storageClassName"]) && new["storageClassName"] != old["storageClassName"]);
    if filled || names.iter().any(|f| !same(&field(new, f), &field(old, f))) {
        errors.forbidden(&SPEC, IMMUTABLE_CLAIM);
    }
    let (class, path) = ("volumeAttributesClassName", SPEC.child("volumeAttributesClassName"));
    if given(&old[class]) && !given(&new[class]) {
        errors.forbidden(&path, "update from non-nil value to nil is forbidden");
    } else if !is_empty(&old[class]) && is_empty(&new[class]) {
        errors.forbidden(&path, "update from non-nil value to an empty string is forbidden");
    }
    let amount = |spec: &Value| Quantity::from_value(&spec["resources"]["requests"]["storage"]).ok();
    if let (Some(new_amount), Some(old_amount)) = (amount(new), amount(old))
        && new_amount != old_amount
    {
        let resources = SPEC.child("resources");
        let requests = resources.child("requests");
        if !bound {
            errors.forbidden(&SPEC, IMMUTABLE_CLAIM);
        } else if new_amount < old_amount {
            // An expansion that has failed may be asked for again, smaller.
            let has = Quantity::from_value(&capacity["storage"]).unwrap_or(old_amount);
            if new_amount <= has {
                errors.forbidden(&requests.key("storage"), "field can not be less than status.capacity");
            }
        }
    }
}

pub fn volume(object: &Value, errors: &mut FieldErrors) {
    let spec = &object["spec"];
    let of = Of::Volume(text(&object["metadata"]["name"]));
    access_modes(spec, &SPEC, errors);
    let capacity = SPEC.child("capacity");
    if is_empty(&spec["capacity"]) {
        errors.required(&capacity, "");
    } else {
        storage(&spec["capacity"], &capacity, errors);
        resources::amounts(&spec["capacity"], &capacity, errors);
    }
    let mut found = false;
    for (name, source) in super::read::members(spec) {
        if NOT_SOURCES.contains(&name.as_str()) || !given(source) {
            continue;
        }
        let path = SPEC.child(name);
        if std::mem::replace(&mut found, true) {
            errors.forbidden(&path, "may not specify more than 1 volume type");
            continue;
        }
        match name.as_str() {
            "hostPath" => volume::host_path(source, &path, errors),
            "local" => {
                sources::local(source, &path, errors);
                if !given(&spec["nodeAffinity"]["required"]) {
                    errors.required(&SPEC.child("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "csi" => {
                super::csi::driver_name(&source["driver"], &path.child("driver"), errors);
                required(&source["volumeHandle"], &path.child("volumeHandle"), errors);
                secrets(source, &path, errors);
            }
            other => sources::source(other, source, of, &path, errors),
        }
    }
    if !found {
        errors.required(&SPEC, "must specify a volume type");
    }
    if text(&spec["persistentVolumeReclaimPolicy"]) == "Recycle" && text(&spec["hostPath"]["path"]) == "/" {
        let path = SPEC.child("persistentVolumeReclaimPolicy");
        errors.forbidden(&path, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = &spec["volumeAttributesClassName"];
    class_name(class, &SPEC.child("volumeAttributesClassName"), errors);
    if !is_empty(class) && !given(&spec["csi"]) {
        let why = "has to be specified when using volumeAttributesClassName";
        errors.required(&SPEC.child("csi"), why);
    }
    let capacity = SPEC.child("capacity");
    for (name, _) in super::read::members(&spec["capacity"]).filter(|(name, _)| *name != "storage") {
        errors.not_supported(&capacity, name.as_str(), &["storage"]);
    }
    one_of(
        &spec["persistentVolumeReclaimPolicy"],
        &["Delete", "Recycle", "Retain"],
        &SPEC.child("persistentVolumeReclaimPolicy"),
        errors,
    );
    one_of(&spec["volumeMode"], &VOLUME_MODES, &SPEC.child("volumeMode"), errors);
    class_name(&spec["storageClassName"], &SPEC.child("storageClassName"), errors);
    let affinity = &spec["nodeAffinity"]["required"];
    let path = SPEC.child("nodeAffinity");
    if given(affinity) {
        scheduling::node_selector(affinity, &path.child("required"), errors);
    } else if given(&spec["nodeAffinity"]) {
        errors.required(&path.child("required"), "must specify required node constraints");
    }
}

/// A volume is in no namespace: its secrets say theirs.
fn secrets(source: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
        "nodeStageSecretRef",
    ] {
        let path = path.child(field);
        for part in ["name", "namespace"].into_iter().filter(|_| given(&source[field])) {
            required(&source[field][part], &path.child(part), errors);
        }
    }
}

const EXPAND_SECRET: &str = "controllerExpandSecretRef";

pub fn volume_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let sources = |object: &Value| -> Map<String, Value> {
        let spec = object["spec"].as_object().cloned().unwrap_or_default();
        spec.into_iter().filter(|(k, v)| !NOT_SOURCES.contains(&k.as_str()) && given(v)).collect()
    };
    let mut now = sources(new);
    // The secret for expansions may be told later.
    if !given(&old["spec"]["csi"][EXPAND_SECRET])
        && let Some(csi) = now.get_mut("csi").and_then(Value::as_object_mut)
    {
        csi.remove(EXPAND_SECRET);
    }
    if now != sources(old) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.forbidden(&SPEC.child("persistentvolumesource"), detail);
    }
    let (new, old) = (&new["spec"], &old["spec"]);
    if !same(&new["volumeMode"], &old["volumeMode"]) {
        errors.invalid(&SPEC.child("volumeMode"), new["volumeMode"].clone(), IMMUTABLE);
    }
    if !is_empty(&old["nodeAffinity"]) && !same(&new["nodeAffinity"], &old["nodeAffinity"]) {
        errors.invalid(&SPEC.child("nodeAffinity"), new["nodeAffinity"].clone(), IMMUTABLE);
    }
}

pub fn class(object: &Value, errors: &mut FieldErrors) {
    let provisioner = &object["provisioner"];
    if text(provisioner).is_empty() {
        errors.required(&Path::new("provisioner"), "");
    } else {
        let problem = names::qualified_name(&text(provisioner).to_lowercase());
        invalid_if(problem, provisioner, &Path::new("provisioner"), errors);
    }
    one_of(&object["reclaimPolicy"], &["Delete", "Retain"], &Path::new("reclaimPolicy"), errors);
    super::csi::parameters_of(&object["parameters"], &Path::new("parameters"), errors);
    topologies(&object["allowedTopologies"], errors);
    one_of(
        &object["volumeBindingMode"],
        &["Immediate", "WaitForFirstConsumer"],
        &Path::new("volumeBindingMode"),
        errors,
    );
}

fn topologies(list: &Value, errors: &mut FieldErrors) {
    let path = Path::new("allowedTopologies");
    for (i, term) in items(list).iter().enumerate() {
        let path = path.index(i);
        let path = path.child("matchLabelExpressions");
        let mut keys = std::collections::HashSet::new();
        for (j, expression) in items(&term["matchLabelExpressions"]).iter().enumerate() {
            let path = path.index(j);
            let key = &expression["key"];
            invalid_if(names::qualified_name(text(key)), key, &path.child("key"), errors);
            if !keys.insert(text(key)) {
                errors.duplicate(&path.child("key"), text(key));
            }
            if is_empty(&expression["values"]) {
                errors.required(&path.child("values"), "");
            }
        }
    }
}

pub fn class_update(new: &Value, old: &Value, errors: &mut FieldErrors) {
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if !same(&new[field], &old[field]) {
            errors.forbidden(&Path::new(field), format!("updates to {field} are forbidden."));
        }
    }
    let path = Path::new("volumeBindingMode");
    super::read::unchanged(&new["volumeBindingMode"], &old["volumeBindingMode"], &path, errors);
}
