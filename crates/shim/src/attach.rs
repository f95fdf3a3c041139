//! Clients attached to a container's stdio. A client that reads slowly slows the container down rather than losing output.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use shim_protocol::{Attach, Response};

use crate::container::State;
use crate::poll::{READ, Token, WRITE};
use crate::stdio::{STREAMS, Stream};
use crate::supervisor::Supervisor;
use crate::sys;

pub struct Client {
    container: usize,
    stdin: Option<OwnedFd>,
    output: [Option<OwnedFd>; 2],
    /// What the client has not taken yet, by stream.
    pending: [Vec<u8>; 2],
    /// Sent when everything pending is: the container has ended.
    last_word: Option<Response>,
}

impl Client {
    fn is_behind(&self) -> bool {
        self.pending.iter().any(|p| !p.is_empty())
    }
}

impl Supervisor {
    pub fn attach(&mut self, connection: usize, attach: Attach, fds: Vec<OwnedFd>) -> Result<(), String> {
        let container = self
            .find_container(&attach.container)
            .filter(|key| self.containers.get(*key).is_some_and(|c| matches!(c.state, State::Running { .. })))
            .ok_or_else(|| format!("container {} is not running", attach.container))?;
        let mut fds = fds.into_iter().inspect(|fd| sys::set_nonblocking(fd.as_fd()));
        let mut take = |wanted: bool| match wanted {
            true => fds.next().map(Some).ok_or_else(|| "attach came with too few files".to_owned()),
            false => Ok(None),
        };
        let client = Client {
            container,
            stdin: take(attach.stdin)?,
            output: [take(attach.stdout)?, take(attach.stderr)?],
            pending: [Vec::new(), Vec::new()],
            last_word: None,
        };
        if let Some(stdin) = &client.stdin {
            let _ = self.poller.add(stdin.as_fd(), Token::ClientInput(connection), READ);
        }
        let Some(c) = self.connections.get_mut(connection) else { return Ok(()) };
        c.client = Some(client);
        self.send(connection, &Response::Done);
        Ok(())
    }

    fn clients_of(&self, container: usize) -> Vec<usize> {
        let of = |c: &Client| c.container == container;
        self.connections
            .iter()
            .filter(|(_, c)| c.client.as_ref().is_some_and(of))
            .map(|(key, _)| key)
            .collect()
    }

    pub fn has_slow_client(&self, container: usize) -> bool {
        let slow = |c: &Client| c.container == container && c.is_behind();
        self.connections.iter().any(|(_, c)| c.client.as_ref().is_some_and(slow))
    }

    pub fn copy_to_clients(&mut self, container: usize, stream: Stream, bytes: &[u8]) {
        for key in self.clients_of(container) {
            let Some(client) = self.connections.get_mut(key).and_then(|c| c.client.as_mut()) else {
                continue;
            };
            if client.output[stream as usize].is_some() {
                client.pending[stream as usize].extend_from_slice(bytes);
                self.client_output(key, stream);
            }
        }
    }

    /// Passes on what is pending for a client.
    pub fn client_output(&mut self, key: usize, stream: Stream) {
        let Some(client) = self.connections.get_mut(key).and_then(|c| c.client.as_mut()) else { return };
        let was_behind = client.is_behind();
        let pending = &mut client.pending[stream as usize];
        let mut gone = false;
        if let Some(fd) = &client.output[stream as usize] {
            while !pending.is_empty() {
                match sys::write(fd.as_fd(), pending) {
                    Ok(n) => {
                        pending.drain(..n);
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        *pending = Vec::new();
                        gone = true;
                    }
                }
            }
            if pending.is_empty() {
                self.poller.remove(fd.as_fd());
            } else {
                let _ = self.poller.add(fd.as_fd(), Token::ClientOutput(key, stream), WRITE);
            }
        }
        if gone {
            client.output[stream as usize] = None;
        }
        let (container, caught_up) = (client.container, was_behind && !client.is_behind());
        let last_word = if client.is_behind() { None } else { client.last_word.take() };
        if caught_up {
            self.watch_output(container);
        }
        if let Some(last_word) = last_word {
            self.detach_client(key);
            self.send(key, &last_word);
        }
    }

