//! Where `COPY` takes from: the context, or the tree of a stage or image. Both may be hostile; neither is left.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::glob::{self, Ignore};

/// Nobody's honest work is deeper, or has more in it.
const DEEPEST: usize = 256;
const MOST: usize = 1_000_000;

pub struct Source {
    root: OwnedFd,
    /// Links that lead out are an error, in the context; in an image they lead to its root.
    beneath: bool,
    ignore: Ignore,
}

/// One file, directory or link that is to be copied.
#[derive(Debug, Clone)]
pub struct Item {
    /// In the source.
    pub from: PathBuf,
    /// Below where it is copied to; empty for what was named itself.
    pub to: PathBuf,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// With the digest of what is in it.
    File(String),
    Directory,
    Link(OsString),
    Device(FileType, u64),
}

/// What one source of a `COPY` named.
#[derive(Debug)]
pub struct Selected {
    pub path: PathBuf,
    pub is_directory: bool,
    pub items: Vec<Item>,
}

impl Source {
    pub fn context(directory: &Path, ignore: Ignore) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(directory, flags, Mode::empty())?, beneath: true, ignore })
    }

    pub fn tree(root: OwnedFd) -> Self {
        Self { root, beneath: false, ignore: Ignore::default() }
    }

    /// Opens a path of it, links followed as far as they may be.
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, String> {
        let confined = if self.beneath { ResolveFlags::BENEATH } else { ResolveFlags::IN_ROOT };
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = confined | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve).map_err(|e| {
            let place = if self.beneath { "the build context" } else { "the source" };
            match e {
                Errno::XDEV => format!("{}: a symbolic link leads out of {place}", path.display()),
                Errno::NOENT | Errno::NOTDIR => format!("{} is not in {place}", path.display()),
                e => format!("{}: {}", path.display(), io::Error::from(e)),
            }
        })
    }

    /// The contents of a file.
    pub fn read(&self, item: &Item) -> Result<File, String> {
        Ok(self.open(&item.from, OFlags::RDONLY | OFlags::NONBLOCK)?.into())
    }

    /// What a source of a `COPY` names, wildcards included.
    pub fn select(&self, text: &str, exclude: &Ignore) -> Result<Vec<Selected>, String> {
        let wanted = inside(text)?;
        let mut found = vec![PathBuf::new()];
        for part in wanted.components() {
            let part = part.as_os_str();
            let pattern = part.to_str().filter(|p| glob::is_pattern(p));
            let mut next = Vec::new();
            for path in found {
                match pattern {
                    None => next.push(path.join(part)),
                    Some(pattern) => {
                        let names = self.list(&path).unwrap_or_default();
                        let fits =
                            names.into_iter().filter(|n| glob::component(pattern, &n.to_string_lossy()));
                        next.extend(fits.map(|name| path.join(name)));
                    }
                }
            }
            found = next;
        }
        let is_pattern = glob::is_pattern(text);
        found.retain(|path| !is_pattern || !self.ignored(path, exclude));
        if found.is_empty() {
            return Err(format!("{text} matches nothing"));
        }
        found.into_iter().map(|path| self.take(path, exclude)).collect()
    }

    fn ignored(&self, path: &Path, exclude: &Ignore) -> bool {
        let text = path.to_string_lossy();
        self.ignore.ignores(&text) || exclude.ignores(&text)
    }

    fn take(&self, path: PathBuf, exclude: &Ignore) -> Result<Selected, String> {
        let place = self.open(&path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&place).map_err(|e| format!("{}: {e}", path.display()))?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let mut items = Vec::new();
        if is_directory {
            let directory = self.open(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.walk(directory.as_fd(), &path, Path::new(""), exclude, 0, &mut items)?;
        } else if !self.ignored(&path, exclude) {
            items.push(self.item(self.root.as_fd(), &path, PathBuf::new(), &stat)?);
        }
        if items.is_empty() && !is_directory {
            return Err(format!("{} is ignored by .dockerignore", path.display()));
        }
        Ok(Selected { path, is_directory, items })
    }

    fn walk(
        &self,
        directory: BorrowedFd<'_>,
        from: &Path,
        to: &Path,
        exclude: &Ignore,
        depth: usize,
        items: &mut Vec<Item>,
    ) -> Result<(), String> {
        let told = |e: Errno| format!("{}: {}", from.display(), io::Error::from(e));
        if depth > DEEPEST {
            return Err(format!("{} is deeper than {DEEPEST} directories", from.display()));
        }
        for name in names(directory).map_err(told)? {
            let (from, to) = (from.join(&name), to.join(&name));
            let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(told)?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !self.ignored(&from, exclude) {
                // A socket is nothing without who listens.
                if FileType::from_raw_mode(stat.st_mode) == FileType::Socket {
                    continue;
                }
                items.push(self.item(directory, &from, to.clone(), &stat)?);
            }
            if items.len() > MOST {
                return Err(format!("more than {MOST} files"));
            }
            if is_directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let child = rustix::fs::openat(directory, &name, flags, Mode::empty()).map_err(told)?;
                self.walk(child.as_fd(), &from, &to, exclude, depth + 1, items)?;
            }
        }
        Ok(())
    }

    /// `path` is looked up by its last name below `parent`, but for a source that was named itself.
    fn item(&self, parent: BorrowedFd<'_>, path: &Path, to: PathBuf, stat: &Stat) -> Result<Item, String> {
        let told = |e: io::Error| format!("{}: {e}", path.display());
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let file: File = if to.as_os_str().is_empty() {
                    self.open(path, OFlags::RDONLY | OFlags::NONBLOCK)?.into()
                } else {
                    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let name = path.file_name().unwrap_or_default();
                    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|e| told(e.into()))?.into()
                };
                Kind::File(digest(file).map_err(told)?)
            }
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                let name = path.file_name().unwrap_or_default();
                let target = rustix::fs::readlinkat(parent, name, Vec::new()).map_err(|e| told(e.into()))?;
                Kind::Link(OsStr::from_bytes(target.as_bytes()).to_owned())
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) if !self.beneath => {
                Kind::Device(kind, stat.st_rdev)
            }
            _ => return Err(format!("{} is neither file, directory nor link", path.display())),
        };
        Ok(Item {
            from: path.to_owned(),
            to,
            kind,
            mode: stat.st_mode & 0o7777,
            // Who owns what in a context is chance.
            uid: if self.beneath { 0 } else { stat.st_uid },
            gid: if self.beneath { 0 } else { stat.st_gid },
            modified: stat.st_mtime,
        })
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>, String> {
        let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        names(directory.as_fd()).map_err(|e| io::Error::from(e).to_string())
    }
}

