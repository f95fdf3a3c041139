//! Conversations with the runtime: framing, buffering, and what each connection is for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use shim_protocol::{Request, Response, socket, take_frame};

use crate::attach::Client;
use crate::exec::Running;
use crate::poll::{READ, Token, WRITE};
use crate::supervisor::Supervisor;
use crate::sys;

/// A peer that lets this much pile up is given up.
const MOST_UNSENT: usize = 1 << 20;

pub struct Connection {
    pub socket: UnixStream,
    received: Vec<u8>,
    fds: Vec<OwnedFd>,
    unsent: Vec<u8>,
    pub subscribed: bool,
    pub exec: Option<Running>,
    pub client: Option<Client>,
}

impl Supervisor {
    pub fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if !sys::is_same_user(socket.as_fd()) || socket.set_nonblocking(true).is_err() {
                continue;
            }
            let key = self.connections.insert(Connection {
                socket,
                received: Vec::new(),
                fds: Vec::new(),
                unsent: Vec::new(),
                subscribed: false,
                exec: None,
                client: None,
            });
            let watched = self
                .connections
                .get(key)
                .map(|c| self.poller.add(c.socket.as_fd(), Token::Connection(key), READ));
            if !matches!(watched, Some(Ok(()))) {
                self.connections.remove(key);
            }
        }
    }

    pub fn connection_ready(&mut self, key: usize) {
        if self.flush(key).is_err() {
            return self.close(key);
        }
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            let mut buffer = [0; 2048];
            match socket::receive(connection.socket.as_fd(), &mut buffer, &mut connection.fds) {
                Ok(0) => return self.close(key),
                Ok(n) => connection.received.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.close(key),
            }
            while let Some(connection) = self.connections.get_mut(key) {
                match take_frame(&mut connection.received)
                    .and_then(|f| f.map(|f| Request::decode(&f)).transpose())
                {
                    Ok(Some(request)) => {
                        let fds = std::mem::take(&mut connection.fds);
                        self.handle(key, request, fds);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        self.send(key, &Response::Failed { message: error.to_string() });
                        return self.close(key);
                    }
                }
            }
        }
    }

    pub fn send(&mut self, key: usize, response: &Response) {
        self.send_with(key, response, &[]);
    }

    /// Sends a response with files beside it.
    pub fn send_with(&mut self, key: usize, response: &Response, fds: &[BorrowedFd<'_>]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let frame = response.encode();
        if fds.is_empty() {
            connection.unsent.extend_from_slice(&frame);
        } else {
            match socket::send(connection.socket.as_fd(), &frame, fds) {
                Ok(n) => connection.unsent.extend_from_slice(&frame[n..]),
                Err(_) => return self.close(key),
            }
        }
        if self.flush(key).is_err() {
            self.close(key);
        }
    }

    fn flush(&mut self, key: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        while !connection.unsent.is_empty() {
            match socket::send(connection.socket.as_fd(), &connection.unsent, &[]) {
                Ok(n) => {
                    connection.unsent.drain(..n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && connection.unsent.len() <= MOST_UNSENT => {
                    return self.poller.add(connection.socket.as_fd(), Token::Connection(key), READ | WRITE);
                }
                Err(e) => return Err(e),
            }
        }
        self.poller.add(connection.socket.as_fd(), Token::Connection(key), READ)
    }

    pub fn close(&mut self, key: usize) {
        self.detach_client(key);
        if let Some(connection) = self.connections.remove(key) {
            self.poller.remove(connection.socket.as_fd());
        }
    }
}
