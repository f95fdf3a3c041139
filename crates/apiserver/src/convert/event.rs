//! Events: `v1` and `events.k8s.io/v1` name the same things differently.

use serde_json::{Map, Value};

/// The fields of `v1` Event and what `events.k8s.io/v1` calls them.
const FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub fn to_core(event: &mut Map<String, Value>) {
    rename(event, FIELDS.iter().map(|(core, events)| (*events, *core)));
}

pub fn from_core(event: &mut Map<String, Value>) {
    rename(event, FIELDS.iter().copied());
}

fn rename<'a>(fields: &mut Map<String, Value>, names: impl Iterator<Item = (&'a str, &'a str)>) {
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}
