//! What can go wrong with the store.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Entry, Revision};

/// A write that did not happen, or a read that cannot be answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the store at {path}: {source}")]
    Open { path: PathBuf, source: Arc<redb::Error> },
    #[error("cannot {operation}: {source}")]
    Engine { operation: &'static str, source: Arc<redb::Error> },
    #[error("cannot start the store's writer thread: {0}")]
    Thread(Arc<std::io::Error>),
    #[error("the store holds a damaged entry at key {key:?}; restore it from a snapshot")]
    Damaged { key: String },
    /// The key is not in the state that the writer expected.
    #[error("the key is not in the expected state")]
    Conflict { current: Option<Box<Entry>> },
    /// That revision's state is no longer known.
    #[error("revision {requested} has been compacted; the oldest known is {oldest}")]
    Compacted { requested: Revision, oldest: Revision },
    /// That revision has not happened yet.
    #[error("revision {requested} is in the future; the current one is {current}")]
    Future { requested: Revision, current: Revision },
    #[error("the store is closed")]
    Closed,
}

impl Error {
    pub(crate) fn engine(operation: &'static str) -> impl Fn(redb::Error) -> Self {
        move |source| Self::Engine { operation, source: Arc::new(source) }
    }
}
