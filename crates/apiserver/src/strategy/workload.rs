//! Deployments and pod templates.

use super::{PLAIN, StatusMetadata, Strategy};
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
    status_metadata: StatusMetadata::Without(&["labels"]),
    ..PLAIN
};

pub static POD_TEMPLATE: Strategy = Strategy { generation: true, returns_deleted: true, ..PLAIN };
