//! Two JSON values, divided by a NUL byte: an object and a patch of it, of every type.
#![no_main]

use api::gvk::GroupVersionKind;
use api::patch::apply::{Updater, server_side_apply};
use api::patch::{json_patch, merge_patch, strategic_merge};
use api::registry::Registry;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let mut halves = bytes.splitn(2, |byte| *byte == 0);
    let mut next = || halves.next().and_then(|half| serde_json::from_slice::<Value>(half).ok());
    let (Some(object), Some(patch)) = (next(), next()) else { return };
    let _ = json_patch(&object, &patch);
    let _ = merge_patch(&object, &patch);
    let gvk = GroupVersionKind::of(&object).unwrap_or_else(|| GroupVersionKind::new("", "v1", "Pod"));
    let Some(resource) = Registry::builtin().kind(&gvk) else { return };
    let Some(schema) = resource.schema() else { return };
    let _ = strategic_merge(&object, &patch, schema);
    let updater = Updater {
        manager: "fuzz",
        api_version: &gvk.api_version(),
        subresource: "",
        time: "2026-01-01T00:00:00Z",
        ignored: &["status"],
    };
    let _ = server_side_apply(Some(&object), &patch, schema, &updater, true);
});
