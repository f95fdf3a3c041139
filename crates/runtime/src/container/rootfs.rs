//! A container's root filesystem: the image's layers below a writable one, by overlayfs.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

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

    /// Mounts, one layer after the other, so that neither their number nor their names are limited by the page that
    /// mount(2) takes its options in.
    pub fn mount(&self) -> Result<()> {
        let fail = Error::errno("mount overlayfs on", &self.target);
        let made = || {
            let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(overlay.as_fd(), "source", "overlay")?;
            for lower in &self.lower {
                fsconfig_set_string(overlay.as_fd(), "lowerdir+", lower)?;
            }
            fsconfig_set_string(overlay.as_fd(), "upperdir", &self.upper)?;
            fsconfig_set_string(overlay.as_fd(), "workdir", &self.work)?;
            fsconfig_create(overlay.as_fd())?;
            let mount = fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
            move_mount(mount.as_fd(), "", CWD, &self.target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        };
        match made() {
            Ok(()) => Ok(()),
            // Before Linux 6.5 layers are given at once.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => self.mount_at_once(),
            Err(e) => Err(fail(e)),
        }
    }

    fn mount_at_once(&self) -> Result<()> {
        let lower: Vec<String> = self.lower.iter().map(|l| l.display().to_string()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            self.upper.display(),
            self.work.display()
        );
        let options =
            std::ffi::CString::new(options).map_err(|e| Error::io("mount", &self.target)(e.into()))?;
        rustix::mount::mount(
            "overlay",
            &self.target,
            "overlay",
            rustix::mount::MountFlags::empty(),
            options.as_c_str(),
        )
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
