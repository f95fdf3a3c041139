//! The file: one redb table, one fsync per batch.
//!
//! A value is prefixed with the revisions that created and last changed its key. The revision of the store sits in
//! the same table, under a key that no caller's key can equal, so that a commit touches one tree.

use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::RwLock;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{Applied, Write};
use crate::{Entry, Error, Event, Expect, Revision, Written};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("kv");
/// Callers' keys are not empty.
const REVISION_KEY: &[u8] = &[];
const HEADER: usize = 16;

pub(crate) struct RedbEngine {
    /// Locked for writing only while the file is rearranged.
    database: RwLock<Database>,
    path: Option<PathBuf>,
}

/// What a scan comes upon.
pub(crate) enum Scanned {
    /// First: the revision of the state that is scanned.
    State(Revision),
    Entry(Entry),
}

/// How a file is used.
pub(crate) struct Layout {
    pub keys: u64,
    /// Bytes of the entries themselves.
    pub stored: u64,
    /// Bytes of the file that hold something.
    pub allocated: u64,
}

impl RedbEngine {
    pub fn open(path: &Path, cache_bytes: usize) -> Result<Self, Error> {
        let opened = || -> Result<Database, redb::Error> {
            let database = Database::builder().set_cache_size(cache_bytes).create(path)?;
            Self::prepare(&database)?;
            Ok(database)
        };
        let database =
            opened().map_err(|source| Error::Open { path: path.to_owned(), source: source.into() })?;
        Ok(Self { database: RwLock::new(database), path: Some(path.to_owned()) })
    }

    /// Keeps everything in memory: for tests and throw-away clusters.
    pub fn in_memory() -> Result<Self, Error> {
        let opened = || -> Result<Database, redb::Error> {
            let backend = redb::backends::InMemoryBackend::new();
            let database = Database::builder().create_with_backend(backend)?;
            Self::prepare(&database)?;
            Ok(database)
        };
        let database = opened().map_err(Error::engine("make a store in memory"))?;
        Ok(Self { database: RwLock::new(database), path: None })
    }

    fn prepare(database: &Database) -> Result<(), redb::Error> {
        let txn = database.begin_write()?;
        txn.open_table(TABLE)?;
        txn.commit()?;
        Ok(())
    }

    pub fn apply(&self, writes: Vec<Write>, revision: Revision) -> Result<Applied, Error> {
        let mut applied = Applied {
            answers: Vec::with_capacity(writes.len()),
            events: Vec::with_capacity(writes.len()),
            revision,
        };
        self.try_apply(writes, &mut applied).map_err(Error::engine("commit to the store"))?;
        Ok(applied)
    }

