//! Follows the APIServices: who serves what, and whether they do.
//!
//! Wakes when one changes or when something else is served here. Servers of others cannot tell that they have gone, so
//! those are asked again from time to time, the faster the worse they are.

use std::sync::{Arc, Weak};
use std::time::Duration;

use api::registry::Resource;
use api::status::Status;
use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::warn;

use super::remote::Health;
use super::{GROUP, PLURAL, Remote, local};
use crate::UserInfo;
use crate::catalog::Served;
use crate::crd;
use crate::state::State;
use crate::write::update::Change;
use crate::write::{Writer, meta};

/// As upstream checks again.
const WELL: Duration = Duration::from_secs(30);
const UNWELL: Duration = Duration::from_secs(1);

pub(crate) fn start(state: &Arc<State>) {
    tokio::spawn(follow(Arc::downgrade(state)));
}

async fn follow(state: Weak<State>) {
    let Some(strong) = state.upgrade() else { return };
    let mut services = strong.caches.resource(GROUP, PLURAL).changes();
    let mut served = strong.catalog_changes();
    drop(strong);
    loop {
        services.mark_unchanged();
        served.mark_unchanged();
        let Some(strong) = state.upgrade() else { return };
        let ensured = local::ensure(&strong, &strong.catalog()).await;
        if let Err(error) = &ensured {
            warn!(%error, "the APIServices of this server's own groups are not complete");
        }
        let remotes = read(&strong);
        let well = probe(&strong, &remotes).await;
        let again = match (ensured.is_ok() && well, remotes.is_empty()) {
            (true, true) => None,
            (true, false) => Some(WELL),
            (false, _) => Some(UNWELL),
        };
        drop(strong);
        tokio::select! {
            changed = services.changed() => if changed.is_err() { return },
            changed = served.changed() => if changed.is_err() { return },
            () = async {
                match again {
                    Some(after) => tokio::time::sleep(after).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// The group versions that others serve now. What has not changed is kept, with what is known of it.
fn read(state: &Arc<State>) -> Arc<Vec<Arc<Remote>>> {
    let known = state.aggregation.all();
    let mut remotes = Vec::new();
    state.caches.resource(GROUP, PLURAL).scan("", "", |object| {
        let same =
            known.iter().find(|remote| remote.name == object.name() && remote.revision == object.revision);
        match same {
            Some(remote) => remotes.push(remote.clone()),
            None => {
                if let Some(remote) = Remote::of(&object.value(), object.revision) {
                    // A change of its status does not make a server another one.
                    if let Some(before) =
                        known.iter().find(|before| before.name == remote.name && before.to == remote.to)
                    {
                        *remote.found.lock() = before.found.lock().clone();
                    }
                    remotes.push(Arc::new(remote));
                }
            }
        }
        true
    });
    state.aggregation.set(remotes);
    state.aggregation.all()
}

/// Asks each server. False when one does not answer.
async fn probe(state: &Arc<State>, remotes: &[Arc<Remote>]) -> bool {
    let probes = remotes.iter().map(|remote| remote.probe(&state.outbound, &*state.caches));
    let mut well = true;
    for (remote, health) in remotes.iter().zip(join_all(probes).await) {
        well &= health.available;
        let before = std::mem::replace(&mut *remote.found.lock(), health.clone());
        let Health { available, reason, message, .. } = &health;
        if (before.available, &before.reason, &before.message) != (*available, reason, message) {
            match tell(state, &remote.name, &condition(*available, reason, message)).await {
                Err(status) if !status.is("NotFound") => {
                    warn!(api_service = remote.name, error = %status, "the status of an APIService was not told");
                    *remote.found.lock() = Health { reason: String::new(), ..health };
                    well = false;
                }
                _ => {}
            }
        }
    }
    let resources: Vec<Resource> = remotes.iter().flat_map(|remote| remote.resources()).collect();
    state.set_remote(resources);
    well
}

/// The condition `Available`.
pub fn condition(available: bool, reason: &str, message: &str) -> Value {
    json!({
        "type": "Available", "status": if available { "True" } else { "False" }, "reason": reason, "message": message,
    })
}

/// Puts the condition into the status of an APIService.
pub async fn tell(state: &Arc<State>, name: &str, condition: &Value) -> Result<(), Status> {
    let (catalog, user, warnings) = (state.catalog(), crd::controller::user(), Mutex::default());
    let served = catalog.stored(GROUP, PLURAL).ok_or_else(Status::unknown_resource)?;
    let make = |live: &Value| {
        let mut service = live.clone();
        let mut condition = condition.clone();
        let known = &live["status"]["conditions"][0];
        condition["lastTransitionTime"] = match known["status"] == condition["status"] {
            true => known["lastTransitionTime"].clone(),
            false => json!(meta::now()),
        };
        service["status"] = json!({"conditions": [condition]});
        Ok(service)
    };
    let change = Change { make: &make, managed: false, whole: false };
    writer(state, served, &user, &warnings, name, "status").update(&change).await.map(drop)
}

/// Writes of this server itself.
pub fn writer<'a>(
    state: &'a Arc<State>,
    served: &'a Arc<Served>,
    user: &'a UserInfo,
    warnings: &'a Mutex<Vec<String>>,
    name: &'a str,
    subresource: &'a str,
) -> Writer<'a> {
    Writer { name, subresource, ..Writer::own(state, served, user, crd::controller::MANAGER, warnings) }
}
