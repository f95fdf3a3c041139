//! Which API servers there are: the `kubernetes` Service leads to all that share a store, and to none that is gone.
//!
//! Each server writes a key of its own again and again. One whose key has not changed for a while, by the clock of
//! whoever looks, is gone; one that stops takes its key with it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use store::{Expect, Revision};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::bootstrap;
use crate::server::StartError;
use crate::state::State;

/// Where upstream keeps them.
const PREFIX: &str = "/masterleases/";
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Several heartbeats.
const GONE: Duration = Duration::from_secs(35);
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

async fn keep(server: Weak<State>, mut peers: Peers) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let Some(state) = server.upgrade() else { return };
        if state.is_stopping() {
            return;
        }
        if let Err(error) = peers.look(&state, true).await {
            warn!(%error, "the endpoints of the API servers may be out of date");
        }
    }
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
