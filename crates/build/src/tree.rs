//! What is copied to: a stage's filesystem with a directory that takes the changes.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use images::{Root, Store, Writable};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use crate::source::{Item, Kind, Source};

pub struct Tree {
    root: Root,
    changes: tempfile::TempDir,
}

impl Tree {
    /// `layers` lowest first.
    pub fn upon(store: &Store, layers: &[String]) -> io::Result<Self> {
        let changes = tempfile::Builder::new().prefix("build-").tempdir_in(store.root().join("tmp"))?;
        let (upper, work) = (changes.path().join("upper"), changes.path().join("work"));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let lowers = directories(store, layers)?;
        let mount = images::overlay(&lowers, Some(Writable { upper: &upper, work: &work }))?;
        Ok(Self { root: Root::of(mount), changes })
    }

    /// What was changed.
    pub fn upper(&self) -> PathBuf {
        self.changes.path().join("upper")
    }

    pub fn is_directory(&self, path: &Path) -> io::Result<bool> {
        let Some(found) = self.root.find(path)? else { return Ok(false) };
        Ok(FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) == FileType::Directory)
    }

    /// Copies an item to `path`.
    pub fn add(&self, source: &Source, item: &Item, path: &Path) -> io::Result<()> {
        if item.kind == Kind::Directory {
            return self.directory(item, path);
        }
        if let Kind::File(_) = item.kind {
            let file = source.read(item).map_err(io::Error::other)?;
            return self.file(item, path, file);
        }
        let place = self.place(path)?;
        match &item.kind {
            Kind::Link(target) => rustix::fs::symlinkat(target, &place.parent, &place.name)?,
            Kind::Device(kind, number) => {
                rustix::fs::mknodat(&place.parent, &place.name, *kind, Mode::from(0o600), *number)?;
            }
            Kind::File(_) | Kind::Directory => {}
        }
        finish(&place, item)
    }

    /// As [`Tree::add`], of what `contents` has.
    pub fn file(&self, item: &Item, path: &Path, mut contents: impl io::Read) -> io::Result<()> {
        let place = self.place(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&place.parent, &place.name, flags, Mode::from(0o600))?;
        io::copy(&mut contents, &mut File::from(file))?;
        finish(&place, item)
    }

    fn place(&self, path: &Path) -> io::Result<images::Place> {
        let place = self.root.place(path)?.ok_or_else(|| io::Error::other("the root cannot be replaced"))?;
        let there = rustix::fs::statat(&place.parent, &place.name, AtFlags::SYMLINK_NOFOLLOW);
        if there.is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory) {
            return Err(io::Error::other(format!("{} is a directory", path.display())));
        }
        place.clear(false)?;
        Ok(place)
    }

    fn directory(&self, item: &Item, path: &Path) -> io::Result<()> {
        // What is a link to a directory stays one.
        if self.is_directory(path)? {
            return Ok(());
        }
        let Some(place) = self.root.place(path)? else { return Ok(()) };
        place.clear(true)?;
        rustix::fs::mkdirat(&place.parent, &place.name, Mode::from(0o755))?;
        finish(&place, item)
    }

    /// A directory with all above it, as `WORKDIR` has it.
    pub fn make_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.root.make_directory(path)
    }

    /// Ids of a `--chown`: names or numbers, by the image's files.
    pub fn owner(&self, text: &str) -> Result<(u32, u32), String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
        let passwd = self.text("/etc/passwd");
        let account = |wanted: &str| {
            let of = |line: &str| {
                let fields: Vec<&str> = line.split(':').collect();
                let (name, uid, gid) =
                    (*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
                (name == wanted || wanted.parse() == Ok(uid)).then_some((uid, gid))
            };
            passwd.lines().find_map(of)
        };
        let (uid, own) = match (account(user), user.parse::<u32>()) {
            (Some((uid, gid)), Err(_)) => (uid, gid),
            // A number is user and group, whatever is known of it.
            (_, Ok(uid)) => (uid, uid),
            (None, Err(_)) => return Err(format!("the image has no user {user:?}")),
        };
        let Some(group) = group.filter(|g| !g.is_empty()) else { return Ok((uid, own)) };
        if let Ok(gid) = group.parse() {
            return Ok((uid, gid));
        }
        let groups = self.text("/etc/group");
        let gid = groups.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            if *fields.first()? == group { fields.get(2)?.parse().ok() } else { None }
        });
        gid.map(|gid| (uid, gid)).ok_or_else(|| format!("the image has no group {group:?}"))
    }

    fn text(&self, path: &str) -> String {
        let Ok(file) = self.root.open_file(Path::new(path)) else { return String::new() };
        let mut bytes = Vec::new();
        let _ = io::Read::read_to_end(&mut io::Read::take(File::from(file), 1 << 20), &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Owner, permissions, time, and what a program may do.
fn finish(place: &images::Place, item: &Item) -> io::Result<()> {
    let (parent, name) = (&place.parent, place.name.as_os_str());
    let owner = (Some(Uid::from_raw(item.uid)), Some(Gid::from_raw(item.gid)));
    rustix::fs::chownat(parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(item.kind, Kind::Link(_)) {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(item.mode), AtFlags::empty())?;
    }
    let time = Timespec { tv_sec: item.modified, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A stage's filesystem to read from.
pub fn view(store: &Store, layers: &[String]) -> io::Result<OwnedFd> {
    images::overlay(&directories(store, layers)?, None)
}

/// Topmost first.
pub fn directories(store: &Store, layers: &[String]) -> io::Result<Vec<PathBuf>> {
    layers.iter().rev().map(|l| store.layer_directory(l).map_err(io::Error::other)).collect()
}

/// A filesystem at a path, as long as this lives.
pub struct Attached(PathBuf);

impl Attached {
    pub fn at(store: &Store, tree: &OwnedFd) -> io::Result<Self> {
        use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
        let directory = tempfile::Builder::new().prefix("mount-").tempdir_in(store.root().join("tmp"))?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(tree.as_fd(), "", flags)?;
        let attach = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(tree.as_fd(), "", rustix::fs::CWD, directory.path(), attach)?;
        // From here on nothing may remove what is below it: that is a layer of the store.
        Ok(Self(directory.keep()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        if rustix::mount::unmount(&self.0, flags).is_ok() {
            let _ = fs::remove_dir(&self.0);
        }
    }
}

/// Where a descriptor's file is now, for those that want paths.
pub fn path_of(file: &impl AsRawFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
