//! One entry of a layer at a time.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use tar::{Entry, EntryType};

use super::UnpackError;
use super::recipe::Marker;
use super::root::{Place, Root};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
/// Above the largest value the kernel takes; what is longer cannot be meant.
const MAX_XATTR: usize = 64 * 1024;

pub(super) struct Unpacker {
    root: Root,
    size: u64,
    /// Whether `.wh.` names hide what lower layers have.
    whiteouts: bool,
    /// Told where contents of files begin and end.
    pub marker: Option<Marker>,
    /// Directories get their times last, since making files inside changes them.
    directory_times: Vec<(PathBuf, Timestamps)>,
}

/// What every kind of entry has.
struct Metadata {
    mode: Mode,
    owner: Uid,
    group: Gid,
    times: Timestamps,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Unpacker {
    pub fn open(directory: &Path) -> io::Result<Self> {
        Ok(Self::new(Root::open(directory)?, true))
    }

    /// For archives that are no layers.
    pub fn within(directory: OwnedFd) -> Self {
        Self::new(Root::of(directory), false)
    }

    fn new(root: Root, whiteouts: bool) -> Self {
        Self { root, size: 0, whiteouts, marker: None, directory_times: Vec::new() }
    }

    pub fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), UnpackError> {
        let path = entry.path().map_err(UnpackError::Read)?.into_owned();
        let shown = path.to_string_lossy().into_owned();
        self.unpack(&mut entry, &path).map_err(|source| {
            match source.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
                Some(refused) => UnpackError::Refused { path: shown, reason: refused.0 },
                None => UnpackError::Entry { path: shown, source },
            }
        })
    }

    /// Sets what had to wait and makes everything durable. Returns the bytes of all files.
    pub fn finish(self) -> io::Result<u64> {
        self.set_times()?;
        let opened =
            rustix::fs::openat(self.root.fd(), ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::syncfs(&opened)?;
        Ok(self.size)
    }

    pub fn set_times(&self) -> io::Result<()> {
        for (path, times) in self.directory_times.iter().rev() {
            // A later entry may have replaced the directory by something else: then there is nothing to set.
            if let Ok(Some(place)) = self.root.place(path) {
                let _ = rustix::fs::utimensat(&place.parent, &place.name, times, AtFlags::SYMLINK_NOFOLLOW);
            }
        }
        Ok(())
    }

    fn unpack<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let metadata = Metadata::of(entry)?;
        let Some(place) = self.root.place(path)? else {
            // The root directory itself.
            return metadata.set_on(self.root.fd(), OsStr::new("."), FileType::Directory);
        };
        let name = place.name.as_bytes();
        if self.whiteouts && name == OPAQUE {
            return set_xattr(&place.parent, OsStr::new("."), b"trusted.overlay.opaque", b"y");
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|_| self.whiteouts) {
            return whiteout(&place, OsStr::from_bytes(hidden));
        }
        let file_type = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => FileType::RegularFile,
            EntryType::Directory => FileType::Directory,
            EntryType::Symlink => FileType::Symlink,
            EntryType::Link => return self.hard_link(entry, &place),
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            EntryType::Fifo => FileType::Fifo,
            _ => return Err(refused("its type is none that a container image may have")),
        };
        place.clear(file_type == FileType::Directory)?;
        match file_type {
            FileType::RegularFile => self.size += self.regular(entry, path, &place)?,
            FileType::Directory => {
                match rustix::fs::mkdirat(&place.parent, &place.name, Mode::from(0o700)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                self.directory_times.push((path.to_owned(), metadata.times.clone()));
            }
            FileType::Symlink => {
                let target =
                    entry.link_name_bytes().ok_or_else(|| refused("the symbolic link has no target"))?;
                rustix::fs::symlinkat(&*target, &place.parent, &place.name)?;
            }
            _ => {
                let (major, minor) = device_of(entry, file_type)?;
                let device = rustix::fs::makedev(major, minor);
                rustix::fs::mknodat(&place.parent, &place.name, file_type, metadata.mode, device)?;
            }
        }
        metadata.set_on(&place.parent, &place.name, file_type)
    }

    fn regular<R: Read>(&self, entry: &mut Entry<'_, R>, path: &Path, place: &Place) -> io::Result<u64> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.parent, &place.name, flags, Mode::from(0o600))?;
        let mut file = File::from(file);
        // Of a sparse file the archive has only parts.
        let Some(marker) =
            self.marker.as_ref().filter(|_| entry.header().entry_type() != EntryType::GNUSparse)
        else {
            return io::copy(entry, &mut file);
        };
        marker.file_begins(path, entry.size())?;
        let copied = io::copy(entry, &mut file);
        marker.file_ends();
        copied
    }

    /// A hard link's target is a path of the same archive, found below the same root.
    fn hard_link<R: Read>(&mut self, entry: &Entry<'_, R>, place: &Place) -> io::Result<()> {
        let target = entry.link_name()?.ok_or_else(|| refused("the hard link has no target"))?;
        let target =
            self.root.place(&target)?.ok_or_else(|| refused("the hard link's target is the root"))?;
        place.clear(false)?;
        Ok(rustix::fs::linkat(&target.parent, &target.name, &place.parent, &place.name, AtFlags::empty())?)
    }
}

