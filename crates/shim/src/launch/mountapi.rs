//! The system calls that make and move mounts.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::check;

#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

pub fn path(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn new(result: libc::c_long) -> io::Result<OwnedFd> {
    let fd = check(result as i32)?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A copy of what is at a path, with all that is mounted below, attached nowhere.
pub fn clone_tree(source: &str) -> io::Result<OwnedFd> {
    let source = path(source)?;
    let flags = libc::OPEN_TREE_CLONE as i32 | libc::OPEN_TREE_CLOEXEC as i32 | libc::AT_RECURSIVE;
    // SAFETY: the path lives through the call.
    new(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) })
}

/// A new filesystem, attached nowhere.
pub fn filesystem(
    kind: &str,
    source: &str,
    options: &[(&str, Option<&str>)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let kind = path(kind)?;
    // SAFETY: the name lives through the call.
    let context = new(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
    configure(&context, FSCONFIG_SET_STRING, Some("source"), Some(source))?;
    for (key, value) in options {
        let command = if value.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG };
        configure(&context, command, Some(key), *value)?;
    }
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: touches no memory.
    new(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes as u32)
    })
}

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

fn configure(context: &OwnedFd, command: u32, key: Option<&str>, value: Option<&str>) -> io::Result<()> {
    let key = key.map(path).transpose()?;
    let value = value.map(path).transpose()?;
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: both strings live through the call.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(&key), pointer(&value), 0)
    };
    check(result as i32).map(drop)
}

/// A copy of what is open, as [`clone_tree`].
pub fn clone_at(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE as i32 | libc::OPEN_TREE_CLOEXEC as i32 | libc::AT_EMPTY_PATH;
    // SAFETY: a constant path.
    new(unsafe { libc::syscall(libc::SYS_open_tree, file.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Opens a path below a directory; neither a link nor `..` leads out of it.
pub fn open_inside(root: BorrowedFd<'_>, inside: &str) -> io::Result<OwnedFd> {
    let inside = path(inside)?;
    // SAFETY: the structure is plain data for which zero is valid.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let size = size_of::<libc::open_how>();
    // SAFETY: path and structure live through the call, and the size is the structure's.
    new(unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), inside.as_ptr(), &raw const how, size) })
}

/// Takes off what is mounted upon a path.
pub fn detach(target: &str) -> io::Result<()> {
    let target = path(target)?;
    // SAFETY: the path lives through the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(drop)
}

/// Maps the owners of files on a mount, and of what is mounted below, by a user namespace.
pub fn map(mount: BorrowedFd<'_>, user: BorrowedFd<'_>) -> io::Result<()> {
    let value = MountAttributes {
        set: libc::MOUNT_ATTR_IDMAP,
        userns: user.as_raw_fd() as u64,
        ..MountAttributes::default()
    };
    change(mount, &value, true)
}

/// Sets attributes and propagation of a mount, or of it and all below.
pub fn set(mount: BorrowedFd<'_>, attributes: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    change(mount, &MountAttributes { set: attributes, propagation, ..MountAttributes::default() }, recursive)
}

fn change(mount: BorrowedFd<'_>, value: &MountAttributes, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: both live through the call and the size is that of the attributes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(value),
            size_of::<MountAttributes>(),
        )
    };
    check(result as i32).map(drop)
}

/// Attaches a mount.
pub fn attach(mount: BorrowedFd<'_>, target: &str) -> io::Result<()> {
    let target = path(target)?;
    // SAFETY: both strings live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(result as i32).map(drop)
}

/// Nothing that is mounted from here on is seen by others, nor what others mount by us.
pub fn make_all_private() -> io::Result<()> {
    let null = std::ptr::null();
    // SAFETY: only a constant path is read.
    check(unsafe { libc::mount(null, c"/".as_ptr(), null, libc::MS_REC | libc::MS_PRIVATE, null.cast()) })
        .map(drop)
}

/// Makes a directory the root, and lets go of the old one.
pub fn pivot(root: &str) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    // SAFETY: constant paths. The old root ends up on top of the new one, and "." is it, until it is detached.
    unsafe {
        check(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) as i32)?;
        check(libc::umount2(c".".as_ptr(), libc::MNT_DETACH))?;
    }
    std::env::set_current_dir("/")
}
