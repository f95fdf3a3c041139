//! Containers: started through an OCI runtime, watched, logged, and their end recorded.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use shim_protocol::{Exit, Response, Start, Status};

use crate::launch::{self, Launch};
use crate::log::Log;
use crate::poll::{READ, Token};
use crate::stdio::{Console, STREAMS, Stdio, Stream};
use crate::supervisor::Supervisor;
use crate::sys;

/// Reads of a full pipe: a pipe holds 1 MiB at most.
const DRAIN_ROUNDS: usize = 80;

pub struct Container {
    pub start: Start,
    pub state: State,
    pub log: Log,
    pub stdio: Stdio,
    console: Option<Console>,
    /// The first process, as long as it carries out its plan.
    launch: Option<Launch>,
    /// The client that stdin was kept open for has gone.
    pub stdin_ended: bool,
}

#[derive(Clone, Copy)]
pub enum State {
    /// The OCI runtime runs, or the first process is on its way; who asked for it hears of the outcome.
    Starting {
        child: i32,
        requester: usize,
    },
    Running {
        pid: i32,
        at: i64,
    },
    Exited {
        at: i64,
        exit: Exit,
    },
}

impl Container {
    pub fn status(&self) -> Status {
        match self.state {
            State::Starting { .. } => Status::Starting,
            State::Running { pid, at } => Status::Running { pid, at },
            State::Exited { at, exit } => Status::Exited { at, exit },
        }
    }

    pub fn resize(&mut self, width: u32, height: u32) -> Result<(), String> {
        match self.stdio.output(Stream::Stdout) {
            Some(terminal) if self.stdio.terminal => sys::set_terminal_size(terminal, width, height)
                .map_err(|e| format!("resize the terminal: {e}")),
            _ => Err("the container has no terminal".to_owned()),
        }
    }
}

impl Supervisor {
    pub fn start_container(&mut self, requester: usize, start: Start) -> Result<(), String> {
        if self.find_container(&start.container).is_some() {
            return Err(format!("container {} has been started already", start.container));
        }
        let log = Log::open(&start.log_file).map_err(|e| format!("open log file {}: {e}", start.log_file))?;
        let console = Console::listen(&start.console).map_err(|e| format!("listen for the terminal: {e}"))?;
        let stdio = |e: io::Error| format!("make stdio: {e}");
        let (ours, theirs) = if console.is_some() || (start.terminal && !start.plan.is_empty()) {
            (
                Stdio::default(),
                [sys::null().map_err(stdio)?, sys::null().map_err(stdio)?, sys::null().map_err(stdio)?],
            )
        } else {
            Stdio::pipes(start.stdin).map_err(stdio)?
        };
        let ends = [theirs[0].as_fd(), theirs[1].as_fd(), theirs[2].as_fd()];
        let (child, launch) = if start.plan.is_empty() {
            (sys::spawn(&start.argv, ends).map_err(|e| format!("run the OCI runtime: {e}"))?, None)
        } else {
            let user = self.user_namespace.as_ref().map(AsFd::as_fd);
            let launch = launch::container(&start.plan, &start.pid_namespace, ends, user)
                .map_err(|e| format!("fork: {e}"))?;
            (launch.pid, Some(launch))
        };
        let state = State::Starting { child, requester };
        let key = self.containers.insert(Container {
            start,
            state,
            log,
            stdio: ours,
            console,
            launch,
            stdin_ended: false,
        });
        if let Some(launch) = self.containers.get(key).and_then(|c| c.launch.as_ref()) {
            let _ = self.poller.add(launch.channel.as_fd(), Token::Launch(key), READ);
        }
        self.watch_output(key);
        Ok(())
    }

    /// The first process has told something, or executed its program.
    pub fn container_launched(&mut self, key: usize) {
        let Some(container) = self.containers.get_mut(key) else { return };
        let Some(launch) = &mut container.launch else { return };
        let outcome = launch.outcome();
        let pid = launch.pid;
        if let State::Starting { child, .. } = &mut container.state {
            *child = pid;
        }
        let Some(outcome) = outcome else { return };
        self.poller.remove(launch.channel.as_fd());
        container.launch = None;
        let stdin = container.start.stdin;
        let outcome = outcome.and_then(|terminal| match terminal {
            Some(master) => Stdio::terminal(master, stdin)
                .map(|stdio| container.stdio = stdio)
                .map_err(|e| format!("take the terminal: {e}")),
            None => Ok(()),
        });
        self.settle(key, outcome.map(|()| pid));
    }

    /// The child that was starting the container has ended. If that is the first process itself, so has the container.
    pub fn starter_ended(&mut self, key: usize, ended: i32, code: i32, at: i64) {
        let Some(container) = self.containers.get_mut(key) else { return };
        if container.launch.is_some() {
            self.container_launched(key);
            let state = self.containers.get(key).map(|c| c.state);
            if matches!(state, Some(State::Running { pid, .. }) if pid == ended) {
                self.container_ended(key, code, at);
            }
            return;
        }
        let outcome = started(container, code);
        self.settle(key, outcome);
    }

    /// The container runs, or never will.
    fn settle(&mut self, key: usize, outcome: Result<i32, String>) {
        let Some(container) = self.containers.get_mut(key) else { return };
        let State::Starting { requester, .. } = container.state else { return };
        match outcome {
            Ok(pid) => {
                let at = sys::now();
                container.state = State::Running { pid, at };
                let event = Response::Started { container: container.start.container.clone(), pid, at };
                self.watch_output(key);
                self.publish(&event);
                if self.connections.get(requester).is_some_and(|c| !c.subscribed) {
                    self.send(requester, &event);
                }
                if let Some((code, at)) = self.claim(pid) {
                    self.container_ended(key, code, at);
                }
            }
            Err(message) => {
                if let Some(container) = self.containers.remove(key) {
                    self.unwatch(&container);
                }
                self.send(requester, &Response::Failed { message });
            }
        }
    }

