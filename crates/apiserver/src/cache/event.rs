//! One change of one object, shared by everyone who watches it.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
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
    frame: OnceLock<Bytes>,
    protobuf_frame: OnceLock<Bytes>,
}

impl Event {
    pub fn new(change: Change, object: Arc<Object>, previous: Option<Arc<Object>>) -> Self {
        Self {
            change,
            revision: object.revision,
            object,
            previous,
            frame: OnceLock::new(),
            protobuf_frame: OnceLock::new(),
        }
    }

    /// The line of a JSON watch, encoded once.
    pub fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| json_frame(self.change.as_str(), self.object.bytes())).clone()
    }

    /// The frame of a protobuf watch, made by `make` once.
    pub fn protobuf_frame<E>(&self, make: impl FnOnce() -> Result<Bytes, E>) -> Result<Bytes, E> {
        if let Some(frame) = self.protobuf_frame.get() {
            return Ok(frame.clone());
        }
        let frame = make()?;
        Ok(self.protobuf_frame.get_or_init(|| frame).clone())
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
