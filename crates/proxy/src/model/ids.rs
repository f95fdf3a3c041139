//! Numbers of backend sets.

use std::collections::HashSet;
use std::net::SocketAddr;

use super::{Hints, ID_MASK};
use crate::class::View;
use crate::render::Frontend;

/// Gives out ids from 1 on (0 means no backend set). Freed ids are given out again, so they stay small.
#[derive(Default)]
pub(super) struct Ids {
    pub hints: Hints,
    used: HashSet<u32>,
    last: u32,
    free: Vec<u32>,
    /// Freed since the last transaction: they rest until it is over.
    freed: Vec<u32>,
}

impl Ids {
    /// An id for a set to which `places` lead, and the slots that the kernel has under it. 0 when there are too many.
    pub fn allocate(&mut self, mut places: impl Iterator<Item = (View, Frontend)>) -> (u32, Vec<SocketAddr>) {
        let hint = places.find_map(|place| {
            let id = *self.hints.ids.get(&place)?;
            (id != 0 && !self.used.contains(&id)).then_some(id)
        });
        let Some(id) = hint.or_else(|| self.next()) else {
            tracing::error!(limit = ID_MASK, "too many sets of endpoints: rejecting");
            return (0, Vec::new());
        };
        self.used.insert(id);
        (id, self.hints.slots.remove(&id).unwrap_or_default())
    }

    fn next(&mut self) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            return Some(id);
        }
        while self.last < ID_MASK {
            self.last += 1;
            if !self.used.contains(&self.last) && !self.hints.slots.contains_key(&self.last) {
                return Some(self.last);
            }
        }
        None
    }

    pub fn free(&mut self, id: u32) {
        if self.used.remove(&id) {
            self.freed.push(id);
        }
    }

    /// The transaction is over, and with it what hints are good for.
    pub fn recycle(&mut self) {
        self.free.append(&mut self.freed);
        self.hints = Hints::default();
    }
}
