//! Snapshots: the whole state of a store as one file, whichever engine it came from.
//!
//! A line that says what it is, the revision, every entry with its revisions, a count, and the SHA-256 of all that.
//! A snapshot is written from one consistent state while the store goes on, and read back entry by entry.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::embedded::RedbEngine;
use crate::{Entry, Error, Revision};

const MAGIC: &[u8] = b"corten store snapshot 1\n";
/// Longer than any key or value that a store takes: more is damage.
const MAX_LENGTH: u32 = 1 << 30;
/// Entries restored by one commit.
const BATCH: usize = 4096;

/// Revisions that a restored store leaves out by default: more than can have happened after the snapshot was taken, so
/// that nobody takes a new state for one that was seen before.
pub const DEFAULT_BUMP: u64 = 1_000_000_000;

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub revision: Revision,
    pub entries: u64,
    pub bytes: u64,
}

/// Writes a snapshot.
pub(crate) struct Writer<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    summary: Summary,
}

impl<'a> Writer<'a> {
    pub fn begin(out: &'a mut dyn Write, revision: Revision) -> io::Result<Self> {
        let summary = Summary { revision, entries: 0, bytes: 0 };
        let mut writer = Self { out, hash: Sha256::new(), summary };
        writer.put(MAGIC)?;
        writer.put(&revision.to_be_bytes())?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.summary.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len())
                .ok()
                .filter(|length| *length <= MAX_LENGTH)
                .ok_or_else(|| io::Error::other("an entry is too long for a snapshot"))
        };
        self.put(&length(&entry.key)?.to_be_bytes())?;
        self.put(&length(&entry.value)?.to_be_bytes())?;
        self.put(&entry.created.to_be_bytes())?;
        self.put(&entry.modified.to_be_bytes())?;
        self.put(&entry.key)?;
        self.put(&entry.value)?;
        self.summary.entries += 1;
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<Summary> {
        // No key is empty.
        self.put(&0u32.to_be_bytes())?;
        self.put(&self.summary.entries.to_be_bytes())?;
        let hash = self.hash.finalize();
        self.out.write_all(&hash)?;
        self.out.flush()?;
        self.summary.bytes += hash.len() as u64;
        Ok(self.summary)
    }
}

struct Reader<R> {
    from: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Reader<R> {
    fn exact<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).map_err(failed)?;
        self.hash.update(bytes);
        self.bytes += N as u64;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, Error> {
        self.exact().map(u64::from_be_bytes)
    }

    fn length(&mut self) -> Result<u32, Error> {
        let length = u32::from_be_bytes(self.exact()?);
        if length > MAX_LENGTH {
            return Err(Error::SnapshotDamaged("an entry is longer than entries can be"));
        }
        Ok(length)
    }

    /// Grows with what is really there, whatever the length says.
    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = self.from.by_ref().take(u64::from(length)).read_to_end(&mut bytes).map_err(failed)?;
        if read != length as usize {
            return Err(Error::SnapshotDamaged("it ends in the middle"));
        }
        self.hash.update(&bytes);
        self.bytes += u64::from(length);
        Ok(bytes)
    }
}

fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::SnapshotDamaged("it ends in the middle"),
        _ => Error::snapshot("read")(error),
    }
}

/// Reads a snapshot to its end, checks it, and gives each entry to `visit` on the way.
pub fn read(
    from: impl Read,
    mut visit: impl FnMut(Revision, Entry) -> Result<(), Error>,
) -> Result<Summary, Error> {
    let mut reader = Reader { from, hash: Sha256::new(), bytes: 0 };
    let magic: [u8; MAGIC.len()] = reader.exact()?;
    if magic != MAGIC {
        return Err(Error::SnapshotDamaged("it does not begin as a snapshot of a Corten store does"));
    }
    let revision = reader.number()?;
    let mut entries = 0u64;
    loop {
        let key = reader.length()?;
        if key == 0 {
            break;
        }
        let value = reader.length()?;
        let (created, modified) = (reader.number()?, reader.number()?);
        if created > modified || modified > revision {
            return Err(Error::SnapshotDamaged("an entry is newer than the snapshot"));
        }
        let (key, value) = (reader.bytes(key)?.into(), reader.bytes(value)?.into());
        visit(revision, Entry { key, value, created, modified })?;
        entries += 1;
    }
    if reader.number()? != entries {
        return Err(Error::SnapshotDamaged("entries are missing"));
    }
    let computed = reader.hash.clone().finalize();
    let told: [u8; 32] = reader.exact()?;
    if computed[..] != told {
        return Err(Error::SnapshotDamaged("its checksum is wrong"));
    }
    Ok(Summary { revision, entries, bytes: reader.bytes })
}

/// Makes the store file at `path`, which must not exist, from a snapshot. Its revisions go on `bump` after the
/// snapshot's.
pub fn restore(snapshot: &Path, path: &Path, bump: u64) -> Result<Summary, Error> {
    if path.exists() {
        return Err(Error::Exists { path: path.to_owned() });
    }
    let source = File::open(snapshot).map_err(Error::snapshot("read"))?;
    let unfinished = Unfinished(path.with_extension("restoring"));
    let _ = fs::remove_file(&unfinished.0);
    let engine = RedbEngine::open(&unfinished.0, 8 << 20)?;
    let mut batch = Vec::new();
    let summary = read(BufReader::with_capacity(1 << 20, source), |revision, entry| {
        batch.push(entry);
        if batch.len() < BATCH {
            return Ok(());
        }
        engine.insert(&std::mem::take(&mut batch), revision)
    })?;
    let revision = summary.revision.saturating_add(bump);
    engine.insert(&batch, revision)?;
    drop(engine);
    // Unlike a rename this never replaces a store that has appeared meanwhile.
    fs::hard_link(&unfinished.0, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: path.to_owned() },
        _ => Error::snapshot("restore")(error),
    })?;
    drop(unfinished);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))
        .and_then(|directory| directory.sync_all())
        .map_err(Error::snapshot("restore"))?;
    Ok(Summary { revision, ..summary })
}

/// A file that is removed whatever happens.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
