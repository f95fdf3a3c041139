//! A definition that goes takes its objects with it: they are deleted like any others, with their finalizers, and only
//! when none is left does the definition go.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::definition::CLEANUP;
use super::wire::Condition;
use super::{Definition, controller, status};
use crate::cache::object::Object;
use crate::catalog::Served;
use crate::options::{DeleteOptions, Query};
use crate::state::State;
use crate::write::{Writer, meta};

const CONCURRENT: usize = 32;
const RETRY: Duration = Duration::from_secs(1);

/// Removes the objects, then the finalizer that has kept the definition.
pub async fn run(state: &Arc<State>, definition: &Arc<Definition>) {
    let Some(version) = definition.version(&definition.storage) else { return };
    let served = Arc::new(Served::custom(definition, version, &state.caches));
    let told = tell(
        state,
        definition,
        "True",
        "InstanceDeletionInProgress",
        "CustomResource deletion is in progress",
    )
    .await;
    if let Err(error) = told {
        warn!(crd = definition.name, %error, "the status of a definition that is going was not told");
    }
    let mut changes = served.cache.changes();
    loop {
        changes.mark_unchanged();
        let failed = delete_all(state, &served).await;
        if served.cache.is_empty() {
            match release(state, definition).await {
                Ok(()) => break,
                Err(status) if status.is("NotFound") => break,
                Err(error) => {
                    warn!(crd = definition.name, %error, "a definition without objects is still there")
                }
            }
        }
        if let Some(error) = &failed {
            warn!(crd = definition.name, %error, "objects of a definition that is going are still there");
        }
        let retry = failed.is_some() || served.cache.is_empty();
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if retry => {}
        }
    }
    info!(crd = definition.name, "a definition has gone with its objects");
}

/// Deletes what is not being deleted yet; the first failure.
async fn delete_all(state: &Arc<State>, served: &Arc<Served>) -> Option<Status> {
    let mut objects: Vec<Arc<Object>> = Vec::new();
    served.cache.scan("", "", |object| {
        objects.push(object.clone());
        true
    });
    let going = |object: &Object| object.value()["metadata"]["deletionTimestamp"].is_string();
    let failures: Vec<Status> = stream::iter(objects.into_iter().filter(|object| !going(object)))
        .map(|object| delete(state, served, object))
        .buffer_unordered(CONCURRENT)
        .filter_map(|outcome| async move { outcome.err() })
        .filter(|status| std::future::ready(!status.is("NotFound")))
        .collect()
        .await;
    failures.into_iter().next()
}

async fn delete(state: &Arc<State>, served: &Arc<Served>, object: Arc<Object>) -> Result<(), Status> {
    let options = DeleteOptions::parse(&Query::default(), None)?;
    let user = controller::user();
    let warnings = Mutex::default();
    let writer = Writer {
        namespace: object.namespace(),
        name: object.name(),
        options: options.to_value(),
        ..Writer::own(state, served, &user, controller::MANAGER, &warnings)
    };
    writer.delete(&options).await.map(drop)
}

async fn tell(
    state: &Arc<State>,
    definition: &Definition,
    holds: &str,
    reason: &str,
    message: &str,
) -> Result<(), Status> {
    let condition = Condition {
        kind: "Terminating".to_owned(),
        status: holds.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    controller::change(state, &definition.name, "status", &|live: &Value| {
        let mut crd = live.clone();
        status::set(&mut crd, &condition);
        Ok(crd)
    })
    .await
}

async fn release(state: &Arc<State>, definition: &Definition) -> Result<(), Status> {
    controller::change(state, &definition.name, "", &|live: &Value| {
        let mut crd = live.clone();
        let mut finalizers = live["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != CLEANUP);
        match finalizers.is_empty() {
            true => drop(meta::of(&mut crd).remove("finalizers")),
            false => drop(meta::of(&mut crd).insert("finalizers".to_owned(), json!(finalizers))),
        }
        Ok(crd)
    })
    .await
}