    /// The container's first process has ended. Everything it wrote comes before the news of its end.
    pub fn container_ended(&mut self, key: usize, code: i32, at: i64) {
        for stream in STREAMS {
            // As much as a pipe holds, and no more: somebody outside may still have its other end and write on.
            for _ in 0..DRAIN_ROUNDS {
                if !self.read_output(key, stream) {
                    break;
                }
            }
        }
        let Some(container) = self.containers.get_mut(key) else { return };
        let State::Running { at: started_at, .. } = container.state else { return };
        for stream in STREAMS {
            container.log.finish(stream);
        }
        let exit = Exit { code, at, oom_killed: oom_killed(&container.start.oom_file) };
        record(&container.start.exit_file, exit);
        container.state = State::Exited { at: started_at, exit };
        let stdio = std::mem::take(&mut container.stdio);
        container.log = Log::none();
        let event = Response::Exited { container: container.start.container.clone(), exit };
        for stream in STREAMS {
            stdio.output(stream).inspect(|fd| self.poller.remove(*fd));
        }
        stdio.stdin.as_ref().inspect(|fd| self.poller.remove(fd.as_fd()));
        self.publish(&event);
        self.end_clients(key, &event);
    }

    pub fn kill_container(&mut self, id: &str, signal: i32) -> Result<(), String> {
        let container = self.find_container(id).and_then(|key| self.containers.get(key));
        match container.map(|c| c.state) {
            // A process that has ended keeps its number until we reap it, so the signal cannot hit a stranger.
            Some(State::Running { pid, .. }) => {
                sys::kill(pid, signal).map_err(|e| format!("signal process {pid}: {e}"))
            }
            Some(State::Exited { .. }) => Ok(()),
            Some(State::Starting { .. }) => Err(format!("container {id} is still starting")),
            None => Err(format!("container {id} is not in this pod")),
        }
    }

    pub fn kill_all(&mut self) {
        for (_, container) in self.containers.iter() {
            if let State::Running { pid, .. } | State::Starting { child: pid, .. } = container.state {
                let _ = sys::kill(pid, libc::SIGKILL);
            }
        }
    }

    pub fn forget_container(&mut self, id: &str) -> Result<(), String> {
        let Some(key) = self.find_container(id) else { return Ok(()) };
        match self.containers.get(key).map(|c| c.state) {
            Some(State::Exited { .. }) => {
                // The key may become another container's, whose output is none of theirs.
                self.drop_clients(key);
                self.containers.remove(key);
                Ok(())
            }
            _ => Err(format!("container {id} has not ended")),
        }
    }

    /// Reads output as it comes, unless an attached client is behind.
    pub fn watch_output(&mut self, key: usize) {
        let blocked = self.has_slow_client(key);
        let Some(container) = self.containers.get(key) else { return };
        for stream in STREAMS {
            let Some(fd) = container.stdio.output(stream) else { continue };
            if blocked {
                self.poller.remove(fd);
            } else {
                let _ = self.poller.add(fd, Token::Output(key, stream), READ);
            }
        }
    }

    pub fn output_ready(&mut self, key: usize, stream: Stream) {
        self.read_output(key, stream);
        if self.has_slow_client(key) {
            self.watch_output(key);
        }
    }

    /// Reads once; false if there is nothing more for now.
    fn read_output(&mut self, key: usize, stream: Stream) -> bool {
        let mut buffer = [0; 16 << 10];
        let Some(container) = self.containers.get_mut(key) else { return false };
        let Some(fd) = container.stdio.output(stream) else { return false };
        match sys::read(fd, &mut buffer) {
            Ok(n) if n > 0 => {
                container.log.write(stream, &buffer[..n]);
                self.copy_to_clients(key, stream, &buffer[..n]);
                true
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => true,
            // A pipe that every writer closed; a terminal that nobody has open says EIO.
            Ok(_) | Err(_) => {
                self.poller.remove(fd);
                container.stdio.output[stream as usize] = None;
                false
            }
        }
    }

    fn unwatch(&self, container: &Container) {
        for stream in STREAMS {
            container.stdio.output(stream).inspect(|fd| self.poller.remove(*fd));
        }
    }
}

/// Takes what the OCI runtime left: the process id and perhaps a terminal.
fn started(container: &mut Container, code: i32) -> Result<i32, String> {
    let console = container.console.take();
    if code != 0 {
        return Err(format!("the OCI runtime failed with exit code {code}"));
    }
    let pid = read_pid(&container.start.pid_file)?;
    if let Some(console) = console {
        let terminal = console.receive().and_then(|master| Stdio::terminal(master, container.start.stdin));
        container.stdio = terminal.map_err(|e| format!("receive the terminal: {e}"))?;
    }
    Ok(pid)
}

pub fn read_pid(path: &str) -> Result<i32, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("read process id from {path}: {e}"))?;
    text.trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or_else(|| format!("{path} holds no process id: {text:?}"))
}

/// Whether the kernel's count of processes it killed for want of memory is above zero.
fn oom_killed(path: &str) -> bool {
    let Ok(text) = fs::read_to_string(path) else { return false };
    text.lines().filter_map(|l| l.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
}

/// Writes beside and renames, so that a reader never sees half of it.
fn record(path: &str, exit: Exit) {
    let beside = format!("{path}.new");
    if fs::write(&beside, exit.to_line()).is_ok() {
        let _ = fs::rename(&beside, path);
    }
}
