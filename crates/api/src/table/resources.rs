//! Dynamic resource allocation: classes, claims and slices of devices.

use serde_json::Value;

use super::cells::{age, is_deleted, list, name, text, text_or};
use super::{AGE, NAME, Printer, column};

static CLAIM: Printer = Printer {
    columns: &[
        NAME,
        column("State", "A summary of the current state (allocated, pending, reserved, etc.)."),
        AGE,
    ],
    cells: |object, now| vec![name(object), claim_state(object).into(), age(object, now)],
};

static SLICE: Printer = Printer {
    columns: &[
        NAME,
        column("Node", "NodeName identifies the node which provides the resources in this pool."),
        column("Driver", "Driver identifies the DRA driver providing the capacity information."),
        column("Pool", "Pool describes the pool that this ResourceSlice belongs to."),
        AGE,
    ],
    cells: |object, now| {
        vec![
            name(object),
            text_or(object, "/spec/nodeName", "<unset>").into(),
            text(object, "/spec/driver").into(),
            text(object, "/spec/pool/name").into(),
            age(object, now),
        ]
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "ResourceClaim" => Some(&CLAIM),
        "ResourceSlice" => Some(&SLICE),
        "DeviceClass" | "ResourceClaimTemplate" => Some(super::config::name_and_age()),
        _ => None,
    }
}

fn claim_state(claim: &Value) -> String {
    let mut states = Vec::new();
    if is_deleted(claim) {
        states.push("deleted");
    }
    if claim.pointer("/status/allocation").is_none() {
        if !is_deleted(claim) {
            states.push("pending");
        }
    } else {
        states.push("allocated");
        let reserved = !list(claim, "/status/reservedFor").is_empty();
        states.extend(reserved.then_some("reserved"));
    }
    states.join(",")
}
