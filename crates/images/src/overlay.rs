//! Layers put on top of each other by overlayfs, seen through a descriptor: mounted nowhere until somebody attaches it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// Where changes go: directories of one filesystem.
#[derive(Debug, Clone, Copy)]
pub struct Writable<'a> {
    pub upper: &'a Path,
    pub work: &'a Path,
}

/// The merged tree of `lowers`, topmost first; read-only if nothing says where changes go.
pub fn overlay(lowers: &[PathBuf], writable: Option<Writable<'_>>) -> io::Result<OwnedFd> {
    match (lowers, writable) {
        // An overlay of one layer is that layer.
        ([only], None) => open(only),
        ([], Some(writable)) => open(writable.upper),
        ([], None) => Err(io::ErrorKind::NotFound.into()),
        _ => match mount(lowers, writable, true) {
            // Before Linux 6.5 layers are given at once.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => Ok(mount(lowers, writable, false)?),
            result => Ok(result?),
        },
    }
}

fn open(directory: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn mount(
    lowers: &[PathBuf],
    writable: Option<Writable<'_>>,
    one_by_one: bool,
) -> rustix::io::Result<OwnedFd> {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let set = |key: &str, value: &Path| fsconfig_set_string(overlay.as_fd(), key, value);
    set("source", Path::new("overlay"))?;
    if one_by_one {
        lowers.iter().try_for_each(|lower| set("lowerdir+", lower))?;
    } else {
        let all = lowers.iter().map(|l| l.as_os_str().as_bytes()).collect::<Vec<_>>().join(&b':');
        let all = CString::new(all).map_err(|_| rustix::io::Errno::INVAL)?;
        fsconfig_set_string(overlay.as_fd(), "lowerdir", all.as_c_str())?;
    }
    let attributes = match writable {
        Some(writable) => {
            set("upperdir", writable.upper)?;
            set("workdir", writable.work)?;
            // As our shim has it: nothing of what a container writes need outlive the machine.
            fsconfig_set_flag(overlay.as_fd(), "volatile")?;
            MountAttrFlags::empty()
        }
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    fsconfig_create(overlay.as_fd())?;
    fsmount(overlay.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}
