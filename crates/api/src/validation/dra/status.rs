//! What a claim has been given, who uses it, and what drivers tell of its devices.

use super::claim::request_names;
use super::taints::tolerations;
use super::{
    at_most, conditions, label, named_request, named_requests, opaque, pool_name, qualified, raw_object,
};
use crate::field::{FieldErrors, Path};
use crate::validation::read::{
    IMMUTABLE, given, is_empty, items, members, one_of, quantity, required, same, text,
};
use crate::validation::{csi, scheduling};
use serde_json::Value;
use std::collections::HashSet;

const STATUS: Path<'static> = Path::new("status");
const MAX_USERS: usize = 256;
const MAX_RESULTS: usize = 32;
/// Of the class and of the claim.
const MAX_CONFIGS: usize = 64;
const MAX_CONDITIONS: usize = 8;
const MAX_ADDRESSES: usize = 16;

/// A claim is allocated once, and only what is allocated is reserved.
pub fn claim_status(new: &Value, old: &Value, errors: &mut FieldErrors) {
    let (now, before) = (&new["status"], &old["status"]);
    users(new, before, errors);
    let path = STATUS.child("allocation");
    let (allocation, was) = (&now["allocation"], &before["allocation"]);
    if given(allocation) && given(was) {
        if !same(allocation, was) {
            errors.invalid(&path, allocation.clone(), IMMUTABLE);
        }
    } else if given(allocation) {
        self::allocation(new, &path, errors);
    }
    if given(was) && !given(allocation) && !is_empty(&now["reservedFor"]) {
        errors.forbidden(&path, "may not be removed while the claim is reserved");
    }
    devices(now, errors);
}

fn users(new: &Value, before: &Value, errors: &mut FieldErrors) {
    let now = &new["status"];
    let list = STATUS.child("reservedFor");
    at_most(&now["reservedFor"], MAX_USERS, &list, errors);
    let mut seen = HashSet::new();
    for (i, user) in items(&now["reservedFor"]).iter().enumerate() {
        let path = list.index(i);
        for field in ["resource", "name", "uid"] {
            required(&user[field], &path.child(field), errors);
        }
        if !seen.insert(text(&user["uid"])) {
            errors.duplicate(&path.child("uid"), user["uid"].clone());
        }
    }
    if is_empty(&now["reservedFor"]) {
        return;
    }
    if !given(&now["allocation"]) {
        errors.forbidden(&list, "may not be specified when `allocated` is not set");
    }
    let known: HashSet<&str> = items(&before["reservedFor"]).iter().map(|user| text(&user["uid"])).collect();
    if given(&new["metadata"]["deletionTimestamp"]) && seen.iter().any(|uid| !known.contains(uid)) {
        errors.forbidden(&list, "new entries may not be added while `deletionTimestamp` is set");
    }
}

fn allocation(claim: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let allocation = &claim["status"]["allocation"];
    let known = request_names(&claim["spec"]["devices"]);
    let devices = path.child("devices");
    let list = devices.child("results");
    let results = &allocation["devices"]["results"];
    at_most(results, MAX_RESULTS, &list, errors);
    for (i, one) in items(results).iter().enumerate() {
        result(one, &known, &list.index(i), errors);
    }
    let list = devices.child("config");
    at_most(&allocation["devices"]["config"], MAX_CONFIGS, &list, errors);
    for (i, config) in items(&allocation["devices"]["config"]).iter().enumerate() {
        let path = list.index(i);
        required(&config["source"], &path.child("source"), errors);
        if !is_empty(&config["source"]) {
            one_of(&config["source"], &["FromClaim", "FromClass"], &path.child("source"), errors);
        }
        // Those of a class are about whatever request asks for it.
        named_requests(&config["requests"], &known, &path.child("requests"), errors);
        opaque(&config["opaque"], &path.child("opaque"), errors);
    }
    let selector = &allocation["nodeSelector"];
    if given(selector) {
        scheduling::node_selector(selector, &path.child("nodeSelector"), errors);
    }
}

fn result(result: &Value, known: &HashSet<String>, path: &Path<'_>, errors: &mut FieldErrors) {
    named_request(&result["request"], known, &path.child("request"), errors);
    identity(result, path, errors);
    conditions(&result["bindingConditions"], &path.child("bindingConditions"), errors);
    conditions(&result["bindingFailureConditions"], &path.child("bindingFailureConditions"), errors);
    tolerations(&result["tolerations"], &path.child("tolerations"), errors);
    let list = path.child("consumedCapacity");
    for (name, amount) in members(&result["consumedCapacity"]) {
        let path = list.key(name);
        qualified(name, false, &path, errors);
        quantity(amount, &path, errors);
    }
}

/// Which device it is about.
fn identity(value: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    csi::driver_name(&value["driver"], &path.child("driver"), errors);
    pool_name(&value["pool"], &path.child("pool"), errors);
    label(&value["device"], &path.child("device"), errors);
    let share = &value["shareID"];
    if given(share) && uuid(text(share)).is_none() {
        errors.invalid(&path.child("shareID"), share.clone(), "must be a lowercase UUID in RFC 4122 format");
    }
}

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`
fn uuid(text: &str) -> Option<()> {
    let mut parts = text.split('-');
    for length in [8, 4, 4, 4, 12] {
        let part = parts.next().filter(|part| part.len() == length)?;
        part.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f')).then_some(())?;
    }
    parts.next().is_none().then_some(())
}

fn devices(status: &Value, errors: &mut FieldErrors) {
    let key =
        |value: &Value| ["driver", "pool", "device", "shareID"].map(|field| text(&value[field]).to_owned());
    let allocated: HashSet<[String; 4]> =
        items(&status["allocation"]["devices"]["results"]).iter().map(key).collect();
    let list = STATUS.child("devices");
    let mut seen = HashSet::new();
    for (i, device) in items(&status["devices"]).iter().enumerate() {
        let path = list.index(i);
        let id = key(device);
        if !allocated.contains(&id) {
            errors.invalid(&path, id[..3].join("/"), "must be an allocated device in the claim");
        }
        let shown = id[..3].join("/");
        if !seen.insert(id) {
            errors.duplicate(&path, shown);
        }
        identity(device, &path, errors);
        let conditions = path.child("conditions");
        at_most(&device["conditions"], MAX_CONDITIONS, &conditions, errors);
        let mut types = HashSet::new();
        for (i, condition) in items(&device["conditions"]).iter().enumerate() {
            if !types.insert(text(&condition["type"])) {
                errors.duplicate(&conditions.index(i).child("type"), condition["type"].clone());
            }
        }
        raw_object(&device["data"], false, &path.child("data"), errors);
        network(&device["networkData"], &path.child("networkData"), errors);
    }
}

fn network(network: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    for (field, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        if text(&network[field]).len() > most {
            errors.too_long(&path.child(field), most);
        }
    }
    let list = path.child("ips");
    at_most(&network["ips"], MAX_ADDRESSES, &list, errors);
    let mut seen = HashSet::new();
    for (i, address) in items(&network["ips"]).iter().enumerate() {
        let path = list.index(i);
        crate::validation::ip::interface_address(address, &path, errors);
        if !seen.insert(text(address)) {
            errors.duplicate(&path, address.clone());
        }
    }
}
