//! Answers of other resolvers, for as long as those allow.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::wire::Foreign;

const MAX_ENTRIES: usize = 10_000;
/// A longer answer is rare, and asking again cheaper than keeping it.
const MAX_BYTES: usize = 4096;
const MAX_TTL: Duration = Duration::from_secs(30);
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// What tells answers apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The question in lower case: name, type and class.
    pub question: Vec<u8>,
    pub tcp: bool,
    pub edns: bool,
    pub dnssec: bool,
}

struct Entry {
    packet: Vec<u8>,
    ttls_at: Vec<usize>,
    stored: Instant,
    expires: Instant,
}

#[derive(Default)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
}

impl Cache {
    /// The answer, with its times to live as they are by now. Its id is not the asker's.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(key).filter(|entry| entry.expires > now)?;
        let age = now.saturating_duration_since(entry.stored).as_secs() as u32;
        let mut packet = entry.packet.clone();
        for at in &entry.ttls_at {
            if let Some(ttl) = packet.get_mut(*at..at + 4) {
                let left = u32::from_be_bytes([ttl[0], ttl[1], ttl[2], ttl[3]]).saturating_sub(age);
                ttl.copy_from_slice(&left.to_be_bytes());
            }
        }
        Some(packet)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Keeps an answer, if it may be kept.
    pub fn put(&mut self, key: Key, packet: &[u8], foreign: &Foreign, now: Instant) {
        let failed =
            foreign.code != crate::wire::code::NO_ERROR && foreign.code != crate::wire::code::NO_SUCH_NAME;
        let ttl = if failed {
            FAILURE_TTL
        } else {
            Duration::from_secs(u64::from(foreign.ttl.unwrap_or(0))).min(MAX_TTL)
        };
        if ttl.is_zero() || packet.len() > MAX_BYTES || foreign.truncated {
            return;
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.retain(|_, entry| entry.expires > now);
            if self.entries.len() >= MAX_ENTRIES {
                // Full of what is current: begin anew rather than search for the oldest each time.
                self.entries.clear();
            }
        }
        let entry = Entry {
            packet: packet.to_vec(),
            ttls_at: foreign.ttls_at.clone(),
            stored: now,
            expires: now + ttl,
        };
        self.entries.insert(key, entry);
    }
}
