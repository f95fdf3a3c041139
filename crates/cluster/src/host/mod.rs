//! A host: namespaces for network, mounts, names, processes and messages, with a first process that keeps them. When that
//! process ends, in whatever way, the kernel ends every other of the host, and mounts and interfaces go with them.
//!
//! [`Host::start`] starts this very program again as the first process ([`init`]); they talk on its standard input and
//! output: the [`Spec`] as one line, `ready` back when namespaces and root are made, `go` when the network is there.

mod identity;
pub mod init;
mod inside;
mod pause;
mod root;
mod spec;

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};

pub use identity::Identity;
pub use inside::run_inside;
pub use pause::{pause, resume};
use rustix::pipe::{PipeFlags, pipe_with};
pub use spec::{Bind, File, Program, Root, Spec, Uplink};

const READY: &str = "ready";
const GO: &str = "go";
/// All but that of cgroups: those of a host are under one of the machine's.
const NAMESPACES: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWPID;

/// A host could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot make namespaces for host {host}: {source}")]
    Spawn { host: String, source: io::Error },
    #[error("cannot talk to the first process of host {host}: {source}")]
    Talk { host: String, source: io::Error },
    #[error("host {host} could not be set up: {reason}")]
    Setup { host: String, reason: String },
}

/// A host whose namespaces are there.
pub struct Host {
    pub identity: Identity,
    name: String,
    input: ChildStdin,
}

impl Host {
    /// Starts a host. `init` is a command that calls [`init::run`]; its standard error is the caller's to choose.
    pub fn start(mut init: Command, spec: &Spec) -> Result<Self, StartError> {
        let name = spec.hostname.clone();
        let spawn = |source| StartError::Spawn { host: name.clone(), source };
        let talk = |source| StartError::Talk { host: name.clone(), source };
        let (told, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| spawn(errno.into()))?;
        into_namespaces(&mut init, tell);
        let mut outer = init.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(spawn)?;
        // Waiting would close them.
        let streams = outer.stdin.take().zip(outer.stdout.take());
        // It has ended: the host's first process is its child.
        outer.wait().map_err(spawn)?;
        // With it goes our copy of the writing end.
        drop(init);
        let mut pid = [0; 4];
        rustix::io::read(&told, &mut pid).map_err(|errno| talk(errno.into()))?;
        let gone = || StartError::Setup { host: name.clone(), reason: "its first process has ended".into() };
        let identity = Identity::of(i32::from_ne_bytes(pid)).ok_or_else(gone)?;
        let (mut input, output) = streams.ok_or_else(gone)?;
        let line = serde_json::to_string(spec).map_err(|error| talk(error.into()))?;
        writeln!(input, "{line}").map_err(talk)?;
        let mut answer = String::new();
        BufReader::new(output).read_line(&mut answer).map_err(talk)?;
        match answer.trim_end() {
            READY => Ok(Self { identity, name, input }),
            "" => Err(gone()),
            reason => Err(StartError::Setup { host: name, reason: reason.to_owned() }),
        }
    }

    /// The network is there: lets the host start its programs. An attended host lives as long as what is returned.
    pub fn go(mut self) -> Result<Attended, StartError> {
        let told = writeln!(self.input, "{GO}");
        told.map_err(|source| StartError::Talk { host: self.name, source })?;
        Ok(Attended { identity: self.identity, input: self.input })
    }
}

/// A host at work.
pub struct Attended {
    pub identity: Identity,
    input: ChildStdin,
}

impl Attended {
    /// Ends an attended host, and waits until nothing of it is left.
    pub fn end(self) -> io::Result<()> {
        drop(self.input);
        self.identity.wait()
    }
}

/// Makes the command a process of namespaces of its own, the first of its process namespace, and a child of nobody here.
fn into_namespaces(command: &mut Command, tell: OwnedFd) {
    let enter = move || {
        // SAFETY: no memory is touched.
        let unshared = unsafe { libc::setsid() } >= 0 && unsafe { libc::unshare(NAMESPACES) } == 0;
        if !unshared {
            return Err(io::Error::last_os_error());
        }
        // The first child after unshare is the first process. Not fork(3), whose handlers belong to threads that are not
        // here.
        let no = 0_usize;
        // SAFETY: as fork(2): the child goes on with a copy of this memory, and only executes another program.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as usize, no, no, no, no) };
        match child {
            0 => Ok(()),
            -1 => Err(io::Error::last_os_error()),
            child => {
                let pid = (child as i32).to_ne_bytes();
                // SAFETY: the buffer is as long as it is said to be; the descriptor is open for as long as the closure.
                let written = unsafe { libc::write(tell.as_raw_fd(), pid.as_ptr().cast(), pid.len()) };
                // SAFETY: ends this process, which has nothing to put in order.
                unsafe { libc::_exit(if written == 4 { 0 } else { 1 }) }
            }
        }
    };
    // SAFETY: only system calls are made, on descriptors that are open; nothing is allocated.
    unsafe {
        command.pre_exec(enter);
    }
}
