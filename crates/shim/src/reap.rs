//! Children that end: OCI runtimes, containers' first processes, execs, and orphans of theirs that became ours.

use std::os::fd::AsFd;

use crate::container;
use crate::exec;
use crate::supervisor::Supervisor;
use crate::sys;

/// What a child is to us. Numbers are keys of the connection or container table.
enum Child {
    Starter(usize),
    Container(usize),
    ExecStarter(usize),
    Exec(usize),
}

impl Supervisor {
    pub fn reap_children(&mut self) {
        // One signal may stand for many children; what it says is of no interest.
        while sys::read(self.children.as_fd(), &mut [0; 512]).is_ok() {}
        while let Some((pid, code)) = sys::reap() {
            let at = sys::now();
            match self.child(pid) {
                Some(Child::Starter(key)) => self.starter_ended(key, pid, code, at),
                Some(Child::Container(key)) => self.container_ended(key, code, at),
                Some(Child::ExecStarter(key)) => self.exec_starter_ended(key, code, at),
                Some(Child::Exec(key)) => self.exec_ended(key, code, at),
                // It may be the process that an OCI runtime still running is about to tell us of.
                None => self.unclaimed.push((pid, code, at)),
            }
        }
        if !self.is_starting() {
            self.unclaimed = Vec::new();
        }
    }

    /// How a process ended that was reaped before we knew what it is.
    pub fn claim(&mut self, pid: i32) -> Option<(i32, i64)> {
        let position = self.unclaimed.iter().position(|(p, ..)| *p == pid)?;
        let (_, code, at) = self.unclaimed.swap_remove(position);
        Some((code, at))
    }

    fn child(&self, pid: i32) -> Option<Child> {
        let of_container = self.containers.iter().find_map(|(key, c)| match c.state {
            container::State::Starting { child, .. } if child == pid => Some(Child::Starter(key)),
            container::State::Running { pid: p, .. } if p == pid => Some(Child::Container(key)),
            _ => None,
        });
        of_container.or_else(|| {
            self.connections.iter().find_map(|(key, c)| match c.exec.as_ref()?.state {
                exec::State::Starting { child } if child == pid => Some(Child::ExecStarter(key)),
                exec::State::Running { pid: p } if p == pid => Some(Child::Exec(key)),
                _ => None,
            })
        })
    }

    /// Whether an OCI runtime is at work.
    fn is_starting(&self) -> bool {
        self.containers.iter().any(|(_, c)| matches!(c.state, container::State::Starting { .. }))
            || self.connections.iter().any(|(_, c)| {
                c.exec.as_ref().is_some_and(|e| matches!(e.state, exec::State::Starting { .. }))
            })
    }
}
