//! Starting a process by a plan, without an OCI runtime: a fork of the shim carries the plan out and executes the program.
//!
//! The child tells its parent over a socket what went wrong; when the socket closes without a word, the program runs. A terminal
//! that the child makes inside the container comes back over the same socket.

mod cgroup;
mod credentials;
mod image;
mod mountapi;
mod program;
mod rootfs;
mod terminal;
mod userns;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use shim_protocol::{ExecPlan, PidNamespace, Plan, Process, socket};

use crate::sys::{self, check};

/// A process between fork and exec.
pub struct Launch {
    /// May become another one: a process that enters a user namespace hands over to one that was born there.
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
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.take_successor();
                    return None;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Some(Err(format!("hear from the new process: {e}"))),
            }
        }
        self.take_successor();
        // The terminal comes beside one byte that means nothing.
        let text = String::from_utf8_lossy(&self.message);
        let text = text.trim_start_matches('\0');
        Some(if text.is_empty() { Ok(self.terminal.pop()) } else { Err(text.to_owned()) })
    }

    /// The first line may name the process that goes on.
    fn take_successor(&mut self) {
        if self.message.first() != Some(&SUCCESSOR) {
            return;
        }
        let Some(end) = self.message.iter().position(|b| *b == b'\n') else { return };
        let line: Vec<u8> = self.message.drain(..=end).collect();
        let number = std::str::from_utf8(&line[1..end]).ok().and_then(|n| n.parse().ok());
        self.pid = number.unwrap_or(self.pid);
    }
}

/// Begins the line by which a process tells who goes on in its place.
const SUCCESSOR: u8 = 1;

/// Starts a container's first process; `user` is the pod's user namespace, if it has one.
pub fn container(
    plan: &str,
    namespace: &PidNamespace,
    stdio: [BorrowedFd<'_>; 3],
    user: Option<BorrowedFd<'_>>,
) -> io::Result<Launch> {
    let (pid_flag, join) = match namespace {
        PidNamespace::New => (libc::CLONE_NEWPID, None),
        PidNamespace::Host => (0, None),
        PidNamespace::Join(path) => (0, Some(OwnedFd::from(fs::File::open(path)?))),
    };
    let bytes = fs::read(plan)?;
    let plan = Plan::decode(&bytes).map_err(|e| io::Error::other(format!("{plan}: {e}")))?;
    let group = cgroup::birthplace(&plan.cgroups);
    let group = group.as_ref();
    match user {
        None => {
            fork(&Flags { clone: pid_flag | libc::CLONE_NEWNS, group }, join.as_ref(), |channel, born| {
                become_container(&plan, born, stdio, channel)
            })
        }
        Some(user) => fork(&Flags { clone: libc::CLONE_NEWNS, group }, None, |channel, born| {
            let entry = userns::Entry { user, pid_flags: pid_flag, pid: join };
            become_mapped_container(&plan, born, stdio, channel, &entry)
        }),
    }
}

/// How a child is made.
struct Flags<'a> {
    /// `CLONE_NEW*`.
    clone: i32,
    /// The control group to be born in.
    group: Option<&'a OwnedFd>,
}

