//! Deployments, and the volumes and claims of workloads.

use serde_json::{Value, json};

use super::{PLAIN, Strategy, status};
use crate::UserInfo;
use crate::write::meta;

/// A change of annotations alone is a new generation too, as the rollout records them.
pub static DEPLOYMENT: Strategy = Strategy {
    update: |new, old| {
        if new["metadata"]["annotations"] != old["metadata"]["annotations"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
            meta::of(new).insert("generation".to_owned(), (generation + 1).into());
        }
    },
    generation: true,
    ..PLAIN
};

pub static VOLUME: Strategy = Strategy { create: pending, returns_deleted: true, ..PLAIN };
pub static CLAIM: Strategy = Strategy { create: pending, returns_deleted: true, ..PLAIN };

fn pending(object: &mut Value, _: &UserInfo) {
    status(object)["phase"] = json!("Pending");
}