    fn try_apply(&self, writes: Vec<Write>, applied: &mut Applied) -> Result<(), redb::Error> {
        let database = self.database.read();
        let txn = database.begin_write()?;
        {
            let mut table = txn.open_table(TABLE)?;
            let mut buffer = Vec::new();
            for write in writes {
                let previous = match table.get(&*write.key)? {
                    Some(stored) => match decode(write.key.clone(), stored.value()) {
                        Ok(entry) => Some(entry),
                        Err(error) => {
                            applied.answers.push(Err(error));
                            continue;
                        }
                    },
                    None => None,
                };
                let holds = match (write.expect, &previous) {
                    (Expect::Anything, _) => true,
                    (Expect::Absent, previous) => previous.is_none(),
                    (Expect::Revision(expected), Some(entry)) => entry.modified == expected,
                    (Expect::Revision(_), None) => false,
                };
                if !holds {
                    let current = previous.map(Box::new);
                    applied.answers.push(Err(Error::Conflict { current }));
                    continue;
                }
                let entry = match (write.value, &previous) {
                    (Some(value), previous) => {
                        applied.revision += 1;
                        let created = previous.as_ref().map_or(applied.revision, |p| p.created);
                        encode(&mut buffer, created, applied.revision, &value);
                        table.insert(&*write.key, &*buffer)?;
                        Some(Entry { key: write.key.clone(), value, created, modified: applied.revision })
                    }
                    (None, Some(_)) => {
                        applied.revision += 1;
                        table.remove(&*write.key)?;
                        None
                    }
                    (None, None) => {
                        let revision = applied.revision;
                        applied.answers.push(Ok(Written { revision, previous: None }));
                        continue;
                    }
                };
                applied.answers.push(Ok(Written { revision: applied.revision, previous: previous.clone() }));
                applied.events.push(Event {
                    revision: applied.revision,
                    key: write.key,
                    entry,
                    previous,
                    note: write.note,
                });
            }
            if !applied.events.is_empty() {
                table.insert(REVISION_KEY, &applied.revision.to_be_bytes()[..])?;
            }
        }
        if applied.events.is_empty() {
            txn.abort()?;
        } else {
            txn.commit()?;
        }
        Ok(())
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.read().begin_read()?.open_table(TABLE)?;
            Ok(table.get(key)?)
        };
        let stored = read().map_err(Error::engine("read from the store"))?;
        stored.map(|stored| decode(Bytes::copy_from_slice(key), stored.value())).transpose()
    }

    /// Visits the revision of the newest state, then its entries whose keys begin with `prefix` and come after
    /// `after`, in order, until `visit` says stop.
    pub fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(Scanned) -> bool,
    ) -> Result<(), Error> {
        let failed = Error::engine::<redb::Error>("read from the store");
        // Held to the end: the file is not rearranged under a reader.
        let database = self.database.read();
        let table = (|| -> Result<_, redb::Error> { Ok(database.begin_read()?.open_table(TABLE)?) })()
            .map_err(&failed)?;
        if !visit(Scanned::State(stored_revision(&table).map_err(&failed)?)) {
            return Ok(());
        }
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            // The store's own revision sits under the empty key: never part of a scan.
            _ if prefix.is_empty() => Bound::Excluded(REVISION_KEY),
            _ => Bound::Included(prefix),
        };
        let range =
            table.range::<&[u8]>((start, Bound::Unbounded)).map_err(|source| failed(source.into()))?;
        for item in range {
            let (key, value) = item.map_err(|source| failed(source.into()))?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let entry = decode(Bytes::copy_from_slice(key.value()), value.value())?;
            if !visit(Scanned::Entry(entry)) {
                break;
            }
        }
        Ok(())
    }

    pub fn revision(&self) -> Result<Revision, Error> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.read().begin_read()?.open_table(TABLE)?;
            stored_revision(&table)
        };
        read().map_err(Error::engine("read the store's revision"))
    }

    pub fn file_size(&self) -> Option<u64> {
        Some(std::fs::metadata(self.path.as_ref()?).ok()?.len())
    }

    pub fn layout(&self) -> Result<Layout, Error> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.read().begin_read()?.open_table(TABLE)?;
            let stats = table.stats()?;
            Ok(Layout {
                // The revision is not a caller's key.
                keys: table.len()?.saturating_sub(u64::from(table.get(REVISION_KEY)?.is_some())),
                stored: stats.stored_bytes(),
                allocated: stats.stored_bytes() + stats.metadata_bytes() + stats.fragmented_bytes(),
            })
        };
        read().map_err(Error::engine("measure the store"))
    }

    /// Moves what is stored together and gives the rest of the file back. Everybody waits meanwhile.
    pub fn defragment(&self) -> Result<(), Error> {
        let mut database = self.database.write();
        database.compact().map(drop).map_err(Error::engine("defragment the store"))
    }

    /// Adds entries as they are; for a store that nobody uses yet.
    pub fn insert(&self, entries: &[Entry], revision: Revision) -> Result<(), Error> {
        let write = || -> Result<(), redb::Error> {
            let database = self.database.read();
            let txn = database.begin_write()?;
            {
                let mut table = txn.open_table(TABLE)?;
                let mut buffer = Vec::new();
                for entry in entries {
                    encode(&mut buffer, entry.created, entry.modified, &entry.value);
                    table.insert(&*entry.key, &*buffer)?;
                }
                table.insert(REVISION_KEY, &revision.to_be_bytes()[..])?;
            }
            Ok(txn.commit()?)
        };
        write().map_err(Error::engine("restore the store"))
    }
}

fn stored_revision(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Revision, redb::Error> {
    let stored = table.get(REVISION_KEY)?;
    Ok(stored.and_then(|stored| stored.value().try_into().ok().map(u64::from_be_bytes)).unwrap_or(0))
}

fn encode(buffer: &mut Vec<u8>, created: Revision, modified: Revision, value: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(&created.to_be_bytes());
    buffer.extend_from_slice(&modified.to_be_bytes());
    buffer.extend_from_slice(value);
}

fn decode(key: Bytes, stored: &[u8]) -> Result<Entry, Error> {
    let header = stored.split_at_checked(HEADER).and_then(|(header, value)| {
        let created = header.get(..8)?.try_into().ok().map(u64::from_be_bytes)?;
        let modified = header.get(8..)?.try_into().ok().map(u64::from_be_bytes)?;
        Some((created, modified, value))
    });
    match header {
        Some((created, modified, value)) => {
            Ok(Entry { key, value: Bytes::copy_from_slice(value), created, modified })
        }
        None => Err(Error::Damaged { key: String::from_utf8_lossy(&key).into_owned() }),
    }
}
