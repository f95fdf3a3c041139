//! What of an archive is not in the files that come out of it, kept so that the very same archive can be made again.
//!
//! An image's id depends on each byte of its layers' archives, but a store keeps files, not archives. A recipe is the
//! archive with the contents of files left out: headers and padding, some kilobytes when compressed.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use super::root::Root;

/// A header with its long names and attributes; real ones take some kilobytes, and all of it is kept in memory.
const LARGEST_HEADER: u64 = 8 << 20;
/// Headers of a layer with millions of files. What has more is unpacked, but cannot be packed again byte for byte.
const LARGEST_RECIPE: u64 = 1 << 30;
/// As much as an archive may be, uncompressed: what is a bomb rather than an image.
const LARGEST_ARCHIVE: u64 = 256 << 30;

const RAW: u8 = 0;
const CONTENTS: u8 = 1;

type Encoder = zstd::Encoder<'static, File>;

/// Writes the recipe of what is read through it, and keeps hostile archives in bounds.
pub(super) struct Recorder<R> {
    inner: R,
    state: Rc<RefCell<State>>,
}

struct State {
    recipe: Option<Encoder>,
    raw: Vec<u8>,
    /// Bytes are a file's contents, which are not kept.
    in_contents: bool,
    since_entry: u64,
    recorded: u64,
    read: u64,
}

/// Tells the recorder where in the archive one is.
#[derive(Clone)]
pub(super) struct Marker(Rc<RefCell<State>>);

impl<R: Read> Recorder<R> {
    pub fn new(inner: R, recipe: Option<File>) -> io::Result<(Self, Marker)> {
        let recipe = recipe.map(|file| Encoder::new(file, 3)).transpose()?;
        let state =
            State { recipe, raw: Vec::new(), in_contents: false, since_entry: 0, recorded: 0, read: 0 };
        let state = Rc::new(RefCell::new(state));
        Ok((Self { inner, state: state.clone() }, Marker(state)))
    }

    /// Reads to the end, and gives back what was read from. Whether there is a recipe.
    pub fn finish(mut self) -> io::Result<(R, bool)> {
        // Some archives have kilobytes of zeros at the end.
        let mut buffer = [0; 16 << 10];
        loop {
            self.state.borrow_mut().since_entry = 0;
            if self.read(&mut buffer)? == 0 {
                break;
            }
        }
        let mut state = self.state.borrow_mut();
        state.flush()?;
        let kept = match state.recipe.take() {
            Some(recipe) => {
                recipe.finish()?;
                true
            }
            None => false,
        };
        drop(state);
        Ok((self.inner, kept))
    }
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.state.borrow_mut().pass(&buffer[..n])?;
        Ok(n)
    }
}

impl State {
    fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len() as u64;
        self.read += count;
        if self.read > LARGEST_ARCHIVE {
            return Err(io::Error::other(format!("the archive is larger than {LARGEST_ARCHIVE} bytes")));
        }
        if self.in_contents {
            return Ok(());
        }
        self.since_entry += count;
        if self.since_entry > LARGEST_HEADER {
            return Err(io::Error::other(format!("an entry's header is larger than {LARGEST_HEADER} bytes")));
        }
        self.recorded += count;
        if self.recorded > LARGEST_RECIPE {
            self.recipe = None;
        }
        if self.recipe.is_some() {
            self.raw.extend_from_slice(bytes);
            if self.raw.len() > 64 << 10 {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let (Some(recipe), false) = (&mut self.recipe, self.raw.is_empty()) else { return Ok(()) };
        recipe.write_all(&[RAW])?;
        recipe.write_all(&(self.raw.len() as u64).to_le_bytes())?;
        recipe.write_all(&self.raw)?;
        self.raw.clear();
        Ok(())
    }
}

impl Marker {
    /// An entry's header was read.
    pub fn entry(&self) {
        self.0.borrow_mut().since_entry = 0;
    }

    /// What is read until [`Marker::file_ends`] are the contents of the file at `path`.
    pub fn file_begins(&self, path: &Path, size: u64) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.flush()?;
        state.in_contents = true;
        let Some(recipe) = &mut state.recipe else { return Ok(()) };
        let name = path.as_os_str().as_bytes();
        recipe.write_all(&[CONTENTS])?;
        recipe.write_all(&size.to_le_bytes())?;
        recipe.write_all(&(name.len() as u64).to_le_bytes())?;
        recipe.write_all(name)
    }

    pub fn file_ends(&self) {
        self.0.borrow_mut().in_contents = false;
    }
}

/// Makes the archive again, of its recipe and the directory that it was unpacked to.
pub(crate) fn replay(recipe: File, directory: &Path, out: &mut impl Write) -> io::Result<()> {
    let root = Root::open(directory)?;
    let mut recipe = zstd::Decoder::with_buffer(BufReader::new(recipe))?;
    let mut kind = [0; 1];
    while recipe.read(&mut kind)? == 1 {
        let size = number(&mut recipe)?;
        if kind[0] == RAW {
            copy_exactly(&mut recipe, size, out)?;
            continue;
        }
        let length = number(&mut recipe)?;
        let mut name = Vec::new();
        (&mut recipe).take(length.min(LARGEST_HEADER)).read_to_end(&mut name)?;
        let file = root.open_file(Path::new(std::ffi::OsStr::from_bytes(&name)))?;
        copy_exactly(&mut File::from(file), size, out)?;
    }
    Ok(())
}

fn number(reader: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn copy_exactly(reader: &mut impl Read, size: u64, out: &mut impl Write) -> io::Result<()> {
    let copied = io::copy(&mut reader.take(size), out)?;
    if copied == size { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
