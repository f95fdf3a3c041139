//! Notes of writes under way, until the watch brings the change that they belong to.
//!
//! A note describes the written bytes, so it belongs to any change of that key to those bytes.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::Note;

#[derive(Default)]
pub(crate) struct Notes(Mutex<HashMap<Bytes, Vec<(Bytes, Note)>>>);

/// A note that is there until this is dropped.
pub(crate) struct Left<'a> {
    notes: &'a Notes,
    key: Bytes,
    value: Bytes,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut notes = self.notes.0.lock();
        let Some(of_key) = notes.get_mut(&self.key) else { return };
        // One of those that say the same, if there are several.
        if let Some(index) = of_key.iter().position(|(value, _)| *value == self.value) {
            of_key.swap_remove(index);
        }
        if of_key.is_empty() {
            notes.remove(&self.key);
        }
    }
}

impl Notes {
    pub fn leave(&self, key: Bytes, value: Bytes, note: Note) -> Left<'_> {
        self.0.lock().entry(key.clone()).or_default().push((value.clone(), note));
        Left { notes: self, key, value }
    }

    /// The note about these bytes, and the bytes as the writer holds them.
    pub fn find(&self, key: &[u8], value: &[u8]) -> Option<(Bytes, Note)> {
        let notes = self.0.lock();
        notes.get(key)?.iter().find(|(written, _)| *written == value).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_note_is_found_while_it_is_left() {
        let notes = Notes::default();
        let first = notes.leave("/a".into(), "1".into(), Arc::new(1));
        let second = notes.leave("/a".into(), "1".into(), Arc::new(2));
        assert!(notes.find(b"/a", b"1").is_some());
        assert!(notes.find(b"/a", b"2").is_none());
        drop(first);
        assert!(notes.find(b"/a", b"1").is_some());
        drop(second);
        assert!(notes.0.lock().is_empty());
    }
}
