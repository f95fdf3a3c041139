//! A pod's user namespace, in which its other namespaces are made, so that root of the pod may do in them what root may.
//!
//! The shim itself stays outside: it has to mount what only the host's root may mount. A child goes in, makes the
//! namespaces and hands them over by staying alive until the shim has entered them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::namespaces::{self, Options};
use crate::sys::check;

/// Returns the user namespace, and the first process of the pod's PID namespace (0 if there is none).
pub fn make(options: &Options) -> io::Result<(OwnedFd, i32)> {
    let (mut ours, theirs) = UnixStream::pair()?;
    // SAFETY: this process has one thread, so the child may go on as it likes; it never returns from here.
    let child = check(unsafe { libc::fork() })?;
    if child == 0 {
        drop(ours);
        let mut channel = theirs;
        if let Err(error) = inside(options, &mut channel) {
            let _ = channel.write_all(format!("!{error}").as_bytes());
        }
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(0) };
    }
    drop(theirs);
    let made = from_outside(options, child, &mut ours);
    drop(ours);
    // SAFETY: waits for a child of ours, which ends when its channel closes.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    made
}

fn from_outside(options: &Options, child: i32, channel: &mut UnixStream) -> io::Result<(OwnedFd, i32)> {
    word(channel)?;
    for (file, lines) in [("uid_map", &options.uids), ("gid_map", &options.gids)] {
        let path = format!("/proc/{child}/{file}");
        fs::write(&path, lines.join("\n")).map_err(|e| io::Error::other(format!("write {path}: {e}")))?;
    }
    channel.write_all(b"mapped\n")?;
    let pod_init =
        word(channel)?.parse().map_err(|_| io::Error::other("the user namespace has no first process"))?;
    let open = |kind: &str| File::open(format!("/proc/{child}/ns/{kind}"));
    let user = open("user")?;
    for (kind, flag) in
        [("net", libc::CLONE_NEWNET), ("ipc", libc::CLONE_NEWIPC), ("uts", libc::CLONE_NEWUTS)]
    {
        if namespaces::flags(options) & flag != 0 {
            let namespace = open(kind)?;
            // SAFETY: touches no memory.
            check(unsafe { libc::setns(namespace.as_raw_fd(), flag) })
                .map_err(|e| io::Error::other(format!("enter the pod's {kind} namespace: {e}")))?;
        }
    }
    Ok((user.into(), pod_init))
}

fn inside(options: &Options, channel: &mut UnixStream) -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) })
        .map_err(|e| io::Error::other(format!("make a user namespace: {e}")))?;
    channel.write_all(b"new\n")?;
    word(channel)?;
    become_root()?;
    let pod_init = namespaces::make(options, libc::CLONE_PARENT)?;
    channel.write_all(format!("{pod_init}\n").as_bytes())?;
    // Until the shim is in them: then it closes.
    let _ = channel.read(&mut [0]);
    Ok(())
}

/// Root of the user namespace that this process is in, with no groups of the host.
pub fn become_root() -> io::Result<()> {
    // SAFETY: no memory is passed but an empty list.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(0, 0, 0))?;
        check(libc::setresuid(0, 0, 0))?;
    }
    Ok(())
}

/// A line of the other side; one that begins with `!` is its error.
fn word(channel: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while channel.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    match line.strip_prefix('!') {
        Some(error) => Err(io::Error::other(error.to_owned())),
        None if line.is_empty() => Err(io::ErrorKind::UnexpectedEof.into()),
        None => Ok(line),
    }
}
