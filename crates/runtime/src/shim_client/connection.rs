//! Frames and files over one connection, without blocking a thread.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use shim_protocol::{Request, Response, socket, take_frame};
use tokio::io::Interest;
use tokio::net::UnixStream;

const SOCKET: &str = "shim.sock";

pub struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

impl Connection {
    /// Connects to the socket in a directory, through a descriptor of it: a socket's path may be 107 bytes at most.
    pub async fn open(directory: &Path) -> io::Result<Self> {
        let directory = rustix::fs::openat(CWD, directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
        let stream = UnixStream::connect(path).await?;
        Ok(Self { stream, received: Vec::new(), fds: Vec::new() })
    }

    pub async fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let frame = request.encode();
        let mut sent = 0;
        while sent < frame.len() {
            let fds = if sent == 0 { fds } else { &[] };
            let send = || socket::send(self.stream.as_fd(), &frame[sent..], fds);
            sent += self.stream.async_io(Interest::WRITABLE, send).await?;
        }
        Ok(())
    }

    /// `None` when the shim has closed.
    pub async fn next(&mut self) -> io::Result<Option<Response>> {
        loop {
            if let Some(frame) = take_frame(&mut self.received).map_err(io::Error::other)? {
                return Response::decode(&frame).map(Some).map_err(io::Error::other);
            }
            let mut buffer = [0; 2048];
            let mut fds = Vec::new();
            let receive = || socket::receive(self.stream.as_fd(), &mut buffer, &mut fds);
            let n = self.stream.async_io(Interest::READABLE, receive).await?;
            self.fds.append(&mut fds);
            if n == 0 {
                return Ok(None);
            }
            self.received.extend_from_slice(&buffer[..n]);
        }
    }
}