/// Sorted.
fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// As a path below the root, however it is written; one that climbs out of it is refused.
fn inside(text: &str) -> Result<PathBuf, String> {
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => {
                return Err(format!("{text} is outside of the build context"));
            }
            _ => {}
        }
    }
    Ok(path)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn digest(mut file: File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

impl Item {
    /// All that makes a difference in the image: not when it was changed.
    pub fn key(&self) -> String {
        let what = match &self.kind {
            Kind::File(digest) => format!("file {digest}"),
            Kind::Directory => "directory".to_owned(),
            Kind::Link(target) => format!("link {target:?}"),
            Kind::Device(kind, number) => format!("{kind:?} {number}"),
        };
        format!("{:?} {what} {:o} {}:{}", self.to, self.mode, self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(source: &Source, text: &str, expected: Result<&[&str], &str>) {
        let selected = source.select(text, &Ignore::default());
        match (selected, expected) {
            (Ok(selected), Ok(expected)) => {
                let items = selected.iter().flat_map(|s| &s.items);
                let paths: Vec<String> = items.map(|i| i.from.display().to_string()).collect();
                assert_eq!(paths, expected, "{text}");
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn nothing_outside_is_selected() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("context");
        fs::create_dir_all(root.join("d/e")).unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        for name in ["a.txt", "b.txt", "d/c.txt", "d/e/f", "d/skipped"] {
            fs::write(root.join(name), name).unwrap();
        }
        symlink("../secret", root.join("out")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("d", root.join("in")).unwrap();
        symlink("../../secret", root.join("d/inner")).unwrap();
        let context = Source::context(&root, Ignore::parse("**/skipped\nb.txt")).unwrap();
        check(&context, "a.txt", Ok(&["a.txt"]));
        check(&context, "/d/../a.txt", Ok(&["a.txt"]));
        check(&context, "*.txt", Ok(&["a.txt"]));
        check(&context, "d", Ok(&["d/c.txt", "d/e", "d/e/f", "d/inner"]));
        check(&context, "in/", Ok(&["in/c.txt", "in/e", "in/e/f", "in/inner"]));
        check(&context, "d/*.txt", Ok(&["d/c.txt"]));
        check(&context, "b.txt", Err("ignored"));
        check(&context, "none", Err("is not in the build context"));
        check(&context, "none*", Err("matches nothing"));
        check(&context, "../secret", Err("outside of the build context"));
        check(&context, "d/../../secret", Err("outside"));
        for out in ["out", "absolute", "up", "up/secret", "d/inner"] {
            check(&context, out, Err("leads out of the build context"));
        }
        let tree = Source::tree(rustix::fs::open(&root, OFlags::PATH, Mode::empty()).unwrap());
        check(&tree, "absolute", Err("is not in the source"));
        check(&tree, "up/a.txt", Ok(&["up/a.txt"]));
    }
}
