//! Starting a process by a plan, without an OCI runtime: a fork of the shim carries the plan out and executes the program.
//!
//! The child tells its parent over a socket what went wrong; when the socket closes without a word, the program runs. A terminal
//! that the child makes inside the container comes back over the same socket.

mod credentials;
mod mountapi;
mod program;
mod rootfs;
mod terminal;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use shim_protocol::{ExecPlan, PidNamespace, Plan, Process, socket};

use crate::sys::{self, check};

/// A process between fork and exec.
pub struct Launch {
    pub pid: i32,
    pub channel: UnixStream,
    message: Vec<u8>,
    terminal: Vec<OwnedFd>,
}

impl Launch {
    /// What has been heard by now: `None` while the child is at work.
    pub fn outcome(&mut self) -> Option<Result<Option<OwnedFd>, String>> {
        let mut buffer = [0; 512];
        loop {
            match socket::receive(self.channel.as_fd(), &mut buffer, &mut self.terminal) {
                Ok(0) => break,
                Ok(n) => self.message.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Some(Err(format!("hear from the new process: {e}"))),
            }
        }
        // The terminal comes beside one byte that means nothing.
        let text = String::from_utf8_lossy(&self.message);
        let text = text.trim_start_matches('\0');
        Some(if text.is_empty() { Ok(self.terminal.pop()) } else { Err(text.to_owned()) })
    }
}

/// Starts a container's first process.
pub fn container(plan: &str, namespace: &PidNamespace, stdio: [BorrowedFd<'_>; 3]) -> io::Result<Launch> {
    let (flags, join) = match namespace {
        PidNamespace::New => (libc::CLONE_NEWPID, None),
        PidNamespace::Host => (0, None),
        PidNamespace::Join(path) => (0, Some(OwnedFd::from(fs::File::open(path)?))),
    };
    fork(flags | libc::CLONE_NEWNS, join.as_ref(), |channel| become_container(plan, stdio, channel))
}

/// Starts a further process in the container whose first process `target` is, a child of ours.
pub fn exec(plan: &str, target: i32, stdio: [BorrowedFd<'_>; 3]) -> io::Result<Launch> {
    // SAFETY: touches no memory; the descriptor is new.
    let target = unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, target, 0) as i32)?;
        OwnedFd::from_raw_fd(fd)
    };
    fork(0, Some(&target), |channel| become_exec(plan, target.as_fd(), stdio, channel))
}

fn become_container(
    path: &str,
    stdio: [BorrowedFd<'_>; 3],
    channel: &UnixStream,
) -> Result<Infallible, String> {
    let bytes = fs::read(path).map_err(|e| format!("read {path}: {e}"))?;
    let plan = Plan::decode(&bytes).map_err(|e| format!("{path}: {e}"))?;
    prepare(&plan.cgroups, &plan.process)?;
    if plan.cgroup_namespace {
        // SAFETY: touches no memory.
        check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })
            .map_err(|e| format!("make a cgroup namespace: {e}"))?;
    }
    rootfs::build(&plan)?;
    connect(&plan.process, stdio, channel, true)?;
    program::run(&plan.process)
}

fn become_exec(
    path: &str,
    target: BorrowedFd<'_>,
    stdio: [BorrowedFd<'_>; 3],
    channel: &UnixStream,
) -> Result<Infallible, String> {
    let bytes = fs::read(path).map_err(|e| format!("read {path}: {e}"))?;
    let plan = ExecPlan::decode(&bytes).map_err(|e| format!("{path}: {e}"))?;
    prepare(&plan.cgroups, &plan.process)?;
    // The others of the pod are the shim's own already. This changes root and working directory too.
    enter(target, libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP)
        .map_err(|e| format!("enter the container: {e}"))?;
    connect(&plan.process, stdio, channel, false)?;
    program::run(&plan.process)
}

/// What needs the host's files.
fn prepare(cgroups: &[String], process: &Process) -> Result<(), String> {
    // SAFETY: touches no memory. Nobody in a PID namespace that we share may look into this process on its way.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    // Lowering it needs a privilege that some machines withhold: then it is as it is. The file is root's own while the
    // process is not dumpable, which we are.
    let _ = fs::write("/proc/self/oom_score_adj", process.oom_score_adj.to_string());
    for file in cgroups {
        fs::write(file, "0").map_err(|e| format!("enter control group {file}: {e}"))?;
    }
    if !process.apparmor.is_empty() {
        fs::write("/proc/self/attr/apparmor/exec", format!("exec {}", process.apparmor))
            .map_err(|e| format!("apply AppArmor profile {}: {e}", process.apparmor))?;
    }
    Ok(())
}

fn connect(
    process: &Process,
    stdio: [BorrowedFd<'_>; 3],
    channel: &UnixStream,
    console: bool,
) -> Result<(), String> {
    // SAFETY: touches no memory.
    unsafe { libc::setsid() };
    if process.terminal {
        return terminal::open(process, channel, console).map_err(|e| format!("make a terminal: {e}"));
    }
    for (number, fd) in stdio.iter().enumerate() {
        // SAFETY: touches no memory; what is replaced is the shim's /dev/null.
        check(unsafe { libc::dup2(fd.as_raw_fd(), number as i32) })
            .map_err(|e| format!("connect stdio: {e}"))?;
    }
    Ok(())
}

fn enter(namespace: BorrowedFd<'_>, kind: i32) -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind) }).map(drop)
}

/// Forks into a PID namespace; the child never returns.
fn fork(
    flags: i32,
    pid_namespace: Option<&OwnedFd>,
    child: impl FnOnce(&UnixStream) -> Result<Infallible, String>,
) -> io::Result<Launch> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let own = fs::File::open("/proc/self/ns/pid")?;
    if let Some(namespace) = pid_namespace {
        enter(namespace.as_fd(), libc::CLONE_NEWPID)?;
    }
    // SAFETY: with no stack given, clone is fork; this process has one thread, so the child may go on as it likes.
    let forked =
        unsafe { check(libc::syscall(libc::SYS_clone, i64::from(flags | libc::SIGCHLD), 0, 0, 0, 0) as i32) };
    if let Ok(0) = forked {
        drop(ours);
        sys::reset_signals();
        let Err(message) = child(&theirs);
        let _ = io::Write::write_all(&mut &theirs, message.as_bytes());
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(1) };
    }
    if pid_namespace.is_some() {
        enter(own.as_fd(), libc::CLONE_NEWPID)?;
    }
    Ok(Launch { pid: forked?, channel: ours, message: Vec::new(), terminal: Vec::new() })
}
