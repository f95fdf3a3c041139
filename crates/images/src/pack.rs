//! A layer's directory as the tar archive that it is in an image: the reverse of unpacking.
//!
//! The same directory gives the same bytes: entries are sorted and carry nothing but what an image has.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

const OPAQUE: &str = "trusted.overlay.opaque";
/// What overlayfs notes where a directory was moved without its contents: the archive would lack them.
const REDIRECT: &str = "trusted.overlay.redirect";
const LARGEST_XATTR: usize = 64 << 10;

/// Writes the archive; returns how many entries it has. What `skip` says of, by its path in the layer, is left out.
pub(crate) fn tar(directory: &Path, out: impl Write, skip: &dyn Fn(&Path) -> bool) -> io::Result<u64> {
    let mut pack = Pack { builder: Builder::new(out), links: HashMap::new(), count: 0, skip };
    pack.directory(directory, Path::new(""))?;
    pack.builder.finish()?;
    Ok(pack.count)
}

struct Pack<'a, W: Write> {
    builder: Builder<W>,
    /// Names of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    count: u64,
    skip: &'a dyn Fn(&Path) -> bool,
}

impl<W: Write> Pack<'_, W> {
    fn directory(&mut self, directory: &Path, name: &Path) -> io::Result<()> {
        let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let inside = name.join(entry.file_name());
            if !(self.skip)(&inside) {
                self.entry(&entry.path(), &inside)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let kind = metadata.file_type();
        if kind.is_char_device() && metadata.rdev() == 0 {
            return self.whiteout(name);
        }
        self.count += 1;
        let mut header = header(&metadata);
        if !kind.is_dir() && metadata.nlink() > 1 {
            let id = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&id) {
                header.set_entry_type(EntryType::Link);
                return self.builder.append_link(&mut header, name, first);
            }
            self.links.insert(id, name.to_owned());
        }
        self.xattrs(path)?;
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
            self.builder.append_data(&mut header, name.join(""), io::empty())?;
            if xattr(path, REDIRECT)?.is_some() {
                return Err(io::Error::other(format!(
                    "{} was moved by an overlayfs with redirect_dir; turn that off",
                    name.display()
                )));
            }
            if xattr(path, OPAQUE)?.as_deref() == Some(b"y") {
                self.empty(&name.join(".wh..wh..opq"))?;
            }
            return self.directory(path, name);
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return self.builder.append_link(&mut header, name, fs::read_link(path)?);
        }
        if kind.is_file() {
            header.set_size(metadata.len());
            return self.builder.append_data(&mut header, name, File::open(path)?);
        }
        header.set_entry_type(if kind.is_block_device() {
            EntryType::Block
        } else if kind.is_char_device() {
            EntryType::Char
        } else if kind.is_fifo() {
            EntryType::Fifo
        } else {
            // A socket is nothing without the process that listens.
            self.count -= 1;
            return Ok(());
        });
        header.set_device_major(rustix::fs::major(metadata.rdev()))?;
        header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
        self.builder.append_data(&mut header, name, io::empty())
    }

    fn whiteout(&mut self, name: &Path) -> io::Result<()> {
        let mut hidden = OsStr::new(".wh.").to_owned();
        hidden.push(name.file_name().unwrap_or_default());
        self.empty(&name.with_file_name(hidden))
    }

    fn empty(&mut self, name: &Path) -> io::Result<()> {
        self.count += 1;
        let mut header = Header::new_gnu();
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        self.builder.append_data(&mut header, name, io::empty())
    }

    /// Those that an image may have.
    fn xattrs(&mut self, path: &Path) -> io::Result<()> {
        let mut names = vec![0_u8; LARGEST_XATTR];
        let length = match rustix::fs::llistxattr(path, &mut names[..]) {
            Ok(length) => length,
            Err(rustix::io::Errno::NOTSUP) => 0,
            Err(error) => return Err(error.into()),
        };
        names.truncate(length);
        let kept = |name: &&str| *name == "security.capability" || name.starts_with("user.");
        let mut found = Vec::new();
        for name in names.split(|b| *b == 0).filter_map(|n| std::str::from_utf8(n).ok()).filter(kept) {
            if let Some(value) = xattr(path, name)? {
                found.push((format!("SCHILY.xattr.{name}"), value));
            }
        }
        found.sort();
        if found.is_empty() {
            return Ok(());
        }
        self.builder
            .append_pax_extensions(found.iter().map(|(name, value)| (name.as_str(), value.as_slice())))
    }
}

fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    header
}

fn xattr(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; LARGEST_XATTR];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_same_directory_gives_the_same_bytes() {
        let make = |order: &[&str]| {
            let directory = tempfile::tempdir().unwrap();
            for name in order {
                fs::write(directory.path().join(name), name).unwrap();
            }
            fs::create_dir(directory.path().join("d")).unwrap();
            symlink("a", directory.path().join("d/link")).unwrap();
            fs::hard_link(directory.path().join("a"), directory.path().join("z")).unwrap();
            for name in ["a", "b", "d"] {
                let time = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
                File::open(directory.path().join(name)).unwrap().set_times(time).unwrap();
            }
            let mut bytes = Vec::new();
            let count = tar(directory.path(), &mut bytes, &|path| path == Path::new("skipped")).unwrap();
            (count, bytes)
        };
        let (count, first) = make(&["a", "b", "skipped"]);
        let read = |bytes: &[u8]| {
            tar::Archive::new(bytes).entries().unwrap().all(|e| e.unwrap().header().uid().is_ok())
        };
        assert!(read(&first));
        assert_eq!(count, 5);
        let names: Vec<String> = tar::Archive::new(&first[..])
            .entries()
            .unwrap()
            .map(|e| e.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["a", "b", "d/", "d/link", "z"]);
        let differs = |a: &[u8], b: &[u8]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        // The link's own time is not set above.
        assert!(differs(&first, &make(&["b", "a"]).1) < 32);
    }
}