fn device_of<R: Read>(entry: &Entry<'_, R>, file_type: FileType) -> io::Result<(u32, u32)> {
    if file_type == FileType::Fifo {
        return Ok((0, 0));
    }
    let major = entry.header().device_major()?.unwrap_or(0);
    let minor = entry.header().device_minor()?.unwrap_or(0);
    if (file_type, major, minor) == (FileType::CharacterDevice, 0, 0) {
        return Err(refused("a device 0:0 would hide a file of another layer"));
    }
    Ok((major, minor))
}

fn whiteout(place: &Place, hidden: &OsStr) -> io::Result<()> {
    if hidden.as_bytes().starts_with(WHITEOUT) {
        // Bookkeeping of aufs (`.wh..wh.plnk` and the like) that old images still carry; it hides nothing.
        return Ok(());
    }
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(refused("it is not a whiteout of any file"));
    }
    let made = rustix::fs::mknodat(
        &place.parent,
        hidden,
        FileType::CharacterDevice,
        Mode::empty(),
        rustix::fs::makedev(0, 0),
    );
    match made {
        // A whiteout hides what lower layers have, not what this one brings itself.
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

impl Metadata {
    fn of<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Self> {
        let xattrs = xattrs_of(entry)?;
        let header = entry.header();
        let seconds = i64::try_from(header.mtime()?).unwrap_or(0);
        let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let id = |id: u64| u32::try_from(id).map_err(|_| refused("its owner is out of range"));
        Ok(Self {
            mode: Mode::from_raw_mode(header.mode()? & 0o7777),
            owner: Uid::from_raw(id(header.uid()?)?),
            group: Gid::from_raw(id(header.gid()?)?),
            times: Timestamps { last_access: time, last_modification: time },
            xattrs,
        })
    }

    /// Owner first: changing it clears the set-user-ID bit and file capabilities.
    fn set_on(&self, parent: &OwnedFd, name: &OsStr, file_type: FileType) -> io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(self.owner), Some(self.group), nofollow)?;
        if file_type != FileType::Symlink {
            // The last component was made just now, so it is no link that could be followed.
            rustix::fs::chmodat(parent, name, self.mode, AtFlags::empty())?;
        }
        for (key, value) in &self.xattrs {
            set_xattr(parent, name, key, value)?;
        }
        rustix::fs::utimensat(parent, name, &self.times, nofollow)?;
        Ok(())
    }
}

/// The extended attributes that an image may set. `trusted.overlay.*` would let it command overlayfs.
fn xattrs_of<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(xattrs);
    };
    for extension in extensions {
        let extension = extension?;
        let Some(key) = extension.key_bytes().strip_prefix(XATTR_PREFIX) else {
            continue;
        };
        let allowed = key == b"security.capability" || key.starts_with(b"user.");
        if allowed && extension.value_bytes().len() <= MAX_XATTR {
            xattrs.push((key.to_vec(), extension.value_bytes().to_vec()));
        }
    }
    Ok(xattrs)
}

/// There is no setxattr below a directory's descriptor: go through its name in /proc.
fn set_xattr(parent: impl AsFd, name: &OsStr, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_fd().as_raw_fd()));
    path.push(name);
    rustix::fs::lsetxattr(&path, key, value, XattrFlags::empty()).map_err(io::Error::from)
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(&'static str);

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Refused(reason))
}
