//! Events do not live for ever: each is removed an hour after it was last written.
//!
//! Every event lives equally long, so those that are next to go are always at the front of one queue, which follows
//! the cache. Between two of them nothing runs.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use store::{Expect, Revision};
use tokio::time::Instant;
use tracing::warn;

use crate::cache::event::Change;
use crate::cache::object::Key;
use crate::cache::store_key;
use crate::state::State;

/// As upstream's `--event-ttl`.
const LIFETIME: Duration = Duration::from_secs(3600);
const PLURAL: &str = "events";
/// Changes read, and removals sent, at a time.
const BATCH: usize = 256;

struct Due {
    at: Instant,
    key: Key,
    revision: Revision,
}

/// Runs as long as the server does.
pub async fn run(server: Weak<State>) {
    let Some(state) = server.upgrade() else {
        return;
    };
    let cache = state.caches.resource("", PLURAL);
    drop(state);
    let mut changes = cache.changes();
    let mut queue: VecDeque<Due> = VecDeque::new();
    let mut reached = cache.scan("", "", |object| {
        queue.push_back(Due {
            at: Instant::now() + LIFETIME,
            key: object.key.clone(),
            revision: object.revision,
        });
        true
    });
    loop {
        changes.mark_unchanged();
        match cache.events_after(reached, BATCH) {
            Ok(events) if !events.is_empty() => {
                for event in events {
                    reached = event.revision;
                    if event.change != Change::Deleted {
                        let (key, revision) = (event.object.key.clone(), event.revision);
                        queue.push_back(Due { at: Instant::now() + LIFETIME, key, revision });
                    }
                }
                continue;
            }
            Ok(_) => {}
            // More changes than the log holds while this task did not run: what was missed stays until it is written
            // again or the server starts again.
            Err(too_old) => {
                reached = too_old.oldest;
                continue;
            }
        }
        let next = queue.front().map(|due| due.at);
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = sleep_until(next) => {
                let Some(state) = server.upgrade() else {
                    return;
                };
                remove_due(&state, &mut queue).await;
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn remove_due(state: &Arc<State>, queue: &mut VecDeque<Due>) {
    let now = Instant::now();
    let mut removals = Vec::new();
    while removals.len() < BATCH && queue.front().is_some_and(|due| due.at <= now) {
        if let Some(due) = queue.pop_front() {
            // One that has been written since is further back in the queue, and stays.
            let key = store_key("", PLURAL, &due.key);
            removals.push(state.store.delete(key, Expect::Revision(due.revision), None));
        }
    }
    for removed in futures::future::join_all(removals).await {
        match removed {
            Ok(_) | Err(store::Error::Conflict { .. }) => {}
            Err(error) => warn!(%error, "an old event was not removed"),
        }
    }
}
