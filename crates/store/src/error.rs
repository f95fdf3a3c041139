//! What can go wrong with the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    #[error("cannot use {path} for connections to etcd: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("{server:?} cannot be used as an etcd server: {reason}; it should look like https://host:2379")]
    Server { server: String, reason: String },
    /// etcd has answered, with a refusal.
    #[error("etcd refused to {operation}: {reason}")]
    Refused { operation: &'static str, reason: String },
    /// Nobody has answered in time. A write may have happened.
    #[error("no etcd server of {servers} could {operation} within {waited:?}: {reason}")]
    Unavailable { operation: &'static str, servers: String, waited: Duration, reason: String },
    /// Not something this engine does itself.
    #[error("the store is etcd: {remedy}")]
    Elsewhere { remedy: &'static str },
    #[error("another snapshot or defragmentation is under way; try again when it has ended")]
    Busy,
    #[error("cannot {operation} the snapshot: {source}")]
    Snapshot { operation: &'static str, source: Arc<std::io::Error> },
    #[error("the snapshot is damaged: {0}")]
    SnapshotDamaged(&'static str),
    #[error("{path} exists already; a snapshot is restored only where no store is")]
    Exists { path: PathBuf },
}

impl Error {
    pub(crate) fn engine<E: Into<redb::Error>>(operation: &'static str) -> impl Fn(E) -> Self {
        move |source| Self::Engine { operation, source: Arc::new(source.into()) }
    }

    pub(crate) fn snapshot(operation: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Snapshot { operation, source: Arc::new(source) }
    }
}
