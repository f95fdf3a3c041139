//! The epoll set and what its tokens mean.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::stdio::Stream;

/// What became ready. Numbers are keys of the connection or container table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Listener,
    Children,
    Connection(usize),
    /// A container wrote.
    Output(usize, Stream),
    /// A container reads its stdin again.
    Stdin(usize),
    /// An attached client sent stdin.
    ClientInput(usize),
    /// An attached client takes output again.
    ClientOutput(usize, Stream),
    /// A container's first process tells how its making went.
    Launch(usize),
    /// As [`Token::Launch`], of a connection's exec.
    ExecLaunch(usize),
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, key, stream) = match self {
            Self::Listener => (0, 0, Stream::Stdout),
            Self::Children => (1, 0, Stream::Stdout),
            Self::Connection(key) => (2, key, Stream::Stdout),
            Self::Output(key, stream) => (3, key, stream),
            Self::Stdin(key) => (4, key, Stream::Stdout),
            Self::ClientInput(key) => (5, key, Stream::Stdout),
            Self::ClientOutput(key, stream) => (6, key, stream),
            Self::Launch(key) => (7, key, Stream::Stdout),
            Self::ExecLaunch(key) => (8, key, Stream::Stdout),
        };
        kind << 40 | (stream as u64) << 32 | key as u64
    }

    fn unpack(token: u64) -> Self {
        let key = (token & 0xffff_ffff) as usize;
        let stream = if token >> 32 & 1 == 0 { Stream::Stdout } else { Stream::Stderr };
        match token >> 40 {
            0 => Self::Listener,
            1 => Self::Children,
            2 => Self::Connection(key),
            3 => Self::Output(key, stream),
            4 => Self::Stdin(key),
            5 => Self::ClientInput(key),
            6 => Self::ClientOutput(key, stream),
            7 => Self::Launch(key),
            _ => Self::ExecLaunch(key),
        }
    }
}

pub const READ: u32 = libc::EPOLLIN as u32;
pub const WRITE: u32 = libc::EPOLLOUT as u32;

pub struct Poller(OwnedFd);

impl Poller {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; the result is a new descriptor or an error.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fd was just made and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn add(&self, fd: BorrowedFd<'_>, token: Token, interest: u32) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_ADD, fd, token, interest) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {
                self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
            }
            result => result,
        }
    }

    /// Stops watching; that a file was not watched is no error.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, Token::Listener, 0);
    }

    fn control(&self, operation: i32, fd: BorrowedFd<'_>, token: Token, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token.pack() };
        // SAFETY: event lives through the call.
        let result =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub fn wait(&self, ready: &mut Vec<Token>) -> io::Result<()> {
        ready.clear();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        // SAFETY: the array lives through the call and its length is passed.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as i32, -1) };
        if n < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        ready.extend(events.iter().take(n as usize).map(|e| Token::unpack(e.u64)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        for token in [
            Token::Listener,
            Token::Children,
            Token::Connection(7),
            Token::Output(3, Stream::Stderr),
            Token::Output(0, Stream::Stdout),
            Token::Stdin(1),
            Token::ClientInput(2),
            Token::ClientOutput(9, Stream::Stderr),
            Token::Launch(4),
            Token::ExecLaunch(5),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
