//! Running a command in a host.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Identity;

const BEFORE_EXEC: [(&str, LinkNameSpaceType); 4] = [
    ("net", LinkNameSpaceType::Network),
    ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
    ("ipc", LinkNameSpaceType::InterProcessCommunication),
    // The last: it takes the others' files out of sight.
    ("mnt", LinkNameSpaceType::Mount),
];

/// Starts `command` in the host, where its program is looked up too.
pub fn run_inside(host: &Identity, mut command: Command) -> io::Result<Child> {
    let open = |kind: &str| File::open(host.namespace(kind));
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the host's first process has ended");
    let processes = open("pid")?;
    let mut others = Vec::new();
    for (kind, flag) in BEFORE_EXEC {
        others.push((open(kind)?, flag));
    }
    if !host.is_alive() {
        return Err(gone());
    }
    let enter = move || {
        for (namespace, kind) in &others {
            move_into_link_name_space(namespace.as_fd(), Some(*kind))?;
        }
        rustix::process::chdir("/")?;
        Ok(())
    };
    // SAFETY: only system calls on open descriptors; nothing is allocated.
    unsafe {
        command.pre_exec(enter);
    }
    // A process namespace holds for children of the thread that enters it: a thread for this alone.
    std::thread::scope(|scope| {
        let start = || {
            move_into_link_name_space(processes.as_fd(), Some(LinkNameSpaceType::ProcessID))?;
            command.spawn()
        };
        scope.spawn(start).join().unwrap_or_else(|_| Err(gone()))
    })
}
