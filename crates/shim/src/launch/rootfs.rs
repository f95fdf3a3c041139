//! A container's view of the filesystem.
//!
//! The image may be hostile: a symbolic link anywhere in it must not lead a mount to the host. So what comes from the host is
//! opened first, then the container's root becomes the root, and only then is anything looked up by a path of the container.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

use shim_protocol::{Device, Mount, Plan, Root};

use super::image;
use super::mountapi::{attach, clone_tree, filesystem, make_all_private, map, path, pivot, set};
use crate::sys::check;

/// What was taken of the host: the root filesystem, and for each mount its source if it is one of the host's.
pub struct Host {
    root: OwnedFd,
    sources: Vec<Option<OwnedFd>>,
}

/// Opens everything that is found by a path of the host, in a mount namespace of our own. Owners are mapped by `user`.
pub fn take(plan: &Plan, user: Option<BorrowedFd<'_>>) -> Result<Host, String> {
    let mut sources = Vec::with_capacity(plan.mounts.len());
    for mount in plan.mounts.iter().filter(|m| m.layers.is_empty()) {
        let bound = if mount.kind.is_empty() {
            Some(bind(mount, user).map_err(|e| failed(mount, &e))?)
        } else {
            None
        };
        sources.push(bound);
    }
    make_all_private().map_err(|e| format!("make mounts private: {e}"))?;
    for (position, mount) in plan.mounts.iter().enumerate().filter(|(_, m)| !m.layers.is_empty()) {
        let image = image::take(mount, user, &plan.root.target).map_err(|e| failed(mount, &e))?;
        sources.insert(position, Some(image));
    }
    let fail = |e: io::Error| format!("mount the root filesystem: {e}");
    if let Some(user) = user {
        plan.root.lower.iter().try_for_each(|layer| image::map_in_place(layer, user)).map_err(fail)?;
    }
    let root = overlay(&plan.root).map_err(fail)?;
    Ok(Host { root, sources })
}

/// Makes it the root.
pub fn enter(plan: &Plan, host: &Host) -> Result<(), String> {
    attach(host.root.as_fd(), &plan.root.target).map_err(|e| format!("attach the root filesystem: {e}"))?;
    pivot(&plan.root.target).map_err(|e| format!("change the root to {}: {e}", plan.root.target))
}

/// As [`enter`], where the host's paths are out of reach: it goes upon the current directory.
pub fn enter_here(plan: &Plan, host: &mut Host) -> Result<(), String> {
    // The kernel lets root of a user namespace mount these only as long as it sees those of the host.
    let kernels = plan.mounts.iter().zip(&mut host.sources);
    for (mount, source) in kernels.filter(|(m, _)| matches!(m.kind.as_str(), "proc" | "sysfs")) {
        *source = Some(new_filesystem(mount).map_err(|e| failed(mount, &e))?);
    }
    make_all_private().map_err(|e| format!("make mounts private: {e}"))?;
    attach(host.root.as_fd(), ".").map_err(|e| format!("attach the root filesystem: {e}"))?;
    // SAFETY: touches no memory.
    check(unsafe { libc::fchdir(host.root.as_raw_fd()) }).map_err(|e| format!("go to the root: {e}"))?;
    pivot(".").map_err(|e| format!("change the root: {e}"))
}

/// Everything else in it.
pub fn furnish(plan: &Plan, host: Host) -> Result<(), String> {
    drop(host.root);
    for (mount, source) in plan.mounts.iter().zip(host.sources) {
        place(mount, source).map_err(|e| failed(mount, &e))?;
    }
    if plan.mounts.iter().any(|m| m.target == "/dev" && m.kind == "tmpfs") {
        links().map_err(|e| format!("make links in /dev: {e}"))?;
    }
    for device in &plan.devices {
        make_device(device).map_err(|e| format!("make device {}: {e}", device.path))?;
    }
    fs::create_dir_all(&plan.process.cwd)
        .map_err(|e| format!("make working directory {:?}: {e}", plan.process.cwd))?;
    for path in &plan.readonly_paths {
        ignore_missing(make_readonly(path)).map_err(|e| format!("make {path} read-only: {e}"))?;
    }
    mask(&plan.masked_paths)?;
    if plan.root.readonly {
        File::open("/")
            .and_then(|root| set(root.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, false))
            .map_err(|e| format!("make the root filesystem read-only: {e}"))?;
    }
    Ok(())
}

fn failed(mount: &Mount, error: &io::Error) -> String {
    let what = match (&mount.kind, &mount.source) {
        _ if !mount.layers.is_empty() => "an image",
        (kind, source) if kind.is_empty() => source,
        (kind, _) => kind,
    };
    format!("mount {what} at {}: {error}", mount.target)
}

