//! Follows the APIServices: who serves what, and whether they do.
//!
//! One task makes the APIServices of this server's own group versions, and starts a task for each of another server:
//! none waits for another. That one wakes when the Service or its endpoints change; servers cannot tell that they have
//! gone, so it asks again from time to time, the faster the worse they are.

use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::AHashMap;
use api::status::Status;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tracing::warn;

use super::openapi;
use super::order::Rank;
use super::remote::Unavailable;
use super::shown::{Foreign, Shown};
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
    // Before the first request: a server whose APIService is there already is not asked for what it does not serve.
    let followed = Followed::default().look(state);
    tokio::spawn(follow(Arc::downgrade(state), followed));
}

async fn follow(state: Weak<State>, mut followed: Followed) {
    let Some(strong) = state.upgrade() else { return };
    let mut services = strong.caches.resource(GROUP, PLURAL).changes();
    let mut served = strong.catalog_changes();
    drop(strong);
    loop {
        services.mark_unchanged();
        served.mark_unchanged();
        let Some(strong) = state.upgrade() else { return };
        followed = followed.look(&strong);
        let ensured = local::ensure(&strong, &strong.catalog()).await;
        if let Err(error) = &ensured {
            warn!(%error, "the APIServices of this server's own groups are not complete");
        }
        drop(strong);
        tokio::select! {
            changed = services.changed() => if changed.is_err() { return },
            changed = served.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(UNWELL), if ensured.is_err() => {}
        }
    }
}

/// The tasks that keep up with other servers. They end with their entry.
#[derive(Default)]
struct Followed(AHashMap<String, Task>);

struct Task {
    remote: Arc<Remote>,
    task: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Followed {
    /// A task for each server that there is now. What has not changed is kept, with what is known of it.
    fn look(mut self, state: &Arc<State>) -> Self {
        let mut now = AHashMap::new();
        state.caches.resource(GROUP, PLURAL).scan("", "", |object| {
            if let Some(remote) = Remote::of(&object.value(), &state.config.inside) {
                let task = match self.0.remove(&remote.name) {
                    Some(known) if known.remote.is(&remote) => known,
                    _ => {
                        let remote = Arc::new(remote);
                        let task = tokio::spawn(keep(Arc::downgrade(state), remote.clone()));
                        Task { remote, task }
                    }
                };
                now.insert(task.remote.name.clone(), task);
            }
            true
        });
        state.aggregation.set(now.values().map(|task| task.remote.clone()).collect());
        show(state);
        Self(now)
    }
}

/// Has discovery show what is known now.
fn show(state: &State) {
    let mut shown = Shown::default();
    let remotes = state.aggregation.all();
    state.caches.resource(GROUP, PLURAL).scan("", "", |object| {
        let object = object.value();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &object["spec"];
        let (group, version) = (text(&spec["group"]), text(&spec["version"]));
        let number = |field: &str| spec[field].as_i64().unwrap_or_default();
        let rank = Rank { group: number("groupPriorityMinimum"), version: number("versionPriority") };
        if rank != Rank::local(&group, &version) {
            shown.ranks.insert((group, version), rank);
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if let Some(remote) = remotes.iter().find(|remote| remote.name == name) {
            shown.versions.push(Foreign::of(remote));
        }
        true
    });
    state.set_shown(shown);
}

/// Keeps up with one server for as long as its APIService names it.
async fn keep(state: Weak<State>, remote: Arc<Remote>) {
    let Some(strong) = state.upgrade() else { return };
    let mut services = strong.caches.resource("", "services").changes();
    let mut slices = strong.caches.resource("discovery.k8s.io", "endpointslices").changes();
    drop(strong);
    loop {
        services.mark_unchanged();
        slices.mark_unchanged();
        let Some(strong) = state.upgrade() else { return };
        let reach = remote.reach(&*strong.caches);
        let asked = match &reach {
            Ok(_) => remote.ask(&strong.outbound).await,
            Err(unavailable) => Err(unavailable.clone()),
        };
        let well = settle(&strong, &remote, asked).await;
        if well {
            let known = remote.found.lock().documents.clone();
            let documents = openapi::refresh(&remote, &strong.outbound, known).await;
            remote.found.lock().documents = documents;
            show(&strong);
        }
        drop(strong);
        let again = tokio::time::sleep(if well { WELL } else { UNWELL });
        tokio::pin!(again);
        loop {
            tokio::select! {
                changed = services.changed() => if changed.is_err() { return },
                changed = slices.changed() => if changed.is_err() { return },
                () = &mut again => break,
            }
            // Most changes are of Services that have nothing to do with this one.
            let Some(strong) = state.upgrade() else { return };
            if remote.reach(&*strong.caches) != reach {
                break;
            }
        }
    }
}

/// Acts on what was found out. False when the server is not well, or could not be said to be.
async fn settle(state: &Arc<State>, remote: &Remote, asked: Result<Value, Unavailable>) -> bool {
    let well = asked.is_ok();
    let condition = match asked {
        Ok(listing) => {
            let mut found = remote.found.lock();
            found.available = true;
            found.listing = Arc::new(listing);
            condition(true, "Passed", "all checks passed")
        }
        Err(Unavailable { reason, message }) => {
            remote.found.lock().available = false;
            condition(false, reason, &message)
        }
    };
    show(state);
    match tell(state, &remote.name, &condition).await {
        Err(status) if !status.is("NotFound") => {
            warn!(api_service = remote.name, error = %status, "the status of an APIService was not told");
            false
        }
        _ => well,
    }
}

/// The condition `Available`.
pub fn condition(available: bool, reason: &str, message: &str) -> Value {
    json!({
        "type": "Available", "status": if available { "True" } else { "False" }, "reason": reason, "message": message,
    })
}

/// Puts the condition into the status of an APIService, if it does not say so already.
pub async fn tell(state: &Arc<State>, name: &str, condition: &Value) -> Result<(), Status> {
    let same = |live: &Value| {
        let live = &live["status"]["conditions"][0];
        ["type", "status", "reason", "message"].iter().all(|field| live[*field] == condition[*field])
    };
    let live = state.caches.resource(GROUP, PLURAL).get(name);
    if live.is_some_and(|live| same(&live.value())) {
        return Ok(());
    }
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
