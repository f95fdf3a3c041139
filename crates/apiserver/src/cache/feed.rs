//! What watchers of the same selection are sent, put together once for all of them.
//!
//! A thousand watchers that are woken at the same time have mostly come equally far: the first makes the bytes of what
//! has happened since, the others send them too.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use ahash::AHashMap;
use bytes::Bytes;
use parking_lot::Mutex;
use store::Revision;

/// Bytes kept for those who come a little later.
const KEPT: usize = 256 << 10;

/// Some events as they are sent, one after the other.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The revision of the first change that it covers...
    pub first: Revision,
    /// ...and of the last.
    pub last: Revision,
    pub frames: Bytes,
    /// Those that are told: none where nothing of it was of interest.
    pub events: u64,
}

/// Who is sent the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Audience {
    pub namespace: String,
    pub name: String,
    pub label_selector: String,
    pub field_selector: String,
    pub protobuf: bool,
}

/// The batches of one audience.
#[derive(Debug, Default)]
pub struct Feed(Mutex<VecDeque<Batch>>);

impl Feed {
    /// The batch that begins with the change of revision `first`; made where nobody has yet. Whoever is alone keeps
    /// nothing.
    pub fn batch<E>(
        self: &Arc<Self>,
        first: Revision,
        make: impl FnOnce() -> Result<Batch, E>,
    ) -> Result<Batch, E> {
        if Arc::strong_count(self) == 1 {
            return make();
        }
        // Held meanwhile: who wants the same waits for it rather than making it as well.
        let mut batches = self.0.lock();
        if let Some(batch) = batches.iter().rev().find(|batch| batch.first == first) {
            return Ok(batch.clone());
        }
        let batch = make()?;
        batches.push_back(batch.clone());
        let mut kept: usize = batches.iter().map(|batch| batch.frames.len()).sum();
        while kept > KEPT
            && let Some(oldest) = batches.pop_front()
        {
            kept -= oldest.frames.len();
        }
        Ok(batch)
    }
}

/// The feeds of a resource that somebody watches.
#[derive(Debug, Default)]
pub struct Feeds(Mutex<AHashMap<Audience, Weak<Feed>>>);

impl Feeds {
    /// The feed of an audience, for as long as it is held.
    pub fn join(&self, audience: Audience) -> Arc<Feed> {
        let mut feeds = self.0.lock();
        if let Some(feed) = feeds.get(&audience).and_then(Weak::upgrade) {
            return feed;
        }
        // Those that nobody holds any more go now and then, in time that new ones have paid for.
        if feeds.len() == feeds.capacity() {
            feeds.retain(|_, feed| feed.strong_count() > 0);
        }
        let feed = Arc::new(Feed::default());
        feeds.insert(audience, Arc::downgrade(&feed));
        feed
    }

    /// Whoever joins from now on shares nothing with those who are there: what they were told has nothing to do with
    /// what is there since.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: Revision, size: usize) -> Batch {
        Batch { first, last: first, frames: Bytes::from(vec![b'x'; size]), events: 1 }
    }

    fn audience(name: &str) -> Audience {
        Audience {
            namespace: String::new(),
            name: name.to_owned(),
            label_selector: String::new(),
            field_selector: String::new(),
            protobuf: false,
        }
    }

    fn made(feed: &Arc<Feed>, first: Revision, size: usize) -> bool {
        let mut made = false;
        let got: Result<Batch, ()> = feed.batch(first, || {
            made = true;
            Ok(batch(first, size))
        });
        assert_eq!(got.map(|batch| (batch.first, batch.frames.len())), Ok((first, size)));
        made
    }

    #[test]
    fn what_several_want_is_made_once() {
        let feeds = Feeds::default();
        let one = feeds.join(audience("a"));
        assert!(made(&one, 1, 10) && made(&one, 1, 10), "whoever is alone keeps nothing");
        let two = feeds.join(audience("a"));
        assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &feeds.join(audience("b"))));
        assert!(made(&one, 1, 10) && !made(&two, 1, 10));
        assert!(made(&two, 2, 10) && !made(&one, 2, 10) && !made(&one, 1, 10));
        assert!(made(&one, 3, KEPT) && made(&two, 2, 10), "old ones go");
        feeds.clear();
        assert!(!Arc::ptr_eq(&one, &feeds.join(audience("a"))));
    }

    #[test]
    fn feeds_that_nobody_holds_go() {
        let feeds = Feeds::default();
        for number in 0..10_000 {
            feeds.join(audience(&number.to_string()));
        }
        assert!(feeds.0.lock().len() < 100);
    }
}
