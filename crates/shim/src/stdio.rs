//! The ends of a container's stdin, stdout and stderr that the shim holds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use shim_protocol::socket;

use crate::sys;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout = 0,
    Stderr = 1,
}

pub const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

#[derive(Default)]
pub struct Stdio {
    /// By stream; a terminal has only the first.
    pub output: [Option<OwnedFd>; 2],
    pub stdin: Option<OwnedFd>,
    /// What the container has not taken yet.
    pub stdin_pending: Vec<u8>,
    pub terminal: bool,
}

impl Stdio {
    /// Pipes, and their other ends for the container.
    pub fn pipes(stdin: bool) -> io::Result<(Self, [OwnedFd; 3])> {
        let (stdout, stdout_end) = sys::pipe()?;
        let (stderr, stderr_end) = sys::pipe()?;
        sys::set_nonblocking(stdout.as_fd());
        sys::set_nonblocking(stderr.as_fd());
        let (stdin_end, stdin) = if stdin {
            let (end, writer) = sys::pipe()?;
            sys::set_nonblocking(writer.as_fd());
            (end, Some(writer))
        } else {
            (sys::null()?, None)
        };
        let ours = Self { output: [Some(stdout), Some(stderr)], stdin, ..Self::default() };
        Ok((ours, [stdin_end, stdout_end, stderr_end]))
    }

    /// Both directions through the master side of a terminal.
    pub fn terminal(master: OwnedFd, stdin: bool) -> io::Result<Self> {
        sys::set_nonblocking(master.as_fd());
        let stdin = if stdin { Some(sys::duplicate(&master)?) } else { None };
        Ok(Self { output: [Some(master), None], stdin, terminal: true, ..Self::default() })
    }

    pub fn output(&self, stream: Stream) -> Option<BorrowedFd<'_>> {
        self.output[stream as usize].as_ref().map(AsFd::as_fd)
    }
}

/// The socket on which an OCI runtime hands over the terminal it made.
pub struct Console {
    name: String,
    listener: UnixListener,
}

impl Console {
    /// Listens in the current directory; `None` if no terminal is wanted.
    pub fn listen(name: &str) -> io::Result<Option<Self>> {
        if name.is_empty() {
            return Ok(None);
        }
        if name.contains('/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let _ = std::fs::remove_file(name);
        let listener = UnixListener::bind(name)?;
        listener.set_nonblocking(true)?;
        Ok(Some(Self { name: name.to_owned(), listener }))
    }

    /// The terminal. To be called when the OCI runtime has ended, so that it is already there.
    pub fn receive(self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let mut fds = Vec::new();
        socket::receive(stream.as_fd(), &mut [0; 512], &mut fds)?;
        fds.into_iter().next().ok_or_else(|| io::Error::other("the OCI runtime sent no terminal"))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.name);
    }
}
