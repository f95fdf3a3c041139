//! From the host's user namespace into the pod's, and into mount and PID namespaces that belong to it.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::SUCCESSOR;
use crate::sys::check;
use crate::userns::become_root;

/// Where to.
pub struct Entry<'a> {
    pub user: BorrowedFd<'a>,
    /// `CLONE_NEWPID`, if the container has a PID namespace of its own.
    pub pid_flags: i32,
    /// The PID namespace to join otherwise.
    pub pid: Option<OwnedFd>,
}

/// Goes on in a child of the shim's that is in all of them; this process ends. The shim hears who goes on.
pub fn enter(entry: &Entry<'_>, channel: &UnixStream) -> io::Result<()> {
    if let Some(namespace) = &entry.pid {
        set(namespace.as_raw_fd(), libc::CLONE_NEWPID)?;
    }
    set(entry.user.as_raw_fd(), libc::CLONE_NEWUSER)?;
    become_root()?;
    let flags = entry.pid_flags | libc::CLONE_NEWNS | libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: with no stack given, clone is fork; this process has one thread, so the child may go on as it likes.
    let child = check(unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0, 0, 0, 0) as i32 })?;
    if child == 0 {
        // SAFETY: touches no memory. Whatever changing ids has made of it.
        unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
        return Ok(());
    }
    let mut line = vec![SUCCESSOR];
    line.extend_from_slice(format!("{child}\n").as_bytes());
    let told = (&mut &*channel).write_all(&line);
    // SAFETY: ends this process without running what belongs to the shim.
    unsafe { libc::_exit(i32::from(told.is_err())) };
}

fn set(namespace: i32, kind: i32) -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::setns(namespace, kind) }).map(drop)
}
