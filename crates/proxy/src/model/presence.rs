//! Counting how many need a thing, and telling only whether any does.

use std::collections::HashMap;
use std::hash::Hash;

pub(super) struct Presence<T> {
    counts: HashMap<T, u32>,
    /// Whether it was there at the last [`Presence::finish`], for all that were touched since.
    touched: HashMap<T, bool>,
}

impl<T> Default for Presence<T> {
    fn default() -> Self {
        Self { counts: HashMap::new(), touched: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Presence<T> {
    pub fn add(&mut self, thing: T) {
        let count = self.counts.entry(thing.clone()).or_default();
        if *count == 0 {
            self.touched.entry(thing).or_insert(false);
        }
        *count += 1;
    }

    pub fn remove(&mut self, thing: &T) {
        let Some(count) = self.counts.get_mut(thing) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(thing);
            self.touched.entry(thing.clone()).or_insert(true);
        }
    }

    pub fn replace<'a>(&mut self, old: impl IntoIterator<Item = &'a T>, new: impl IntoIterator<Item = &'a T>)
    where
        T: 'a,
    {
        new.into_iter().for_each(|thing| self.add(thing.clone()));
        old.into_iter().for_each(|thing| self.remove(thing));
    }

    /// What came and what went since the last call.
    pub fn finish(&mut self) -> (Vec<T>, Vec<T>) {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        // Taken, not drained: walking the room that a cold start needed would cost every later change.
        for (thing, was_there) in std::mem::take(&mut self.touched) {
            match (was_there, self.counts.contains_key(&thing)) {
                (false, true) => added.push(thing),
                (true, false) => removed.push(thing),
                _ => {}
            }
        }
        (added, removed)
    }

    pub fn has(&self, thing: &T) -> bool {
        self.counts.contains_key(thing)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.counts.keys()
    }
}
