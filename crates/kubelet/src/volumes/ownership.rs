//! `fsGroup`: a volume belongs to the group, its files are group-accessible, new files inherit the group.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::Path;

use super::VolumeError;

/// Gives everything below `dir` to `group`. With `read_only`, the group may only read.
pub fn own_tree(dir: &Path, group: Option<u32>, read_only: bool) -> Result<(), VolumeError> {
    let Some(group) = group else { return Ok(()) };
    own(dir, group, read_only)?;
    let entries = fs::read_dir(dir).map_err(|error| VolumeError::io("read", dir, error))?;
    for entry in entries {
        let entry = entry.map_err(|error| VolumeError::io("read", dir, error))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|error| VolumeError::io("stat", &path, error))?;
        if kind.is_dir() {
            own_tree(&path, Some(group), read_only)?;
        } else if kind.is_symlink() {
            lchown(&path, None, Some(group)).map_err(|error| VolumeError::io("chown", &path, error))?;
        } else {
            own(&path, group, read_only)?;
        }
    }
    Ok(())
}

/// Whether the root of a volume is already as [`own_tree`] leaves it.
pub fn is_owned(dir: &Path, group: u32) -> bool {
    let wanted = 0o2070;
    fs::symlink_metadata(dir)
        .is_ok_and(|meta| meta.gid() == group && meta.permissions().mode() & wanted == wanted)
}

fn own(path: &Path, group: u32, read_only: bool) -> Result<(), VolumeError> {
    let meta = fs::symlink_metadata(path).map_err(|error| VolumeError::io("stat", path, error))?;
    if meta.gid() != group {
        chown(path, None, Some(group)).map_err(|error| VolumeError::io("chown", path, error))?;
    }
    let mut mode = meta.permissions().mode() & 0o7777;
    mode |= if read_only { 0o440 } else { 0o660 };
    if meta.is_dir() {
        mode |= 0o2110;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| VolumeError::io("chmod", path, error))
}
