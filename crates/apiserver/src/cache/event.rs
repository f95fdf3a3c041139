//! One change of one object, shared by everyone who watches it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use store::Revision;

use super::object::Object;

/// What a watcher is told has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// An event of the log of one resource.
#[derive(Debug)]
pub struct Event {
    pub change: Change,
    pub revision: Revision,
    /// The new state; for a deletion the last one, at the revision of the deletion.
    pub object: Arc<Object>,
    pub previous: Option<Arc<Object>>,
    /// None when they are not kept any more.
    frames: Mutex<Option<Frames>>,
}

/// An event as watchers are sent it. While it is new, they share one: many are told of it at once.
#[derive(Debug, Default)]
struct Frames {
    json: Option<Bytes>,
    protobuf: Option<Bytes>,
}

impl Event {
    pub fn new(change: Change, object: Arc<Object>, previous: Option<Arc<Object>>) -> Self {
        Self {
            change,
            revision: object.revision,
            object,
            previous,
            frames: Mutex::new(Some(Frames::default())),
        }
    }

    /// The line of a JSON watch.
    pub fn frame(&self) -> Bytes {
        let make = || json_frame(self.change.as_str(), self.object.bytes());
        match &mut *self.frames.lock() {
            Some(frames) => frames.json.get_or_insert_with(make).clone(),
            None => make(),
        }
    }

    /// The frame of a protobuf watch, as `make` makes it.
    pub fn protobuf_frame<E>(&self, make: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        match &mut *self.frames.lock() {
            Some(Frames { protobuf: Some(frame), .. }) => Ok(frame.clone()),
            Some(frames) => Ok(frames.protobuf.insert(make()?).clone()),
            None => make(),
        }
    }

    /// Keeps no frames from now on: nearly everyone has been told, and they are as large as the object.
    pub fn forget_frames(&self) {
        *self.frames.lock() = None;
    }

    /// Bytes that are kept alive by this event alone, roughly.
    pub fn weight(&self) -> usize {
        self.object.bytes().len() + 256
    }
}

/// `{"type":...,"object":...}` and a newline.
pub fn json_frame(kind: &str, object: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(object.len() + kind.len() + 24);
    frame.put_slice(b"{\"type\":\"");
    frame.put_slice(kind.as_bytes());
    frame.put_slice(b"\",\"object\":");
    frame.put_slice(object);
    frame.put_slice(b"}\n");
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::Encoded;
    use super::*;

    #[test]
    fn watchers_share_a_frame_while_it_is_kept() {
        let encoded = Encoded::of(&json!({"metadata": {"name": "a"}}), &[]).unwrap();
        let object = Object::new("a".into(), 7, &encoded);
        let event = Event::new(Change::Added, Arc::new(object), None);
        let first = event.frame();
        assert_eq!(first.as_ptr(), event.frame().as_ptr());
        event.forget_frames();
        assert_ne!(first.as_ptr(), event.frame().as_ptr());
        assert_eq!(first, event.frame());
    }
}