    /// The container has ended: its clients hear of it once they have its last output.
    pub fn end_clients(&mut self, container: usize, event: &Response) {
        for key in self.clients_of(container) {
            if let Some(client) = self.connections.get_mut(key).and_then(|c| c.client.as_mut()) {
                client.last_word = Some(event.clone());
            }
            for stream in STREAMS {
                self.client_output(key, stream);
            }
        }
    }

    /// Lets all clients of a container go, with what they have.
    pub fn drop_clients(&mut self, container: usize) {
        for key in self.clients_of(container) {
            let client = self.connections.get_mut(key).and_then(|c| c.client.as_mut());
            let last_word = client.and_then(|c| c.last_word.take());
            self.detach_client(key);
            if let Some(last_word) = last_word {
                self.send(key, &last_word);
            }
        }
    }

    /// A client wrote to the container's stdin.
    pub fn client_input(&mut self, key: usize) {
        let mut buffer = [0; 4 << 10];
        let Some(client) = self.connections.get_mut(key).and_then(|c| c.client.as_mut()) else { return };
        let Some(fd) = &client.stdin else { return };
        let Some(container) = self.containers.get_mut(client.container) else { return };
        if !container.stdio.stdin_pending.is_empty() {
            // Read on when the container has taken what it has.
            return self.poller.remove(fd.as_fd());
        }
        match sys::read(fd.as_fd(), &mut buffer) {
            Ok(n) if n > 0 => {
                if container.stdio.stdin.is_some() {
                    container.stdio.stdin_pending.extend_from_slice(&buffer[..n]);
                }
                let container = client.container;
                self.stdin_ready(container);
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Ok(_) | Err(_) => self.end_input(key),
        }
    }

    /// Writes pending stdin to the container, and lets clients go on when it has taken all.
    pub fn stdin_ready(&mut self, key: usize) {
        let Some(container) = self.containers.get_mut(key) else { return };
        let stdio = &mut container.stdio;
        let Some(fd) = &stdio.stdin else { return };
        while !stdio.stdin_pending.is_empty() {
            match sys::write(fd.as_fd(), &stdio.stdin_pending) {
                Ok(n) => {
                    stdio.stdin_pending.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let _ = self.poller.add(fd.as_fd(), Token::Stdin(key), WRITE);
                    return;
                }
                Err(_) => {
                    stdio.stdin_pending = Vec::new();
                    self.poller.remove(fd.as_fd());
                    stdio.stdin = None;
                    break;
                }
            }
        }
        if let Some(fd) = &stdio.stdin {
            self.poller.remove(fd.as_fd());
        }
        self.close_finished_stdin(key);
        for client in self.clients_of(key) {
            if let Some(fd) = self.connections.get(client).and_then(|c| c.client.as_ref()?.stdin.as_ref()) {
                let _ = self.poller.add(fd.as_fd(), Token::ClientInput(client), READ);
            }
        }
    }

    /// A client's stdin ended.
    fn end_input(&mut self, key: usize) {
        let Some(client) = self.connections.get_mut(key).and_then(|c| c.client.as_mut()) else { return };
        let container = client.container;
        let Some(fd) = client.stdin.take() else { return };
        self.poller.remove(fd.as_fd());
        if let Some(container) = self.containers.get_mut(container) {
            container.stdin_ended = container.start.stdin_once && !container.stdio.terminal;
        }
        self.close_finished_stdin(container);
    }

    /// Closes the container's stdin after the one client it was for, and not before everything of it was passed on.
    fn close_finished_stdin(&mut self, key: usize) {
        let Some(container) = self.containers.get_mut(key) else { return };
        if container.stdin_ended && container.stdio.stdin_pending.is_empty() {
            container.stdio.stdin = None;
        }
    }

    /// Lets go of a client; its connection stays.
    pub fn detach_client(&mut self, key: usize) {
        self.end_input(key);
        let Some(client) = self.connections.get_mut(key).and_then(|c| c.client.take()) else { return };
        for fd in client.output.iter().flatten() {
            // The runtime holds the same file, so closing ours would not end the watch.
            self.poller.remove(fd.as_fd());
        }
        self.watch_output(client.container);
    }
}