/// Starts a further process in the container whose first process `target` is, a child of ours.
pub fn exec(plan: &str, target: i32, stdio: [BorrowedFd<'_>; 3]) -> io::Result<Launch> {
    // SAFETY: touches no memory; the descriptor is new.
    let target = unsafe {
        let fd = check(libc::syscall(libc::SYS_pidfd_open, target, 0) as i32)?;
        OwnedFd::from_raw_fd(fd)
    };
    let bytes = fs::read(plan)?;
    let plan = ExecPlan::decode(&bytes).map_err(|e| io::Error::other(format!("{plan}: {e}")))?;
    let group = cgroup::birthplace(&plan.cgroups);
    fork(&Flags { clone: 0, group: group.as_ref() }, Some(&target), |channel, born| {
        become_exec(&plan, born, target.as_fd(), stdio, channel)
    })
}

fn become_container(
    plan: &Plan,
    born: bool,
    stdio: [BorrowedFd<'_>; 3],
    channel: &UnixStream,
) -> Result<Infallible, String> {
    prepare(if born { &[] } else { &plan.cgroups }, &plan.process)?;
    hide_cgroups(plan)?;
    let host = rootfs::take(plan, None)?;
    rootfs::enter(plan, &host)?;
    finish_container(plan, host, stdio, channel)
}

/// What the host's root may do is done first; then a process born in the user namespace does the rest.
fn become_mapped_container(
    plan: &Plan,
    born: bool,
    stdio: [BorrowedFd<'_>; 3],
    channel: &UnixStream,
    entry: &userns::Entry<'_>,
) -> Result<Infallible, String> {
    prepare(if born { &[] } else { &plan.cgroups }, &plan.process)?;
    let mut host = rootfs::take(plan, Some(entry.user))?;
    std::env::set_current_dir(&plan.root.target).map_err(|e| format!("go to {}: {e}", plan.root.target))?;
    userns::enter(entry, channel).map_err(|e| format!("enter the pod's user namespace: {e}"))?;
    hide_cgroups(plan)?;
    rootfs::enter_here(plan, &mut host)?;
    finish_container(plan, host, stdio, channel)
}

fn hide_cgroups(plan: &Plan) -> Result<(), String> {
    if !plan.cgroup_namespace {
        return Ok(());
    }
    // SAFETY: touches no memory.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) })
        .map(drop)
        .map_err(|e| format!("make a cgroup namespace: {e}"))
}

fn finish_container(
    plan: &Plan,
    host: rootfs::Host,
    stdio: [BorrowedFd<'_>; 3],
    channel: &UnixStream,
) -> Result<Infallible, String> {
    rootfs::furnish(plan, host)?;
    connect(&plan.process, stdio, channel, true)?;
    program::run(&plan.process)
}

fn become_exec(
    plan: &ExecPlan,
    born: bool,
    target: BorrowedFd<'_>,
    stdio: [BorrowedFd<'_>; 3],
    channel: &UnixStream,
) -> Result<Infallible, String> {
    prepare(if born { &[] } else { &plan.cgroups }, &plan.process)?;
    // The others of the pod are the shim's own already. This changes root and working directory too.
    let user = if plan.user_namespace { libc::CLONE_NEWUSER } else { 0 };
    enter(target, libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | user)
        .map_err(|e| format!("enter the container: {e}"))?;
    if plan.user_namespace {
        crate::userns::become_root().map_err(|e| format!("become root of the user namespace: {e}"))?;
    }
    connect(&plan.process, stdio, channel, false)?;
    program::run(&plan.process)
}

/// What needs the host's files.
fn prepare(cgroups: &[String], process: &Process) -> Result<(), String> {
    // SAFETY: touches no memory. Nobody in a PID namespace that we share may look into this process on its way.
    // The shim's own umask is none at all.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::umask(0o022);
    }
    // Lowering it needs a privilege that some machines withhold: then it is as it is. The file is root's own while the
    // process is not dumpable, which we are.
    let _ = fs::write("/proc/self/oom_score_adj", process.oom_score_adj.to_string());
    for file in cgroups {
        fs::write(file, "0").map_err(|e| format!("enter control group {file}: {e}"))?;
    }
    if !process.apparmor.is_empty() {
        let wish = format!("exec {}", process.apparmor);
        // Before Linux 5.8 there was one file for whichever security module there was.
        fs::write("/proc/self/attr/apparmor/exec", &wish)
            .or_else(|_| fs::write("/proc/self/attr/exec", &wish))
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

/// Forks into a PID namespace; the child never returns. It hears whether it was born in its control group.
fn fork(
    flags: &Flags<'_>,
    pid_namespace: Option<&OwnedFd>,
    child: impl FnOnce(&UnixStream, bool) -> Result<Infallible, String>,
) -> io::Result<Launch> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let own = fs::File::open("/proc/self/ns/pid")?;
    if let Some(namespace) = pid_namespace {
        enter(namespace.as_fd(), libc::CLONE_NEWPID)?;
    }
    let (forked, born) = match flags.group.map(|group| cgroup::fork_into(flags.clone, group)) {
        Some(Ok(pid)) => (Ok(pid), true),
        // A kernel before 5.7, or a group that takes nobody in this way: it enters by itself.
        _ => {
            let clone = i64::from(flags.clone | libc::SIGCHLD);
            // SAFETY: with no stack given, clone is fork; this process has one thread, so the child may go on as it likes.
            let forked = unsafe { check(libc::syscall(libc::SYS_clone, clone, 0, 0, 0, 0) as i32) };
            (forked, false)
        }
    };
    if let Ok(0) = forked {
        drop(ours);
        sys::reset_signals();
        let Err(message) = child(&theirs, born);
        let _ = io::Write::write_all(&mut &theirs, message.as_bytes());
        // SAFETY: ends the child without running what belongs to the parent.
        unsafe { libc::_exit(1) };
    }
    if pid_namespace.is_some() {
        enter(own.as_fd(), libc::CLONE_NEWPID)?;
    }
    Ok(Launch { pid: forked?, channel: ours, message: Vec::new(), terminal: Vec::new() })
}
