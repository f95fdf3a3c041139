//! Children born in their control group: entering one from outside makes all processors take notice, which takes ten
//! milliseconds and holds up every fork on the machine. Only version 2 can do it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use crate::sys::check;

/// As the kernel has it; the one of `libc` is cut off.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The group's directory, if there is one group and it is of version 2.
pub fn birthplace(entrances: &[String]) -> Option<OwnedFd> {
    let [entrance] = entrances else { return None };
    let entrance = Path::new(entrance);
    (entrance.file_name()? == "cgroup.procs").then_some(())?;
    Some(File::open(entrance.parent()?).ok()?.into())
}

/// As fork, with `CLONE_NEW*` flags; this process has one thread, so the child may go on as it likes.
pub fn fork_into(flags: i32, group: &OwnedFd) -> io::Result<i32> {
    // SAFETY: the structure is plain data for which zero is valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(flags as u32) | CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = group.as_raw_fd() as u64;
    let size = size_of::<libc::clone_args>();
    // SAFETY: the structure lives through the call and the size is its own; with no stack given it is fork.
    check(unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) as i32 })
}
