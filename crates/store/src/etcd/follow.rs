//! The one watch of this process: brings every change of the cluster, in order, without gaps or repeats.
//!
//! It goes on at another member, after the last revision that was told, when its member fails, loses the others or
//! stalls. Only where that revision has been compacted meanwhile, or the cluster has been set back to an older one, is
//! everything loaded again.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{WatchOptions, WatchResponse};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::entries::entry;
use super::{BEHIND, Shared, members};
use crate::{Entry, Event, Revision};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a watch has ended.
enum Ended {
    /// The next member may do better.
    Failed(String),
    /// What has happened since is not known any more.
    Compacted,
    /// The cluster is at an older revision than what it has told before.
    SetBack(Revision),
}

pub(super) async fn run(shared: Arc<Shared>) {
    let mut member = shared.members.preferred();
    let mut pause = FIRST_PAUSE;
    loop {
        let before = shared.feed.log.revision();
        let reason = match follow(&shared, member).await {
            Ended::Failed(reason) => reason,
            Ended::Compacted => {
                warn!(revision = before, "changes of etcd were missed: loading everything again");
                reload(&shared).await
            }
            Ended::SetBack(now) => {
                error!(
                    before,
                    now, "etcd has lost revisions, as by a restored backup: loading everything again"
                );
                reload(&shared).await
            }
        };
        if shared.feed.log.revision() > before {
            pause = FIRST_PAUSE;
        }
        debug!(reason, "watching etcd at the next member");
        member = member.wrapping_add(1);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn follow(shared: &Shared, member: usize) -> Ended {
    let Some(member) = shared.members.get(member) else {
        return Ended::Failed("there is no member".to_owned());
    };
    let failed = |why: &str| Ended::Failed(format!("{}: {why}", member.url));
    let reached = shared.feed.log.revision();
    match timeout(members::ATTEMPT, members::revision(member)).await {
        Ok(Ok(now)) if now < reached => return Ended::SetBack(now),
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return failed(&error.to_string()),
        Err(_) => return failed("no answer"),
    }
    let options = WatchOptions::new()
        .with_all_keys()
        .with_prev_key()
        .with_start_revision(super::revision_of(reached.saturating_add(1)));
    let mut client = member.watch.clone();
    let mut stream = match timeout(members::ATTEMPT, client.watch([], Some(options))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return failed(&error.to_string()),
        Err(_) => return failed("no answer"),
    };
    debug!(member = member.url, revision = reached, "watching etcd");
    let mut last = Instant::now();
    loop {
        tokio::select! {
            message = stream.message() => match message {
                Ok(Some(response)) if response.canceled() => {
                    return match response.compact_revision() {
                        0 => failed(response.cancel_reason()),
                        _ => Ended::Compacted,
                    };
                }
                Ok(Some(response)) => {
                    last = Instant::now();
                    tell(shared, &response);
                }
                Ok(None) => return failed("the watch has ended"),
                Err(error) => return failed(&error.to_string()),
            },
            () = shared.stalled.notified() => {
                if last.elapsed() >= BEHIND {
                    warn!(member = member.url, "this member of etcd does not tell what has happened");
                    return failed("stalled");
                }
            }
        }
    }
}

fn tell(shared: &Shared, response: &WatchResponse) {
    let told = shared.feed.log.revision();
    let mut reached = told;
    let mut events = Vec::new();
    for event in response.events() {
        let Some(kv) = event.kv() else { continue };
        let revision = kv.mod_revision() as Revision;
        if revision <= told {
            continue;
        }
        reached = revision;
        let Some(now) = entry(&shared.root, kv) else { continue };
        let previous = event.prev_kv().and_then(|kv| entry(&shared.root, kv));
        let key = now.key.clone();
        // What was deleted has no version any more.
        let (entry, note) = match kv.version() {
            0 => (None, None),
            _ => match shared.notes.find(&key, &now.value) {
                Some((value, note)) => (Some(Entry { value, ..now }), Some(note)),
                None => (Some(now), None),
            },
        };
        events.push(Event { revision, key, entry, previous, note });
    }
    if reached > told {
        shared.feed.publish(events, reached);
    }
}

/// Loads everything; says why where that failed, to be tried again.
async fn reload(shared: &Shared) -> String {
    let mut entries = Vec::new();
    match shared.load(&[], &mut |entry| entries.push(entry)).await {
        Ok(revision) => {
            shared.feed.reload(&entries, revision);
            info!(revision, entries = entries.len(), "loaded everything from etcd again");
            "loaded".to_owned()
        }
        Err(error) => {
            warn!(%error, "cannot load from etcd");
            error.to_string()
        }
    }
}
