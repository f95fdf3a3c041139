//! Stopping everything in a host, and letting it go on: to its peers, a machine that hangs.

use std::collections::HashSet;
use std::io;

use rustix::process::{Pid, Signal, kill_process};

use super::Identity;

/// Stops every process of the host. What starts meanwhile is found by looking again, parents being stopped first.
pub fn pause(host: &Identity) -> io::Result<()> {
    let mut stopped = HashSet::new();
    loop {
        let running: Vec<i32> = host.tree().into_iter().filter(|pid| !stopped.contains(pid)).collect();
        if running.is_empty() {
            return Ok(());
        }
        for pid in running {
            signal(pid, Signal::STOP)?;
            stopped.insert(pid);
        }
    }
}

/// Lets them go on, children first, so that nobody finds a child stopped.
pub fn resume(host: &Identity) -> io::Result<()> {
    host.tree().into_iter().rev().try_for_each(|pid| signal(pid, Signal::CONT))
}

fn signal(pid: i32, signal: Signal) -> io::Result<()> {
    match Pid::from_raw(pid).map(|pid| kill_process(pid, signal)) {
        // It has ended meanwhile.
        None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(errno)) => Err(errno.into()),
    }
}
