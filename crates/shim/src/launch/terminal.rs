//! A terminal inside the container: the master side goes to the shim, the other becomes stdin, stdout and stderr.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;

use shim_protocol::{Process, socket};

use super::mountapi::{attach, clone_tree};
use crate::sys::check;

/// `console` also mounts it at `/dev/console`.
pub fn open(process: &Process, channel: &UnixStream, console: bool) -> io::Result<()> {
    let master = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/pts/ptmx")?;
    let mut number: libc::c_uint = 0;
    let unlocked: libc::c_int = 0;
    // SAFETY: the numbers live through the calls; the peer is a new descriptor, duplicated over ours, none of which anybody owns.
    let peer = unsafe {
        check(libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked))?;
        check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number))?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let peer = OwnedFd::from_raw_fd(check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))?);
        check(libc::fchown(peer.as_raw_fd(), process.uid, libc::gid_t::MAX))?;
        check(libc::ioctl(peer.as_raw_fd(), libc::TIOCSCTTY, 0))?;
        for fd in 0..3 {
            check(libc::dup2(peer.as_raw_fd(), fd))?;
        }
        peer
    };
    if console && std::path::Path::new("/dev").join("pts").is_dir() {
        File::options().write(true).create(true).truncate(false).open("/dev/console")?;
        attach(clone_tree(&format!("/dev/pts/{number}"))?.as_fd(), "/dev/console")?;
    }
    drop(peer);
    socket::send(channel.as_fd(), &[0], &[master.as_fd()]).map(drop)
}
