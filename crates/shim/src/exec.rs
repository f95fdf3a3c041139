//! Further processes in a container. Their stdio goes straight between the runtime and the process; the shim only starts and reaps.

use std::os::fd::{AsFd, OwnedFd};

use shim_protocol::{Exec, Exit, Response};

use crate::container::{self, read_pid};
use crate::launch::{self, Launch};
use crate::poll::{READ, Token};
use crate::stdio::Console;
use crate::supervisor::Supervisor;
use crate::sys;

/// An exec, as long as its connection lasts.
pub struct Running {
    container: String,
    pid_file: String,
    console: Option<Console>,
    launch: Option<Launch>,
    pub state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The OCI runtime, or the process on its way.
    Starting {
        child: i32,
    },
    Running {
        pid: i32,
    },
}

impl Supervisor {
    pub fn start_exec(&mut self, connection: usize, exec: Exec, fds: Vec<OwnedFd>) -> Result<(), String> {
        let target =
            self.find_container(&exec.container).and_then(|key| self.containers.get(key)).map(|c| c.state);
        let Some(container::State::Running { pid: target, .. }) = target else {
            return Err(format!("container {} is not running", exec.container));
        };
        let console = Console::listen(&exec.console).map_err(|e| format!("listen for the terminal: {e}"))?;
        let null = sys::null().map_err(|e| format!("open /dev/null: {e}"))?;
        let stdio = match fds.as_slice() {
            [stdin, stdout, stderr] => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            [] => [null.as_fd(), null.as_fd(), null.as_fd()],
            _ => return Err(format!("exec came with {} files instead of 3", fds.len())),
        };
        let (child, launch) = if exec.plan.is_empty() {
            (sys::spawn(&exec.argv, stdio).map_err(|e| format!("run the OCI runtime: {e}"))?, None)
        } else {
            let launch = launch::exec(&exec.plan, target, stdio).map_err(|e| format!("fork: {e}"))?;
            (launch.pid, Some(launch))
        };
        if let Some(launch) = &launch {
            let _ = self.poller.add(launch.channel.as_fd(), Token::ExecLaunch(connection), READ);
        }
        if let Some(c) = self.connections.get_mut(connection) {
            let state = State::Starting { child };
            c.exec =
                Some(Running { container: exec.container, pid_file: exec.pid_file, console, launch, state });
        }
        Ok(())
    }

    /// The process has told something, or executed its program.
    pub fn exec_launched(&mut self, connection: usize) {
        let Some(exec) = self.connections.get_mut(connection).and_then(|c| c.exec.as_mut()) else { return };
        let Some(launch) = &mut exec.launch else { return };
        let Some(outcome) = launch.outcome() else { return };
        self.poller.remove(launch.channel.as_fd());
        let pid = launch.pid;
        exec.launch = None;
        self.settle_exec(connection, outcome.map(|terminal| (pid, terminal)));
    }

    /// The child that was starting the process has ended; that may be the process itself.
    pub fn exec_starter_ended(&mut self, connection: usize, code: i32, at: i64) {
        let Some(exec) = self.connections.get_mut(connection).and_then(|c| c.exec.as_mut()) else { return };
        if exec.launch.is_some() {
            self.exec_launched(connection);
            return self.exec_ended(connection, code, at);
        }
        let console = exec.console.take();
        let started = match code {
            0 => read_pid(&exec.pid_file),
            code => Err(format!("the OCI runtime failed with exit code {code}")),
        };
        let outcome = started.and_then(|pid| {
            let terminal = console
                .map(Console::receive)
                .transpose()
                .map_err(|e| format!("receive the terminal: {e}"))?;
            Ok((pid, terminal))
        });
        self.settle_exec(connection, outcome);
    }

    /// The process runs, or never will.
    fn settle_exec(&mut self, connection: usize, outcome: Result<(i32, Option<OwnedFd>), String>) {
        let Some(exec) = self.connections.get_mut(connection).and_then(|c| c.exec.as_mut()) else { return };
        match outcome {
            Ok((pid, terminal)) => {
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
            Err(message) => {
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
        if let Some(Running { state: State::Running { pid }, .. }) =
            self.connections.get(connection).and_then(|c| c.exec.as_ref())
        {
            let _ = sys::kill(*pid, signal);
        }
    }
}
