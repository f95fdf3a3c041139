//! Writes whose answer got lost: was it carried out?
//!
//! A write that is tried again at another member finds the key changed if the first attempt was carried out, by itself
//! or, since, by others. To call that a conflict would have the writer do it twice; to go by the bytes alone would tell
//! two who write the same that both did. So each such write leaves a mark that no other has, in the same transaction,
//! and the history of the key is read back to the state that the write expected.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::GetOptions;

use super::entries::entry;
use super::{Shared, revision_of};
use crate::embedded::Write;
use crate::{Entry, Error, Expect, Revision};

/// Others do not write more often than this to one key while an answer is awaited.
const STEPS: usize = 64;

/// What the writes of this process leave behind: all at one key, each in its own revision of it.
pub(super) struct Marks {
    process: [u64; 2],
    count: AtomicU64,
}

impl Default for Marks {
    fn default() -> Self {
        // Its keys are random, and so are no two processes the same.
        let random = RandomState::new();
        Self { process: [random.hash_one(0), random.hash_one(1)], count: AtomicU64::new(0) }
    }
}

impl Marks {
    /// One that no other write has.
    pub fn next(&self) -> Vec<u8> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        self.process.iter().chain([&count]).flat_map(|part| part.to_be_bytes()).collect()
    }
}

/// The revision at which the write was carried out, if it was. `current` is the state of the key that kept the last
/// attempt from succeeding.
pub(super) async fn find(
    shared: &Shared,
    key: &[u8],
    write: &Write,
    mark: &[u8],
    current: Option<Entry>,
) -> Result<Option<Revision>, Error> {
    let expected = match write.expect {
        Expect::Revision(revision) => revision,
        Expect::Absent | Expect::Anything => 0,
    };
    let Some(value) = &write.value else {
        // Gone, and perhaps made anew since: whoever did that, it is what was asked for.
        return Ok(match current {
            None => Some(shared.feed.log.revision()),
            Some(entry) => (entry.created > expected).then_some(entry.created),
        });
    };
    let Some(mut entry) = current else {
        return Err(unknown(shared));
    };
    for _ in 0..STEPS {
        if entry.value == *value && is_marked(shared, entry.modified, mark).await? {
            return Ok(Some(entry.modified));
        }
        if entry.modified <= expected || entry.modified == entry.created {
            return Ok(None);
        }
        match before(shared, key, &entry).await? {
            Some(earlier) => entry = earlier,
            None => return Err(unknown(shared)),
        }
    }
    Err(unknown(shared))
}

/// Whether the mark was left by what happened at that revision.
async fn is_marked(shared: &Shared, revision: Revision, mark: &[u8]) -> Result<bool, Error> {
    let options = GetOptions::new().with_revision(revision_of(revision));
    let answered = shared.members.call("read", |member| {
        let (mut kv, key, options) = (member.kv.clone(), shared.root.mark(), options.clone());
        async move { kv.get(key, Some(options)).await }
    });
    let answered = answered.await?;
    let left = answered.value.kvs().first();
    Ok(left.is_some_and(|left| left.mod_revision() == revision_of(revision) && left.value() == mark))
}

/// The state of the key before this one.
async fn before(shared: &Shared, key: &[u8], later: &Entry) -> Result<Option<Entry>, Error> {
    let options = GetOptions::new().with_revision(revision_of(later.modified - 1));
    let answered = shared.members.call("read", |member| {
        let (mut kv, key, options) = (member.kv.clone(), key.to_vec(), options.clone());
        async move { kv.get(key, Some(options)).await }
    });
    Ok(answered.await?.value.kvs().first().and_then(|kv| entry(&shared.root, kv)))
}

fn unknown(shared: &Shared) -> Error {
    let reason = "its answer got lost, and others have written since".to_owned();
    shared.members.unavailable("tell whether it did write", Duration::ZERO, reason)
}