fn overlay(root: &Root) -> io::Result<OwnedFd> {
    let mut options: Vec<(&str, Option<&str>)> =
        root.lower.iter().map(|l| ("lowerdir+", Some(l.as_str()))).collect();
    // What a container writes does not outlive it, and it does not outlive the machine: so nothing of it is synchronised. The
    // end of a container would otherwise wait for all that anybody has written to that disk.
    let upper =
        [("upperdir", Some(root.upper.as_str())), ("workdir", Some(root.work.as_str())), ("volatile", None)];
    options.extend(upper);
    match filesystem("overlay", "overlay", &options, 0) {
        // Before Linux 6.5 layers are given at once.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            let lower = root.lower.join(":");
            filesystem("overlay", "overlay", &[("lowerdir", Some(&lower)), upper[0], upper[1], upper[2]], 0)
        }
        result => result,
    }
}

/// Takes a file or directory of the host.
fn bind(mount: &Mount, user: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let tree = clone_tree(&mount.source)?;
    if let Some(user) = user.filter(|_| mount.mapped) {
        map(tree.as_fd(), user).map_err(|e| io::Error::other(format!("map its owners: {e}")))?;
    }
    if mount.propagation != 0 {
        set(tree.as_fd(), 0, mount.propagation, true)?;
    }
    if mount.attributes != 0 {
        set(tree.as_fd(), mount.attributes, 0, mount.recursive)?;
    }
    Ok(tree)
}

fn new_filesystem(mount: &Mount) -> io::Result<OwnedFd> {
    let options: Vec<_> = mount
        .options
        .iter()
        .map(|o| o.split_once('=').map_or((o.as_str(), None), |(k, v)| (k, Some(v))))
        .collect();
    filesystem(&mount.kind, &mount.source, &options, mount.attributes)
}

fn place(mount: &Mount, source: Option<OwnedFd>) -> io::Result<()> {
    let Some(source) = source else {
        fs::create_dir_all(&mount.target)?;
        return attach(new_filesystem(mount)?.as_fd(), &mount.target);
    };
    if File::from(source.try_clone()?).metadata()?.is_dir() {
        fs::create_dir_all(&mount.target)?;
    } else {
        make_file(&mount.target)?;
    }
    attach(source.as_fd(), &mount.target)
}

/// A file to mount upon.
fn make_file(target: &str) -> io::Result<()> {
    if let Some(parent) = Path::new(target).parent() {
        fs::create_dir_all(parent)?;
    }
    if Path::new(target).exists() {
        return Ok(());
    }
    File::options().write(true).create(true).truncate(false).open(target).map(drop)
}

fn links() -> io::Result<()> {
    for (target, link) in [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
        ("/proc/kcore", "/dev/core"),
        ("pts/ptmx", "/dev/ptmx"),
    ] {
        match symlink(target, link) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
    }
    Ok(())
}

fn make_device(device: &Device) -> io::Result<()> {
    if let Some(parent) = Path::new(&device.path).parent() {
        fs::create_dir_all(parent)?;
    }
    let name = path(&device.path)?;
    let number = libc::makedev(device.major, device.minor);
    // SAFETY: the path lives through the calls. The umask does not go for chmod.
    unsafe {
        match check(libc::mknod(name.as_ptr(), device.mode, number)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            result => result?,
        };
        check(libc::chmod(name.as_ptr(), device.mode & 0o7777))?;
        check(libc::lchown(name.as_ptr(), device.uid, device.gid))?;
    }
    Ok(())
}

/// Mounts a path upon itself, read-only.
fn make_readonly(path: &str) -> io::Result<()> {
    let tree = clone_tree(path)?;
    set(tree.as_fd(), libc::MOUNT_ATTR_RDONLY, 0, true)?;
    attach(tree.as_fd(), path)
}

/// Hides files behind `/dev/null` and directories behind an empty one.
fn mask(paths: &[String]) -> Result<(), String> {
    // The first directory that is hidden: the others get another sight of the same filesystem.
    let mut empty: Option<&str> = None;
    for target in paths {
        let mut masked = || -> io::Result<()> {
            let metadata = fs::metadata(target)?;
            if !metadata.is_dir() {
                let null = clone_tree("/dev/null")?;
                // An image's /dev/null is whatever the image says, where /dev is not ours.
                if !File::from(null.try_clone()?).metadata()?.file_type().is_char_device() {
                    return Err(io::Error::other("/dev/null is not a device"));
                }
                return attach(null.as_fd(), target);
            }
            if let Some(empty) = empty {
                return attach(clone_tree(empty)?.as_fd(), target);
            }
            let attributes = libc::MOUNT_ATTR_RDONLY
                | libc::MOUNT_ATTR_NOSUID
                | libc::MOUNT_ATTR_NODEV
                | libc::MOUNT_ATTR_NOEXEC;
            let tmpfs =
                filesystem("tmpfs", "tmpfs", &[("size", Some("0")), ("nr_inodes", Some("1"))], attributes)?;
            attach(tmpfs.as_fd(), target)?;
            empty = Some(target);
            Ok(())
        };
        ignore_missing(masked()).map_err(|e| format!("mask {target}: {e}"))?;
    }
    Ok(())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        result => result,
    }
}
