//! Writes whose answer got lost: was it carried out?
//!
//! A write that is tried again at another member finds the key changed if the first attempt was carried out, by itself
//! or, since, by others. To call that a conflict would have the writer do it twice. So the history of the key is read
//! back to the state that the write expected; what was written is unique enough to be recognized in it.

use std::time::Duration;

use etcd_client::GetOptions;

use super::entries::entry;
use super::{Shared, revision_of};
use crate::embedded::Write;
use crate::{Entry, Error, Expect, Revision};

/// Others do not write more often than this to one key while an answer is awaited.
const STEPS: usize = 64;

/// The revision at which the write was carried out, if it was. `current` is the state of the key that kept the last
/// attempt from succeeding.
pub(super) async fn find(
    shared: &Shared,
    key: &[u8],
    write: &Write,
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
        if entry.value == *value {
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
