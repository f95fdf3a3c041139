//! The embedded store forgets old history every few minutes, as upstream's API server has etcd do: so much is kept and no
//! more, and a list of an old state ends for clients of either store alike. (etcd's own is the business of its store.)

use std::sync::Weak;
use std::time::Duration;

use tracing::warn;

use crate::state::State;

/// As upstream's `--etcd-compaction-interval`.
const INTERVAL: Duration = Duration::from_secs(300);

/// Runs as long as the server does: what was there an interval ago is the oldest that is kept.
pub async fn run(server: Weak<State>) {
    let mut before = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(state) = server.upgrade() else {
            return;
        };
        let now = state.store.revision();
        if let Some(revision) = before.replace(now)
            && let Err(error) = state.store.compact(revision).await
        {
            warn!(%error, "old history was not forgotten");
        }
    }
}
