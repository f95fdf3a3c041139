//! Which process it is: a number, and when it started, for numbers are used again.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub pid: i32,
    /// In clock ticks since the machine started.
    pub started: u64,
}

impl Identity {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: started(pid)? })
    }

    pub fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Something that stays this process, unless it has ended.
    pub fn open(&self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        // Only now is it certain whose it is.
        self.is_alive().then_some(fd)
    }

    /// Ends the process and waits until it has ended. One that has ended already is fine.
    pub fn kill(&self) -> io::Result<()> {
        let Some(fd) = self.open() else { return Ok(()) };
        match pidfd_send_signal(&fd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        wait(&fd)
    }

    /// Waits until the process has ended.
    pub fn wait(&self) -> io::Result<()> {
        self.open().map_or(Ok(()), |fd| wait(&fd))
    }

    /// A namespace of it, by the kernel's name for the kind, such as `net`.
    pub fn namespace(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.pid))
    }

    /// The process and all below it, parents first: of a host's first process, everything in the host.
    pub fn tree(&self) -> Vec<i32> {
        let mut found = if self.is_alive() { vec![self.pid] } else { Vec::new() };
        let mut next = 0;
        while let Some(pid) = found.get(next).copied() {
            next += 1;
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
        }
        found
    }
}

fn wait(process: &OwnedFd) -> io::Result<()> {
    let mut wait = [PollFd::new(process, PollFlags::IN)];
    loop {
        match rustix::event::poll(&mut wait, None) {
            Err(rustix::io::Errno::INTR) => {}
            done => return done.map(|_| ()).map_err(io::Error::from),
        }
    }
}

/// The 22nd field of stat; what stands before may contain anything, up to the last parenthesis. Nothing for a process
/// that has ended and waits to be collected.
fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_known_until_it_ends() {
        let mut child = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let identity = Identity::of(child.id().cast_signed()).unwrap();
        assert!(identity.is_alive());
        assert!(!Identity { started: identity.started + 1, ..identity }.is_alive());
        assert!(Identity { started: identity.started + 1, ..identity }.open().is_none());
        // The shell may not have come so far yet.
        let tree = loop {
            let tree = identity.tree();
            if tree.len() == 2 {
                break tree;
            }
            std::thread::yield_now();
        };
        assert_eq!(tree[0], identity.pid);
        let below = Identity::of(tree[1]).unwrap();
        identity.kill().unwrap();
        assert!(!identity.is_alive());
        child.wait().unwrap();
        below.kill().unwrap();
        identity.kill().unwrap();
    }
}
