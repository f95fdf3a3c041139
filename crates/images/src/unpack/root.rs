//! Resolving the paths of an archive below one directory, by the kernel.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The directory that nothing leaves: links in it lead, at most, to itself.
pub struct Root(OwnedFd);

/// A path's parent, opened, and its last component.
pub struct Place {
    pub parent: OwnedFd,
    pub name: OsString,
}

impl Root {
    pub fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(directory, flags, Mode::empty())?))
    }

    pub fn of(directory: OwnedFd) -> Self {
        Self(directory)
    }

    /// Opens a regular file for reading.
    pub fn open_file(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = relative(path)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        }
    }

    /// What is at `path`, links followed: a place only, not its contents. Nothing if there is nothing.
    pub fn find(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match self.resolve(&relative(path)?, OFlags::empty()) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// As [`Root::directory`], from outside: `..` is refused.
    pub fn make_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.directory(&relative(path)?)
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Where `path` is to be made: its parent, made where it is missing. Nothing for the root itself.
    pub fn place(&self, path: &Path) -> io::Result<Option<Place>> {
        let path = relative(path)?;
        let Some(name) = path.file_name() else {
            return Ok(None);
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok(Some(Place { parent: self.directory(parent)?, name: name.to_owned() }))
    }

    /// The directory `path`, made (with its parents) where it is missing.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return Ok(other?),
        }
        let mut reached = PathBuf::new();
        for component in path.components() {
            let parent = self.resolve(&reached, OFlags::DIRECTORY)?;
            match rustix::fs::mkdirat(&parent, component.as_os_str(), Mode::from(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            reached.push(component);
        }
        Ok(self.resolve(path, OFlags::DIRECTORY)?)
    }

    /// Opens `path` (a place only, not its contents) with links followed, never out of the root.
    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { OsStr::new(".") } else { path.as_os_str() };
        rustix::fs::openat2(
            &self.0,
            path,
            flags | OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }
}

impl Place {
    /// Makes way for something new: whatever is here goes, except a directory where one is to come.
    pub fn clear(&self, directory_comes: bool) -> io::Result<()> {
        match rustix::fs::statat(&self.parent, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
            Ok(stat) => {
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                match (is_directory, directory_comes) {
                    (true, true) => Ok(()),
                    (true, false) => remove_tree(self.parent.as_fd(), &self.name),
                    (false, _) => Ok(rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::empty())?),
                }
            }
        }
    }
}

/// Removes a directory and all below it, without following a link.
fn remove_tree(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(&parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let child = OsStr::from_bytes(entry.file_name().to_bytes());
        if child == "." || child == ".." {
            continue;
        }
        match rustix::fs::unlinkat(&directory, child, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_tree(&directory, child)?,
            other => other?,
        }
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// The path as one below the root, or an error where it tries to go above.
fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => relative.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has a \"..\""));
            }
        }
    }
    Ok(relative)
}
