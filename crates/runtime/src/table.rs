//! The sandboxes or containers of this node, by id and by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Error, Result};

pub struct Table<T> {
    /// For messages: "sandbox", "container".
    kind: &'static str,
    entries: Mutex<Entries<T>>,
}

struct Entries<T> {
    by_id: BTreeMap<String, Arc<T>>,
    /// Names are taken before the object is made, so that of two requests for the same one fails.
    id_of_name: HashMap<String, String>,
}

impl<T> Table<T> {
    pub fn new(kind: &'static str) -> Self {
        Self { kind, entries: Mutex::new(Entries { by_id: BTreeMap::new(), id_of_name: HashMap::new() }) }
    }

    /// By id, or by the beginning of an id that only one object has.
    pub fn get(&self, id: &str) -> Result<Arc<T>> {
        let entries = self.entries.lock();
        if let Some(found) = entries.by_id.get(id) {
            return Ok(found.clone());
        }
        if id.is_empty() {
            return Err(Error::InvalidArgument(format!("{} id is empty", self.kind)));
        }
        let mut matching = entries.by_id.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
        match (matching.next(), matching.next()) {
            (Some((_, found)), None) => Ok(found.clone()),
            (Some(_), Some(_)) => {
                Err(Error::InvalidArgument(format!("{} id {id:?} is ambiguous", self.kind)))
            }
            (None, _) => Err(Error::not_found(self.kind, id)),
        }
    }

    pub fn list(&self) -> Vec<Arc<T>> {
        self.entries.lock().by_id.values().cloned().collect()
    }

    pub fn reserve(&self, name: &str, id: &str) -> Result<()> {
        let mut entries = self.entries.lock();
        if let Some(holder) = entries.id_of_name.get(name) {
            return Err(Error::AlreadyExists(format!(
                "{} name {name:?} is reserved for {holder:?}",
                self.kind
            )));
        }
        entries.id_of_name.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    pub fn insert(&self, id: &str, object: Arc<T>) {
        self.entries.lock().by_id.insert(id.to_owned(), object);
    }

    /// Forgets an id and the names reserved for it.
    pub fn remove(&self, id: &str) {
        let mut entries = self.entries.lock();
        entries.by_id.remove(id);
        entries.id_of_name.retain(|_, holder| holder != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(table: &Table<u8>, id: &str, expected: Option<u8>) {
        assert_eq!(table.get(id).ok().map(|v| *v), expected, "{id}");
    }

    #[test]
    fn ids_and_their_beginnings() {
        let table = Table::new("container");
        table.insert("abc1", Arc::new(1));
        table.insert("abd2", Arc::new(2));
        for (id, expected) in
            [("abc1", Some(1)), ("abc", Some(1)), ("abd", Some(2)), ("ab", None), ("x", None), ("", None)]
        {
            check(&table, id, expected);
        }
        table.remove("abc1");
        check(&table, "ab", Some(2));
    }

    #[test]
    fn a_name_is_taken_once_until_removed() {
        let table = Table::<u8>::new("sandbox");
        assert!(table.reserve("n", "1").is_ok());
        assert!(matches!(table.reserve("n", "2"), Err(Error::AlreadyExists(_))));
        table.remove("1");
        assert!(table.reserve("n", "2").is_ok());
    }
}
