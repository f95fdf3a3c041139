//! Which nodes have changed, in order. It is short: who has not looked for long starts anew.

use std::collections::VecDeque;

use super::Slot;

/// Entries beyond this many per node are forgotten: looking at all nodes is cheaper then.
const PER_NODE: usize = 4;
const LEAST: usize = 1024;

#[derive(Debug, Default)]
pub struct Log {
    changed: VecDeque<u32>,
    /// How many changes there have ever been.
    version: u64,
    limit: usize,
}

/// What has changed since a version.
pub enum Missed<'a> {
    Some(Box<dyn Iterator<Item = Slot> + 'a>),
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
    pub(super) fn push(&mut self, slot: Slot) -> u64 {
        if self.changed.len() >= self.limit.max(LEAST) {
            self.changed.pop_front();
        }
        self.changed.push_back(u32::try_from(slot).unwrap_or(u32::MAX));
        self.version += 1;
        self.version
    }

    pub fn since(&self, version: u64) -> Missed<'_> {
        let missed = self.version.saturating_sub(version);
        match usize::try_from(missed) {
            Ok(missed) if missed <= self.changed.len() => {
                let from = self.changed.len() - missed;
                Missed::Some(Box::new(self.changed.range(from..).map(|slot| *slot as Slot)))
            }
            _ => Missed::Everything,
        }
    }
}
