//! Which nodes have changed, in order. It is short: who has not looked for long starts anew.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Slot;
use crate::pod::PodInfo;

/// Entries beyond this many per node are forgotten: looking at all nodes is cheaper then.
const PER_NODE: usize = 4;
const LEAST: usize = 1024;

/// What has changed about a node.
#[derive(Clone, Debug)]
pub enum Changed {
    /// The node itself.
    Node,
    PodAdded(Arc<PodInfo>),
    PodRemoved(Arc<PodInfo>),
}

#[derive(Debug, Default)]
pub struct Log {
    changed: VecDeque<(u32, Changed)>,
    /// How many changes there have ever been.
    version: u64,
    limit: usize,
}

/// What has changed since a version.
pub enum Missed<'a> {
    /// Each with the version after it.
    Some(Box<dyn Iterator<Item = (u64, Slot, &'a Changed)> + 'a>),
    /// More than is remembered.
    Everything,
}

impl Log {
    pub fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn grow(&mut self, nodes: usize) {
        self.limit = nodes.saturating_mul(PER_NODE).max(LEAST);
    }

    /// Notes a change; the version after it.
    pub(super) fn push(&mut self, slot: Slot, changed: Changed) -> u64 {
        if self.changed.len() >= self.limit.max(LEAST) {
            self.changed.pop_front();
        }
        self.changed.push_back((u32::try_from(slot).unwrap_or(u32::MAX), changed));
        self.version += 1;
        self.version
    }

    pub fn since(&self, version: u64) -> Missed<'_> {
        let missed = self.version.saturating_sub(version);
        match usize::try_from(missed) {
            Ok(missed) if missed <= self.changed.len() => {
                let from = self.changed.len() - missed;
                let entries = self.changed.range(from..).zip(version + 1..);
                Missed::Some(Box::new(
                    entries.map(|((slot, changed), version)| (version, *slot as Slot, changed)),
                ))
            }
            _ => Missed::Everything,
        }
    }
}
