//! As much of D-Bus as it takes to talk to systemd and logind: calls, their answers with file descriptors, and signals.
//!
//! Written here because a whole D-Bus library would be larger than everything that asks for it.

mod message;

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

pub use message::{Kind, Message, Value};

const CALL: Duration = Duration::from_secs(25);
/// Longer lines of the handshake are no answers.
const LINE: usize = 4096;
/// What waits to be asked for, at most.
const SIGNALS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot talk to the message bus: {0}")]
    Io(#[from] std::io::Error),
    #[error("the message bus does not let us in: {0}")]
    Refused(String),
    #[error("the message bus has sent what is no message: {0}")]
    Malformed(&'static str),
    #[error("{member} failed: {error}")]
    Answer { member: String, error: String },
    #[error("{0} was not answered in time")]
    Timeout(String),
}

pub struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    signals: VecDeque<Message>,
    serial: u32,
}

impl Connection {
    /// To the bus that listens at `socket`.
    pub async fn open(socket: &Path) -> Result<Self, Error> {
        let mut stream = UnixStream::connect(socket).await?;
        let uid = rustix::process::getuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).await?;
        expect(&mut stream, "OK").await?;
        stream.write_all(b"NEGOTIATE_UNIX_FD\r\n").await?;
        expect(&mut stream, "AGREE_UNIX_FD").await?;
        stream.write_all(b"BEGIN\r\n").await?;
        let mut connection =
            Self { stream, received: Vec::new(), fds: VecDeque::new(), signals: VecDeque::new(), serial: 0 };
        connection.call(bus("Hello", vec![])).await?;
        Ok(connection)
    }

    /// Sends a call and waits for its answer.
    pub async fn call(&mut self, message: Message) -> Result<Message, Error> {
        let member = message.member.clone();
        let answer = tokio::time::timeout(CALL, self.answer(message)).await;
        let answer = answer.map_err(|_| Error::Timeout(member.clone()))??;
        match answer.kind {
            Kind::Error => {
                let text = answer.body.first().and_then(Value::text).unwrap_or_default();
                Err(Error::Answer { member, error: format!("{}: {text}", answer.error_name) })
            }
            _ => Ok(answer),
        }
    }

    async fn answer(&mut self, message: Message) -> Result<Message, Error> {
        let serial = self.send(message).await?;
        loop {
            let message = self.receive().await?;
            match message.kind {
                Kind::Return | Kind::Error if message.reply_to == serial => return Ok(message),
                Kind::Signal if self.signals.len() < SIGNALS => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    async fn send(&mut self, mut message: Message) -> Result<u32, Error> {
        self.serial = self.serial.wrapping_add(1).max(1);
        message.serial = self.serial;
        self.stream.write_all(&message.encode()).await?;
        Ok(self.serial)
    }

    /// From now on, signals of that interface and member are heard.
    pub async fn listen(&mut self, interface: &str, member: &str) -> Result<(), Error> {
        let rule = format!("type='signal',interface='{interface}',member='{member}'");
        self.call(bus("AddMatch", vec![Value::Text(rule)])).await.map(drop)
    }

    /// The next signal. May be abandoned and asked for again.
    pub async fn signal(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let message = self.receive().await?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }

    async fn receive(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(length) = message::length(&self.received)?
                && self.received.len() >= length
            {
                let rest = self.received.split_off(length);
                let bytes = std::mem::replace(&mut self.received, rest);
                let mut message = Message::decode(&bytes)?;
                let count = usize::try_from(message.fd_count).unwrap_or(usize::MAX).min(self.fds.len());
                message.fds = self.fds.drain(..count).collect();
                return Ok(message);
            }
            let stream = &self.stream;
            let (received, fds) = (&mut self.received, &mut self.fds);
            let read = stream.async_io(Interest::READABLE, || receive_some(stream, received, fds)).await?;
            if read == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

fn receive_some(
    stream: &UnixStream,
    received: &mut Vec<u8>,
    fds: &mut VecDeque<OwnedFd>,
) -> std::io::Result<usize> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let result = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    received.extend_from_slice(bytes.get(..result.bytes).unwrap_or_default());
    Ok(result.bytes)
}

/// A call to the bus itself.
fn bus(member: &str, body: Vec<Value>) -> Message {
    let name = "org.freedesktop.DBus";
    Message::call(name, "/org/freedesktop/DBus", name, member, body)
}

/// Reads a line of the handshake, byte by byte: messages may follow at once.
async fn expect(stream: &mut UnixStream, word: &str) -> Result<(), Error> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() > LINE {
            return Err(Error::Malformed("a line without end"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&line);
    if line.split_whitespace().next() == Some(word) {
        return Ok(());
    }
    Err(Error::Refused(line.trim().to_owned()))
}

#[cfg(feature = "testing")]
pub mod testing;
