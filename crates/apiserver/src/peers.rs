//! Which API servers there are: the `kubernetes` Service leads to all that share a store, and to none that is gone.
//!
//! The Service and its endpoints are made again when somebody removes them. With a store of its own there is one server.
//! Else each server writes a key of its own again and again. One whose key has not changed for a while, by the clock of
//! whoever looks, is gone; one that stops takes its key with it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use store::{Expect, Revision};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::admission::objects::items;
use crate::bootstrap;
use crate::cache::object_key;
use crate::server::StartError;
use crate::state::State;

/// Where upstream keeps them.
const PREFIX: &str = "/masterleases/";
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Several heartbeats.
const GONE: Duration = Duration::from_secs(35);
/// After something has gone wrong.
const RETRY: Duration = Duration::from_secs(1);
/// The Service `default/kubernetes`, and what says where it leads to.
const WATCHED: [(&str, &str); 3] =
    [("", "services"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices")];
/// A server that stops does not wait longer for the store.
const LEAVING: Duration = Duration::from_secs(3);

/// What was last seen of each server: its key's revision, and when that changed.
#[derive(Default)]
struct Peers(HashMap<Bytes, (Revision, Instant)>);

/// Makes this server known, and keeps it so for as long as it runs.
pub async fn join(state: &Arc<State>) -> Result<(), StartError> {
    let mut peers = Peers::default();
    peers.look(state, true).await?;
    let server = Arc::downgrade(state);
    tokio::spawn(keep(server, peers));
    Ok(())
}

/// Wakes at each heartbeat where there may be others, and when something has become of the Service or its endpoints.
async fn keep(server: Weak<State>, mut peers: Peers) {
    let Some(state) = server.upgrade() else { return };
    let changes = |(group, plural)| state.caches.resource(group, plural).changes();
    let [mut services, mut endpoints, mut slices] = WATCHED.map(changes);
    let shared = state.store.is_shared();
    drop(state);
    let mut beat = Instant::now() + HEARTBEAT;
    loop {
        let beats = tokio::select! {
            changed = services.changed() => if changed.is_err() { return } else { false },
            changed = endpoints.changed() => if changed.is_err() { return } else { false },
            changed = slices.changed() => if changed.is_err() { return } else { false },
            () = tokio::time::sleep_until(beat), if shared => true,
        };
        let Some(state) = server.upgrade() else { return };
        if state.is_stopping() {
            return;
        }
        // Another server may know of others: what it has written is right as long as this one is in it.
        if !beats && is_there(&state) {
            continue;
        }
        beat = Instant::now() + HEARTBEAT;
        let kept = async {
            bootstrap::kubernetes_service(&state).await?;
            peers.look(&state, true).await
        };
        let kept = kept.await;
        if let Err(error) = &kept {
            warn!(%error, "the endpoints of the API servers may be out of date");
        }
        // Not at once again where the store is away, or somebody else will have it otherwise.
        if kept.is_err() || !is_there(&state) {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Whether the Service exists, and leads to this server too.
fn is_there(state: &State) -> bool {
    let key = object_key("default", "kubernetes");
    let get = |(group, plural)| state.caches.resource(group, plural).get(&key).map(|object| object.value());
    let [service, endpoints, slice] = WATCHED.map(get);
    let own = state.config.advertise.to_string();
    if service.is_none() || own_is_local(state) {
        return service.is_some();
    }
    let has = |list: &Value, field: &str| items(list).any(|entry| entry[field] == own);
    let in_endpoints = endpoints.is_some_and(|endpoints| has(&endpoints["subsets"][0]["addresses"], "ip"));
    let in_slice =
        slice.is_some_and(|slice| items(&slice["endpoints"]).any(|endpoint| endpoint["addresses"][0] == own));
    in_endpoints && in_slice
}

/// Nobody else can reach such an address; pods that ask for the Service are refused at once.
fn own_is_local(state: &State) -> bool {
    state.config.advertise.is_loopback()
}

/// Takes this server out, so that nobody is sent to it any more.
pub async fn leave(state: &Arc<State>) {
    let left = async {
        state.store.delete(key(state), Expect::Anything, None).await?;
        Peers::default().look(state, false).await
    };
    match timeout(LEAVING, left).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "this server is still among the endpoints of the API servers"),
        Err(_) => {
            warn!("this server is still among the endpoints of the API servers: the store does not answer")
        }
    }
}

fn key(state: &State) -> String {
    format!("{PREFIX}{}", state.config.advertise)
}

impl Peers {
    /// Writes the own key where this server `stays`, and publishes who is there.
    async fn look(&mut self, state: &Arc<State>, stays: bool) -> Result<(), StartError> {
        if own_is_local(state) {
            return Ok(());
        }
        if !state.store.is_shared() {
            return bootstrap::publish(state, &[state.config.advertise]).await;
        }
        let store = &state.store;
        if stays {
            let port = state.config.port.to_string();
            store.put(key(state), port, Expect::Anything, None).await?;
        }
        let known = store.range(PREFIX.as_bytes(), None, usize::MAX, None).await?;
        let now = Instant::now();
        let mut seen = HashMap::new();
        let mut addresses = BTreeSet::new();
        for entry in known.entries {
            let since = match self.0.get(&entry.key) {
                Some((revision, since)) if *revision == entry.modified => *since,
                _ => now,
            };
            let address = entry.key.strip_prefix(PREFIX.as_bytes());
            let address = address.and_then(|text| std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok());
            if let Some(address) = address.filter(|_| now.duration_since(since) < GONE) {
                addresses.insert(address);
            }
            seen.insert(entry.key, (entry.modified, since));
        }
        self.0 = seen;
        bootstrap::publish(state, &addresses.into_iter().collect::<Vec<_>>()).await
    }
}
