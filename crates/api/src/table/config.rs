//! What pods are configured with, and what limits them: config maps, secrets, service accounts, quotas.

use serde_json::Value;

use super::cells::{age, count, list, map, name, plain, text};
use super::{AGE, NAME, Printer, column, number};

static CONFIG_MAP: Printer = Printer {
    columns: &[NAME, number("Data", "How many entries there are."), AGE],
    cells: |object, now| {
        vec![name(object), (count(object, "/data") + count(object, "/binaryData")).into(), age(object, now)]
    },
};

static SECRET: Printer = Printer {
    columns: &[
        NAME,
        column("Type", "Used to facilitate programmatic handling of secret data."),
        number("Data", "How many entries there are."),
        AGE,
    ],
    cells: |object, now| {
        vec![name(object), text(object, "/type").into(), count(object, "/data").into(), age(object, now)]
    },
};

static NAME_AND_AGE: Printer =
    Printer { columns: &[NAME, AGE], cells: |object, now| vec![name(object), age(object, now)] };

static RESOURCE_QUOTA: Printer = Printer {
    columns: &[
        NAME,
        column("Request", "Request represents a minimum amount of cpu/memory that a container may consume."),
        column(
            "Limit",
            "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
        ),
        AGE,
    ],
    cells: |object, now| {
        let usage = |limits: bool| {
            let of_column = |key: &str| (key.starts_with("limits.")) == limits;
            let parts: Vec<String> = map(object, "/status/hard")
                .into_iter()
                .flatten()
                .filter(|(key, _)| of_column(key))
                .map(|(key, hard)| {
                    let used = object.pointer("/status/used").and_then(|used| used.get(key));
                    format!("{key}: {}/{}", used.map_or("0".to_owned(), plain), plain(hard))
                })
                .collect();
            parts.join(", ")
        };
        vec![name(object), usage(false).into(), usage(true).into(), age(object, now)]
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "ConfigMap" => Some(&CONFIG_MAP),
        "Secret" => Some(&SECRET),
        // Its secrets are no longer counted: nothing has put any there for years.
        "ServiceAccount" => Some(&NAME_AND_AGE),
        "ResourceQuota" => Some(&RESOURCE_QUOTA),
        _ => None,
    }
}

/// Kinds elsewhere that show nothing but their name and age.
pub(super) fn name_and_age() -> &'static Printer {
    &NAME_AND_AGE
}

/// How many items the list at that place has.
pub(super) fn length(object: &Value, pointer: &str) -> Value {
    list(object, pointer).len().into()
}
