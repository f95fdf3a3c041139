//! Reading many keys, now or at a recent revision.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::store::Inner;
use crate::{Entry, Error, Revision};

/// A page of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub entries: Vec<Entry>,
    /// More follow after the last of `entries`.
    pub more: bool,
    /// The revision whose state this is.
    pub revision: Revision,
}

/// Reads the current state and undoes what has changed since `at`.
pub(crate) fn read(
    inner: &Inner,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
    at: Option<Revision>,
) -> Result<Range, Error> {
    let current = inner.log.revision();
    if let Some(requested) = at.filter(|at| *at > current) {
        return Err(Error::Future { requested, current });
    }
    let Some(at) = at else {
        return page(inner, prefix, after, limit);
    };
    let everything = page(inner, prefix, after, usize::MAX)?;
    // A commit is visible a moment before it is in the log.
    while inner.log.revision() < everything.revision {
        std::thread::yield_now();
    }
    let (events, _) = inner.log.after(at, prefix, usize::MAX)?;
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

fn page(inner: &Inner, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Range, Error> {
    let mut entries = Vec::new();
    let mut more = false;
    let revision = inner.engine.scan(prefix, after, &mut |entry| {
        if entries.len() == limit {
            more = true;
            return false;
        }
        entries.push(entry);
        true
    })?;
    Ok(Range { entries, more, revision })
}
