//! Unpacking a layer: a tar stream, perhaps compressed, into a directory for overlayfs.
//!
//! Every path of the archive is resolved by the kernel with `openat2(RESOLVE_IN_ROOT)` below the layer's directory, so
//! that neither `..` nor a symbolic link of the archive's own making leads outside. Whiteouts become what overlayfs
//! knows: a character device 0:0, or the opaque attribute of a directory.

mod entry;
pub(crate) mod recipe;
mod root;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use lzma_rust2::XzReader;
use tar::Archive;

use crate::digest::{Digest, HashingReader};
use entry::Unpacker;
use recipe::Recorder;
pub use root::{Place, Root};

/// Why a layer could not be unpacked; the caller knows which.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("cannot read the archive: {0}")]
    Read(io::Error),
    #[error("{path:?}: {source}")]
    Entry { path: String, source: io::Error },
    #[error("{path:?} is refused: {reason}")]
    Refused { path: String, reason: &'static str },
    #[error("more than {0} entries")]
    TooMany(usize),
    #[error("cannot write it to disk: {0}")]
    Sync(io::Error),
}

/// What came out of a layer.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// The bytes of all files.
    pub size: u64,
    /// How many files and directories there are.
    pub files: u64,
}

/// More files than any real layer has; a bound for those made to exhaust inodes.
const MAX_ENTRIES: usize = 5_000_000;

/// Unpacks the layer that `reader` gives into `directory`, which exists and is empty, and waits until it is on disk.
/// What is needed to make the same archive again goes to `recipe`, if there is to be one.
pub(crate) fn layer(
    reader: impl Read,
    directory: &Path,
    recipe: Option<File>,
) -> Result<Unpacked, UnpackError> {
    let hashed = HashingReader::new(decompress(reader).map_err(UnpackError::Read)?);
    let mut unpacker = Unpacker::open(directory).map_err(UnpackError::Sync)?;
    let (mut recorder, marker) = Recorder::new(hashed, recipe).map_err(UnpackError::Sync)?;
    unpacker.marker = Some(marker.clone());
    let files = entries(&mut recorder, &mut unpacker, || marker.entry())?;
    let size = unpacker.finish().map_err(UnpackError::Sync)?;
    let (hashed, _) = recorder.finish().map_err(UnpackError::Read)?;
    let diff_id = hashed.finish().map_err(UnpackError::Read)?;
    Ok(Unpacked { diff_id, size, files })
}

/// Unpacks an archive, perhaps compressed, below `directory`, as `ADD` of a Dockerfile does: what is there stays, unless
/// the archive has something of that name.
pub fn archive(reader: impl Read, directory: OwnedFd) -> io::Result<()> {
    let (mut recorder, marker) = Recorder::new(decompress(reader)?, None)?;
    let mut unpacker = Unpacker::within(directory);
    unpacker.marker = Some(marker.clone());
    let unpacked = entries(&mut recorder, &mut unpacker, || marker.entry());
    unpacked.and_then(|_| unpacker.set_times().map_err(UnpackError::Sync)).map_err(io::Error::other)
}

fn entries(reader: impl Read, unpacker: &mut Unpacker, each: impl Fn()) -> Result<u64, UnpackError> {
    let mut archive = Archive::new(reader);
    let mut files = 0;
    for (count, entry) in archive.entries().map_err(UnpackError::Read)?.enumerate() {
        if count == MAX_ENTRIES {
            return Err(UnpackError::TooMany(MAX_ENTRIES));
        }
        each();
        unpacker.entry(entry.map_err(UnpackError::Read)?)?;
        each();
        files += 1;
    }
    Ok(files)
}

/// More memory than this for one stream of xz, in KiB, no honest archive asks for: its strongest preset takes 65 MiB.
const MOST_XZ_MEMORY: u32 = 256 << 10;

#[derive(Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// By the first bytes of a stream.
    fn of(begin: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 4] = [
            (&[0x1f, 0x8b], Self::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Self::Zstd),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"BZh", Self::Bzip2),
        ];
        known.into_iter().find_map(|(magic, kind)| begin.starts_with(magic).then_some(kind))
    }
}

/// Whether a stream that begins so is compressed, as far as it is known here.
pub fn is_compressed(begin: &[u8]) -> bool {
    Compression::of(begin).is_some()
}

/// The uncompressed stream.
pub(crate) fn decompress<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    Ok(match Compression::of(io::BufRead::fill_buf(&mut reader)?) {
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        Some(Compression::Zstd) => Box::new(zstd::Decoder::with_buffer(reader)?),
        Some(Compression::Xz) => Box::new(XzReader::new_mem_limit(reader, true, MOST_XZ_MEMORY)),
        Some(Compression::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(reader)),
        None => Box::new(reader),
    })
}

/// Whether what is compressed, or not, is an archive: its first entry can be read.
pub fn is_tar(reader: impl Read) -> io::Result<bool> {
    let mut begin = [0; 512];
    let mut unpacked = match decompress(reader) {
        Ok(unpacked) => unpacked,
        Err(_) => return Ok(false),
    };
    let mut filled = 0;
    while filled < begin.len() {
        match unpacked.read(&mut begin[filled..]) {
            Ok(0) | Err(_) => return Ok(false),
            Ok(n) => filled += n,
        }
    }
    Ok(begin.get(257..262) == Some(b"ustar"))
}
