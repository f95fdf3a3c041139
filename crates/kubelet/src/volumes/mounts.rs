//! Mounting and unmounting on the node.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, move_mount, open_tree, unmount,
};

use super::VolumeError;

/// A tmpfs at `path`, unless there is one already.
pub fn tmpfs(path: &Path, size: Option<i64>) -> Result<(), VolumeError> {
    // Everybody may write, and remove what is theirs.
    let mut options = String::from("mode=1777");
    if let Some(size) = size {
        options.push_str(&format!(",size={size}"));
    }
    filesystem(path, c"tmpfs", &options)
}

pub fn hugetlbfs(path: &Path, page_size: Option<&str>) -> Result<(), VolumeError> {
    let options = match page_size {
        // As mount(8) takes it: `2M`, not `2Mi`.
        Some(size) => format!("pagesize={}", size.trim_end_matches('i')),
        None => String::new(),
    };
    filesystem(path, c"hugetlbfs", &options)
}

fn filesystem(path: &Path, kind: &std::ffi::CStr, options: &str) -> Result<(), VolumeError> {
    fs::create_dir_all(path).map_err(|error| VolumeError::io("create", path, error))?;
    if is_mount_point(path) {
        return Ok(());
    }
    let options = CString::new(options).map_err(|error| VolumeError::Invalid(error.to_string()))?;
    mount(kind, path, kind, MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str())
        .map_err(|error| VolumeError::io("mount a file system at", path, error))
}

/// Something is mounted right at `path`.
pub fn is_mount_point(path: &Path) -> bool {
    // A bind mount of the same file system has the same device: the kernel tells such by an ID of the mount.
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    match statx(CWD, path, flags, StatxFlags::BASIC_STATS) {
        Ok(found) => found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        Err(_) => false,
    }
}

/// Shows what the descriptor `from` is open on at `to`, which exists.
pub fn bind(from: impl AsFd, to: &Path) -> Result<(), VolumeError> {
    let failed = |error: rustix::io::Errno| VolumeError::io("bind-mount to", to, error);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(from, c"", flags).map_err(failed)?;
    move_mount(tree, c"", CWD, to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)
}

/// The mount points of this mount namespace.
pub struct Mounts(Vec<PathBuf>);

impl Mounts {
    pub fn read() -> std::io::Result<Self> {
        let text = fs::read_to_string("/proc/self/mountinfo")?;
        let points = text.lines().filter_map(|line| line.split(' ').nth(4));
        Ok(Self(points.map(unescape).collect()))
    }

    pub fn below<'a>(&'a self, dir: &'a Path) -> impl DoubleEndedIterator<Item = &'a Path> {
        let points = self.0.iter().map(PathBuf::as_path);
        points.filter(move |point| point.starts_with(dir))
    }
}

/// `\040` is a space, and so on.
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Unmounts everything at and below `dir`, the last mounted first. Lazily: a process that still looks at a volume
/// must not keep its pod from going.
pub fn unmount_below(dir: &Path) -> Result<(), VolumeError> {
    let mounts = Mounts::read().map_err(|error| VolumeError::io("read the mounts below", dir, error))?;
    for point in mounts.below(dir).rev() {
        match unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(VolumeError::io("unmount", point, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        for (text, expected) in
            [("/a", "/a"), ("/a\\040b", "/a b"), ("/x\\134y", "/x\\y"), ("/t\\04", "/t\\04")]
        {
            assert_eq!(unescape(text), PathBuf::from(expected));
        }
    }
}
