//! Numbers for things that are alike.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// Gives equal things one number for as long as somebody uses them; numbers begin at 1 and are given again.
pub(super) struct Interner<T> {
    numbers: HashMap<Arc<T>, u32>,
    things: HashMap<u32, (Arc<T>, usize)>,
    free: Vec<u32>,
    last: u32,
    /// First used since the last [`Interner::finish`].
    fresh: Vec<u32>,
    /// Perhaps not used any more.
    idle: Vec<u32>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            things: HashMap::new(),
            free: Vec::new(),
            last: 0,
            fresh: Vec::new(),
            idle: Vec::new(),
        }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// The number of a thing, with one more user.
    pub fn take(&mut self, thing: T) -> u32 {
        if let Some(number) = self.numbers.get(&thing).copied() {
            if let Some((_, users)) = self.things.get_mut(&number) {
                *users += 1;
            }
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.last += 1;
            self.last
        });
        let thing = Arc::new(thing);
        self.numbers.insert(thing.clone(), number);
        self.things.insert(number, (thing, 1));
        self.fresh.push(number);
        number
    }

    /// One user less.
    pub fn give_back(&mut self, number: u32) {
        if let Some((_, users)) = self.things.get_mut(&number) {
            *users -= 1;
            if *users == 0 {
                self.idle.push(number);
            }
        }
    }

    /// The number of a thing that somebody uses.
    pub fn number(&self, thing: &T) -> Option<u32> {
        self.numbers.get(thing).copied()
    }

    pub fn get(&self, number: u32) -> Option<&Arc<T>> {
        self.things.get(&number).map(|(thing, _)| thing)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Arc<T>)> {
        self.things.iter().map(|(number, (thing, _))| (*number, thing))
    }

    pub fn iter_used(&self) -> impl Iterator<Item = (u32, &Arc<T>)> {
        self.things.iter().filter(|(_, (_, users))| *users > 0).map(|(number, (thing, _))| (*number, thing))
    }

    /// What came since the last call, and what nobody uses any more, which is forgotten now. What came and went is in
    /// neither.
    pub fn finish(&mut self) -> (Vec<u32>, Vec<(u32, Arc<T>)>) {
        let mut gone = Vec::new();
        for number in std::mem::take(&mut self.idle) {
            if self.things.get(&number).is_some_and(|(_, users)| *users == 0)
                && let Some((thing, _)) = self.things.remove(&number)
            {
                self.numbers.remove(&thing);
                self.free.push(number);
                gone.push((number, thing));
            }
        }
        let fresh = std::mem::take(&mut self.fresh);
        let never_there = |number: &u32| fresh.contains(number);
        gone.retain(|(number, _)| !never_there(number));
        let fresh = fresh.iter().copied().filter(|number| self.things.contains_key(number)).collect();
        (fresh, gone)
    }
}
