//! ResourceSlices: a device's taint remembers since when it is there.

use serde_json::{Value, json};

use super::{PLAIN, Strategy};
use crate::write::meta;

pub static STRATEGY: Strategy =
    Strategy { create: |slice, _| date(slice), update: |slice, _| date(slice), generation: true, ..PLAIN };

fn date(slice: &mut Value) {
    let devices = slice["spec"]["devices"].as_array_mut().into_iter().flatten();
    for taint in devices.filter_map(|device| device.get_mut("taints")?.as_array_mut()).flatten() {
        if taint.is_object() && taint["timeAdded"].is_null() {
            taint["timeAdded"] = json!(meta::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_dated_once() {
        let dated = "2026-01-01T00:00:00Z";
        let mut slice = json!({"spec": {"devices": [
            {"name": "a"},
            {"name": "b", "taints": [{"key": "k", "timeAdded": dated}, {"key": "l"}]},
        ]}});
        date(&mut slice);
        let taints = &slice["spec"]["devices"][1]["taints"];
        assert_eq!(taints[0]["timeAdded"], dated);
        assert!(taints[1]["timeAdded"].as_str().is_some_and(|time| time > dated), "{taints}");
        assert_eq!(slice["spec"]["devices"][0], json!({"name": "a"}));
    }
}
