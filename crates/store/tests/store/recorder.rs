//! An observer that remembers what it was told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use store::{Entry, Event, Observer, Revision};

#[derive(Default)]
pub struct Told {
    /// What the observer would serve reads from.
    pub state: BTreeMap<Vec<u8>, (Vec<u8>, Revision)>,
    /// Of every change, in the order in which they came.
    pub revisions: Vec<Revision>,
    pub notes: Vec<Option<&'static str>>,
    pub loads: usize,
    pub reached: Revision,
    pub compacted: Revision,
}

#[derive(Clone, Default)]
pub struct Recorder(pub Arc<Mutex<Told>>);

impl Observer for Recorder {
    fn begin(&mut self) {
        self.0.lock().unwrap().state.clear();
    }

    fn found(&mut self, entry: Entry) {
        self.0.lock().unwrap().state.insert(entry.key.to_vec(), (entry.value.to_vec(), entry.modified));
    }

    fn loaded(&mut self, revision: Revision) {
        let mut told = self.0.lock().unwrap();
        told.loads += 1;
        told.reached = revision;
    }

    fn changed(&mut self, events: &[Event], revision: Revision) {
        let mut told = self.0.lock().unwrap();
        for event in events {
            told.revisions.push(event.revision);
            let note = event.note.clone().and_then(|note| note.downcast::<&'static str>().ok());
            told.notes.push(note.map(|note| *note));
            match &event.entry {
                Some(entry) => told.state.insert(event.key.to_vec(), (entry.value.to_vec(), entry.modified)),
                None => told.state.remove(&event.key[..]),
            };
        }
        told.reached = revision;
    }

    fn compacted(&mut self, revision: Revision) {
        self.0.lock().unwrap().compacted = revision;
    }
}

impl Recorder {
    /// Without gaps or repeats, the state that was told is the state that is there.
    pub async fn check(&self, store: &store::Store) {
        store.settle().await.unwrap();
        let range = store.range(b"/", None, usize::MAX, None).await.unwrap();
        let there: BTreeMap<_, _> = (range.entries.iter())
            .map(|entry| (entry.key.to_vec(), (entry.value.to_vec(), entry.modified)))
            .collect();
        let told = self.0.lock().unwrap();
        assert_eq!(told.state, there);
        assert!(told.revisions.is_sorted_by(|one, next| one < next), "{:?}", told.revisions);
    }
}
