//! The state of the shim and its loop.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use shim_protocol::{ContainerState, Request, Response};

use crate::connection::Connection;
use crate::container::Container;
use crate::poll::{Poller, READ, Token};
use crate::slab::Slab;
use crate::sys;

/// The socket's name in the sandbox's directory.
const SOCKET: &str = "shim.sock";

pub struct Supervisor {
    pub poller: Poller,
    pub listener: UnixListener,
    pub children: OwnedFd,
    /// The pod's, if it has one.
    pub user_namespace: Option<OwnedFd>,
    pub containers: Slab<Container>,
    pub connections: Slab<Connection>,
    /// Children that ended before we learned what they are: process id, exit code, time.
    pub unclaimed: Vec<(i32, i32, i64)>,
    pub stopping: bool,
}

impl Supervisor {
    pub fn new(user_namespace: Option<OwnedFd>) -> io::Result<Self> {
        let poller = Poller::new()?;
        let _ = fs::remove_file(SOCKET);
        let listener =
            UnixListener::bind(SOCKET).map_err(|e| io::Error::other(format!("listen on {SOCKET}: {e}")))?;
        listener.set_nonblocking(true)?;
        poller.add(listener.as_fd(), Token::Listener, READ)?;
        let children = sys::child_signal()?;
        poller.add(children.as_fd(), Token::Children, READ)?;
        Ok(Self {
            poller,
            listener,
            children,
            user_namespace,
            containers: Slab::new(),
            connections: Slab::new(),
            unclaimed: Vec::new(),
            stopping: false,
        })
    }

    pub fn run(&mut self) {
        let mut ready = Vec::with_capacity(16);
        while !self.stopping {
            if self.poller.wait(&mut ready).is_err() {
                return;
            }
            for &token in &ready {
                match token {
                    Token::Listener => self.accept(),
                    Token::Children => self.reap_children(),
                    Token::Connection(key) => self.connection_ready(key),
                    Token::Output(key, stream) => self.output_ready(key, stream),
                    Token::Stdin(key) => self.stdin_ready(key),
                    Token::ClientInput(key) => self.client_input(key),
                    Token::ClientOutput(key, stream) => self.client_output(key, stream),
                    Token::Launch(key) => self.container_launched(key),
                    Token::ExecLaunch(key) => self.exec_launched(key),
                }
            }
        }
    }

    pub fn handle(&mut self, connection: usize, request: Request, fds: Vec<OwnedFd>) {
        let result = match request {
            Request::Subscribe => {
                self.subscribe(connection);
                Ok(())
            }
            Request::Start(start) => self.start_container(connection, start),
            Request::Exec(exec) => self.start_exec(connection, exec, fds),
            Request::Attach(attach) => self.attach(connection, attach, fds),
            Request::Signal { signal } => {
                self.signal_exec(connection, signal);
                Ok(())
            }
            Request::Kill { container, signal } => {
                self.kill_container(&container, signal).map(|()| self.done(connection))
            }
            Request::Forget { container } => {
                self.forget_container(&container).map(|()| self.done(connection))
            }
            Request::ReopenLog { container } => self
                .with_container(&container, |c| c.log.reopen().map_err(|e| format!("reopen log: {e}")))
                .map(|()| self.done(connection)),
            Request::Resize { container, width, height } => {
                self.with_container(&container, |c| c.resize(width, height)).map(|()| self.done(connection))
            }
            Request::Shutdown => {
                self.kill_all();
                self.done(connection);
                self.stopping = true;
                Ok(())
            }
        };
        if let Err(message) = result {
            self.send(connection, &Response::Failed { message });
        }
    }

    fn done(&mut self, connection: usize) {
        self.send(connection, &Response::Done);
    }

    fn subscribe(&mut self, connection: usize) {
        let containers = self
            .containers
            .iter()
            .map(|(_, c)| ContainerState { container: c.start.container.clone(), status: c.status() })
            .collect();
        self.send(connection, &Response::State { containers });
        if let Some(c) = self.connections.get_mut(connection) {
            c.subscribed = true;
        }
    }

    /// Tells every subscriber.
    pub fn publish(&mut self, event: &Response) {
        for key in self.connections.keys() {
            if self.connections.get(key).is_some_and(|c| c.subscribed) {
                self.send(key, event);
            }
        }
    }

    pub fn find_container(&self, id: &str) -> Option<usize> {
        self.containers.iter().find(|(_, c)| c.start.container == id).map(|(key, _)| key)
    }

    fn with_container(
        &mut self,
        id: &str,
        act: impl FnOnce(&mut Container) -> Result<(), String>,
    ) -> Result<(), String> {
        let container = self.find_container(id).and_then(|key| self.containers.get_mut(key));
        act(container.ok_or_else(|| format!("container {id} is not in this pod"))?)
    }
}
