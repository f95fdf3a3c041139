//! The other side, for tests: a bus of our own, and a service on it.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::*;

/// Debian's dbus-daemon, on a socket in `dir`.
pub struct Bus(Child);

impl Bus {
    pub fn start(dir: &Path) -> Self {
        let config = dir.join("bus.conf");
        let text = format!(
            "<busconfig><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth><policy context='default'>\
             <allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/><allow own='*'/></policy></busconfig>",
            dir.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--print-address"]);
        let mut child =
            command.stdout(Stdio::piped()).spawn().expect("dbus-daemon (package dbus-daemon) runs");
        // It listens when it has told where.
        let mut told = String::new();
        let out = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut told).unwrap();
        Self(child)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Connection {
    pub async fn own(&mut self, name: &str) {
        let body = vec![Value::Text(name.into()), Value::Number(0)];
        self.call(bus("RequestName", body)).await.unwrap();
    }

    /// The next call to this service.
    pub async fn called(&mut self) -> Message {
        loop {
            let message = self.receive().await.unwrap();
            if message.kind == Kind::Call {
                return message;
            }
        }
    }

    pub async fn reply(&mut self, to: &Message, body: Vec<Value>, fd: Option<BorrowedFd<'_>>) {
        self.serial += 1;
        let message = Message {
            kind: Kind::Return,
            serial: self.serial,
            reply_to: to.serial,
            destination: to.sender.clone(),
            body,
            fd_count: u32::from(fd.is_some()),
            ..Default::default()
        };
        let bytes = message.encode();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let sent = sendmsg(self.stream.as_fd(), &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::empty())
            .unwrap();
        assert_eq!(sent, bytes.len());
    }

    pub async fn emit(&mut self, path: &str, interface: &str, member: &str, body: Vec<Value>) {
        let message = Message { kind: Kind::Signal, ..Message::call("", path, interface, member, body) };
        self.send(message).await.unwrap();
    }
}
