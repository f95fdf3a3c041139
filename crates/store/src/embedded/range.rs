//! Reading many keys, now or at a recent revision.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Scanned, Shared};
use crate::{Entry, Error, Range, Revision};

/// Reads the current state and undoes what has changed since `at`.
pub(crate) fn read(
    shared: &Shared,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
    at: Option<Revision>,
) -> Result<Range, Error> {
    let current = shared.feed.log.revision();
    if let Some(requested) = at.filter(|at| *at > current) {
        return Err(Error::Future { requested, current });
    }
    let Some(at) = at else {
        return page(shared, prefix, after, limit);
    };
    let everything = page(shared, prefix, after, usize::MAX)?;
    // A commit is visible a moment before it is in the log.
    while shared.feed.log.revision() < everything.revision {
        std::thread::yield_now();
    }
    let (events, _) = shared.feed.log.after(at, prefix, usize::MAX)?;
    let mut state: BTreeMap<Bytes, Entry> =
        everything.entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    for event in events.into_iter().rev().filter(|event| after.is_none_or(|after| *event.key > *after)) {
        match event.previous {
            Some(previous) => state.insert(event.key, previous),
            None => state.remove(&event.key),
        };
    }
    let more = state.len() > limit;
    let entries = state.into_values().take(limit).collect();
    Ok(Range { entries, more, revision: at })
}

fn page(shared: &Shared, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Range, Error> {
    let mut page = Range { entries: Vec::new(), more: false, revision: 0 };
    shared.engine.scan(prefix, after, &mut |scanned| {
        match scanned {
            Scanned::State(revision) => page.revision = revision,
            Scanned::Entry(_) if page.entries.len() == limit => page.more = true,
            Scanned::Entry(entry) => page.entries.push(entry),
        }
        !page.more
    })?;
    Ok(page)
}
