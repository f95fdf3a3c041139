//! A netlink socket: requests acknowledged, dumps collected, the kernel's own words kept in errors.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{self, MsgFlags, NetlinkAddr, sockopt};

use super::align;
use super::attribute::Attributes;
use super::message::{HEADER, Message};

/// Dumps come in pieces of at most this size; the kernel fits them to the buffer it is read into.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// The kernel refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelError {
    pub errno: i32,
    /// What it says beside the number (extended acknowledgement), if anything.
    pub text: Option<String>,
}

impl std::fmt::Display for KernelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for KernelError {}

impl From<io::Error> for KernelError {
    fn from(error: io::Error) -> Self {
        Self {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            text: error.raw_os_error().is_none().then(|| error.to_string()),
        }
    }
}

impl From<nix::Error> for KernelError {
    fn from(error: nix::Error) -> Self {
        Self { errno: error as i32, text: None }
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// What follows the netlink header: family header and attributes, or an error number.
    pub body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// The attributes behind a family header of `header` bytes.
    pub fn attributes(&self, header: usize) -> Attributes<'a> {
        Attributes::new(self.body.get(align(header)..).unwrap_or_default())
    }

    /// The verdict on a request, when this is one (`NLMSG_ERROR`, with zero for success, or `NLMSG_DONE`).
    pub fn verdict(&self) -> Option<Result<(), KernelError>> {
        let error = i32::from(self.kind) == libc::NLMSG_ERROR;
        if !error && i32::from(self.kind) != libc::NLMSG_DONE {
            return None;
        }
        let code = self.body.get(..4).and_then(|bytes| bytes.try_into().ok());
        let errno = code.map_or(0, i32::from_ne_bytes).saturating_neg();
        if errno <= 0 {
            return Some(Ok(()));
        }
        // With NETLINK_CAP_ACK the request's header alone is echoed, then come the attributes.
        let capped = self.flags & NLM_F_CAPPED != 0;
        let echoed = match self.body.get(4..8).and_then(|bytes| bytes.try_into().ok()) {
            Some(length) if !capped => u32::from_ne_bytes(length) as usize,
            _ => HEADER,
        };
        let skipped = if error { 4 + align(echoed) } else { 4 };
        let attributes = Attributes::new(self.body.get(skipped..).unwrap_or_default());
        let text = attributes.find_kind(NLMSGERR_ATTR_MSG).and_then(|a| a.str());
        Some(Err(KernelError { errno, text: text.map(str::to_owned) }))
    }
}

const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The messages in one received datagram; stops at the first that is cut short.
pub(crate) fn replies(mut rest: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[0..4].try_into().ok()?) as usize;
        let reply = Reply {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes(header[8..12].try_into().ok()?),
            body: rest.get(HEADER..length)?,
        };
        rest = rest.get(align(length)..).unwrap_or_default();
        Some(reply)
    })
}

