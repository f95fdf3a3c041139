//! Further processes in a container. Their stdio goes straight between the runtime and the process; the shim only starts and reaps.

use std::os::fd::{AsFd, OwnedFd};

use shim_protocol::{Exec, Exit, Response};

use crate::container::read_pid;
use crate::stdio::Console;
use crate::supervisor::Supervisor;
use crate::sys;

/// An exec, as long as its connection lasts.
pub struct Running {
    container: String,
    pid_file: String,
    console: Option<Console>,
    pub state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Starting { runtime: i32 },
    Running { pid: i32 },
}

impl Supervisor {
    pub fn start_exec(&mut self, connection: usize, exec: Exec, fds: Vec<OwnedFd>) -> Result<(), String> {
        let console = Console::listen(&exec.console).map_err(|e| format!("listen for the terminal: {e}"))?;
        let null = sys::null().map_err(|e| format!("open /dev/null: {e}"))?;
        let stdio = match fds.as_slice() {
            [stdin, stdout, stderr] => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            [] => [null.as_fd(), null.as_fd(), null.as_fd()],
            _ => return Err(format!("exec came with {} files instead of 3", fds.len())),
        };
        let runtime = sys::spawn(&exec.argv, stdio).map_err(|e| format!("run the OCI runtime: {e}"))?;
        if let Some(c) = self.connections.get_mut(connection) {
            let state = State::Starting { runtime };
            c.exec = Some(Running { container: exec.container, pid_file: exec.pid_file, console, state });
        }
        Ok(())
    }

    /// The OCI runtime has ended: the process runs, or never will.
    pub fn exec_started(&mut self, connection: usize, code: i32) {
        let Some(exec) = self.connections.get_mut(connection).and_then(|c| c.exec.as_mut()) else { return };
        let console = exec.console.take();
        let pid = match code {
            0 => read_pid(&exec.pid_file),
            code => Err(format!("the OCI runtime failed with exit code {code}")),
        };
        let terminal = console.map(Console::receive).transpose().map_err(|e| format!("receive the terminal: {e}"));
        match (pid, terminal) {
            (Ok(pid), Ok(terminal)) => {
                exec.state = State::Running { pid };
                let event = Response::Started { container: exec.container.clone(), pid, at: sys::now() };
                match &terminal {
                    Some(terminal) => self.send_with(connection, &event, &[terminal.as_fd()]),
                    None => self.send(connection, &event),
                }
                if let Some((code, at)) = self.claim(pid) {
                    self.exec_ended(connection, code, at);
                }
            }
            (Err(message), _) | (_, Err(message)) => {
                if let Some(c) = self.connections.get_mut(connection) {
                    c.exec = None;
                }
                self.send(connection, &Response::Failed { message });
            }
        }
    }

    pub fn exec_ended(&mut self, connection: usize, code: i32, at: i64) {
        let exec = self.connections.get_mut(connection).and_then(|c| c.exec.take());
        if let Some(exec) = exec {
            let exit = Exit { code, at, oom_killed: false };
            self.send(connection, &Response::Exited { container: exec.container, exit });
        }
    }

    pub fn signal_exec(&mut self, connection: usize, signal: i32) {
        if let Some(Running { state: State::Running { pid }, .. }) = self.connections.get(connection).and_then(|c| c.exec.as_ref()) {
            let _ = sys::kill(*pid, signal);
        }
    }
}
