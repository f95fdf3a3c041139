//! A container's root filesystem: the image's layers below a writable one, by overlayfs.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

use crate::{Error, Result};

/// A mount to be made: by the shim where only the container sees it, or here for an OCI runtime that wants to find it.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// Topmost first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub target: PathBuf,
}

impl Overlay {
    /// Makes the directories.
    pub fn prepare(&self) -> Result<()> {
        for directory in [&self.upper, &self.work, &self.target] {
            fs::create_dir_all(directory).map_err(Error::io("make", directory))?;
        }
        Ok(())
    }

    pub fn mount(&self) -> Result<()> {
        let writable = images::Writable { upper: &self.upper, work: &self.work };
        let tree = images::overlay(&self.lower, Some(writable))
            .map_err(Error::io("mount overlayfs for", &self.target))?;
        move_mount(tree.as_fd(), "", CWD, &self.target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(Error::errno("mount overlayfs on", &self.target))
    }
}

/// Unmounts a root filesystem, if it is mounted here.
pub fn unmount_root(target: &Path) -> Result<()> {
    match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(Error::errno("unmount", target)(e)),
    }
}