/// A netlink socket of one protocol, in the network namespace in which it was opened.
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Links, addresses, routes.
    pub fn route() -> Result<Self, KernelError> {
        Self::open(libc::NETLINK_ROUTE)
    }

    /// nftables and conntrack.
    pub fn netfilter() -> Result<Self, KernelError> {
        Self::open(libc::NETLINK_NETFILTER)
    }

    /// What happens to links, addresses and routes: the messages of these groups (`RTMGRP_*`).
    pub fn route_events(groups: u32) -> Result<Self, KernelError> {
        Self::open_for(libc::NETLINK_ROUTE, groups)
    }

    fn open(protocol: i32) -> Result<Self, KernelError> {
        Self::open_for(protocol, 0)
    }

    fn open_for(protocol: i32, groups: u32) -> Result<Self, KernelError> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: plain system call; the result is checked before use.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error().into());
        }
        // SAFETY: the descriptor was just made and belongs to nothing else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            set_option(&fd, option)?;
        }
        if protocol == libc::NETLINK_ROUTE {
            set_option(&fd, libc::NETLINK_GET_STRICT_CHK)?;
        }
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// The largest datagram that can be sent, enlarged to `wanted` where the kernel lets us.
    pub fn reserve_send(&mut self, wanted: usize) -> usize {
        let forced = socket::setsockopt(&self.fd, sockopt::SndBufForce, &wanted);
        if forced.is_err() {
            // Outside the initial user namespace only the system's limit is ours.
            let _ = socket::setsockopt(&self.fd, sockopt::SndBuf, &wanted);
        }
        // The kernel reports twice what it was asked for, and keeps some for itself.
        let size = socket::getsockopt(&self.fd, sockopt::SndBuf).unwrap_or(0);
        size.saturating_sub(64)
    }

    /// Room for `wanted` bytes of replies.
    pub fn reserve_receive(&mut self, wanted: usize) {
        if socket::setsockopt(&self.fd, sockopt::RcvBufForce, &wanted).is_err() {
            let _ = socket::setsockopt(&self.fd, sockopt::RcvBuf, &wanted);
        }
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Sends one message and waits until the kernel has done it.
    pub fn request(&mut self, message: &mut Message) -> Result<(), KernelError> {
        message.add_flags(libc::NLM_F_ACK as u16);
        self.exchange(message, &mut |_| ())
    }

    /// Sends one message and gives each reply to `each`, until the acknowledgement or the end of the dump.
    pub fn query(
        &mut self,
        message: &mut Message,
        mut each: impl FnMut(Reply<'_>),
    ) -> Result<(), KernelError> {
        message.add_flags(libc::NLM_F_ACK as u16);
        self.exchange(message, &mut each)
    }

    fn exchange(
        &mut self,
        message: &mut Message,
        each: &mut dyn FnMut(Reply<'_>),
    ) -> Result<(), KernelError> {
        let sequence = self.next_sequence();
        self.send(message.finish(sequence))?;
        let mut interrupted = false;
        loop {
            let received = self.receive(MsgFlags::empty())?;
            for reply in replies(&self.buffer[..received]) {
                if reply.sequence != sequence {
                    continue;
                }
                interrupted |= reply.flags & NLM_F_DUMP_INTR != 0;
                match reply.verdict() {
                    Some(Ok(())) if interrupted => {
                        return Err(nix::Error::EINTR.into());
                    }
                    Some(verdict) => return verdict,
                    None => each(reply),
                }
            }
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), KernelError> {
        let sent = socket::send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        debug_assert_eq!(sent, bytes.len(), "netlink takes a datagram whole");
        Ok(())
    }

    /// Receives one datagram into the buffer. With `MSG_DONTWAIT` an empty queue is `EAGAIN`.
    fn receive(&mut self, flags: MsgFlags) -> Result<usize, KernelError> {
        loop {
            match socket::recv(self.fd.as_raw_fd(), &mut self.buffer, flags | MsgFlags::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => {
                    return Err(KernelError {
                        errno: libc::EMSGSIZE,
                        text: Some(format!("a reply of {length} bytes was cut off")),
                    });
                }
                Ok(length) => return Ok(length),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Everything that waits in the queue. The kernel answers netfilter batches before `send` returns, so
    /// nothing is missed.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Reply<'_>)) -> Result<(), KernelError> {
        loop {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(received) => replies(&self.buffer[..received]).for_each(&mut each),
                Err(error) if error.errno == libc::EAGAIN => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

const NLM_F_DUMP_INTR: u16 = 0x10;

fn set_option(fd: &OwnedFd, option: libc::c_int) -> Result<(), KernelError> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which outlives the call.
    let status = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if status < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hostile_datagrams_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            for reply in replies(&bytes) {
                let _ = reply.verdict();
                let _ = reply.attributes(16).count();
            }
        }

        /// Random bytes rarely look like a message; give the header sense, and the rest none.
        #[test]
        fn hostile_errors_are_survived(body in proptest::collection::vec(any::<u8>(), 0..64), flags: u16) {
            let length = (HEADER + body.len()) as u32;
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
            bytes.extend_from_slice(&flags.to_ne_bytes());
            bytes.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(&body);
            let verdicts: Vec<_> = replies(&bytes).map(|reply| reply.verdict()).collect();
            prop_assert_eq!(verdicts.len(), 1);
            prop_assert!(verdicts[0].is_some());
        }
    }
}
