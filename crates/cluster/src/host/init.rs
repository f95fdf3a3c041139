//! The first process of a host: makes it what its [`Spec`] says, starts its programs, starts those again that end, and
//! collects what nobody else waits for.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use net::{Ipv4Net, segment};
use rustix::process::{WaitOptions, wait};

use super::spec::{Program, Spec, Uplink};
use super::{GO, READY, root};
use crate::cgroups;

/// Between the end of a program and its next start.
const RESTART: Duration = Duration::from_secs(1);
const ATTEMPTS: u32 = 100;
const SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Is the first process until it is killed; or, of an attended host, until standard input ends. Must be called before
/// this process has threads.
pub fn run() -> io::Result<()> {
    let spec = read_line()?;
    let spec: Spec = serde_json::from_str(&spec)?;
    // By the name that it has in the host too, if it has, for people who look for it.
    let own = std::env::current_exe();
    let answer = match set_up(&spec) {
        Ok(()) => READY.to_owned(),
        Err(reason) => reason.replace('\n', " "),
    };
    writeln!(io::stdout(), "{answer}")?;
    if answer != READY || read_line()?.trim_end() != GO {
        return Err(io::Error::other(answer));
    }
    if spec.attended {
        let cgroup = spec.cgroup;
        std::thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            end(&cgroup);
        });
    }
    Keeper::new(spec.programs, own)?.keep()
}

/// Ends everything in the host, and the host with it.
fn end(cgroup: &str) -> ! {
    // SAFETY: a signal is sent to all that this process sees, which is the host; no memory is touched.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
    }
    // What has just been killed may hold a cgroup for another moment.
    for _ in 0..ATTEMPTS {
        cgroups::remove(cgroup);
        if !cgroups::exists(cgroup) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    std::process::exit(0)
}

/// Byte by byte: nothing of what comes after may be taken.
fn read_line() -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    let mut input = io::stdin();
    while input.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).map_err(io::Error::other)
}

fn set_up(spec: &Spec) -> Result<(), String> {
    root::make_private()?;
    match &spec.root {
        Some(own) => root::enter(own)?,
        None => root::mount_proc(Path::new("/proc"))?,
    }
    rustix::system::sethostname(spec.hostname.as_bytes())
        .map_err(|errno| format!("cannot call it {:?}: {errno}", spec.hostname))?;
    connect(spec.uplink).map_err(|error| error.to_string())
}

fn connect(uplink: Uplink) -> net::Result<()> {
    segment::loopback_up()?;
    match uplink {
        Uplink::Segment => Ok(()),
        Uplink::Nowhere { address, prefix, gateway } => {
            let address =
                Ipv4Net::new(address, prefix).unwrap_or_else(|_| Ipv4Net::from(Ipv4Addr::LOCALHOST));
            segment::lonely_uplink(address, gateway)
        }
    }
}

/// The programs, and which process each of them is.
struct Keeper {
    programs: Vec<Program>,
    own: PathBuf,
    running: HashMap<i32, usize>,
    /// Those that are to start, and when.
    due: Vec<(Instant, usize)>,
    signals: libc::sigset_t,
}

impl Keeper {
    fn new(programs: Vec<Program>, own: io::Result<PathBuf>) -> io::Result<Self> {
        let due = (0..programs.len()).map(|index| (Instant::now(), index)).collect();
        Ok(Self {
            programs,
            own: own.ok().filter(|path| path.exists()).unwrap_or_else(|| "/proc/self/exe".into()),
            running: HashMap::new(),
            due,
            signals: block_child_signal()?,
        })
    }

    fn keep(mut self) -> io::Result<()> {
        loop {
            self.collect();
            self.start_due();
            let wait = self.due.iter().map(|(at, _)| at.saturating_duration_since(Instant::now())).min();
            wait_for_child(&self.signals, wait);
        }
    }

    /// Whatever has ended: programs, and orphans of the host.
    fn collect(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(index) = self.running.remove(&pid.as_raw_nonzero().get()) {
                eprintln!("{} has ended ({status:?}), it is started again", self.name(index));
                self.due.push((Instant::now() + RESTART, index));
            }
        }
    }

    fn name(&self, index: usize) -> String {
        self.programs.get(index).map(|program| program.arguments.join(" ")).unwrap_or_default()
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.due).into_iter().partition(|(at, _)| *at <= now);
        self.due = later;
        for (_, index) in due {
            match self.start(index) {
                Ok(pid) => {
                    self.running.insert(pid, index);
                }
                Err(error) => {
                    eprintln!("cannot start {}: {error}", self.name(index));
                    self.due.push((now + RESTART, index));
                }
            }
        }
    }

    fn start(&self, index: usize) -> io::Result<i32> {
        let program = self.programs.get(index).ok_or(io::ErrorKind::NotFound)?;
        if let Some(directory) = program.log.parent() {
            fs::create_dir_all(directory)?;
        }
        let log = fs::File::options().create(true).append(true).open(&program.log)?;
        let mut command = Command::new(program.path.as_ref().unwrap_or(&self.own));
        if program.path.is_none() {
            command.arg0("corten");
        }
        let child = command
            .args(&program.arguments)
            // What the user's shell has set is not meant for a machine.
            .env_clear()
            .env("PATH", SEARCH)
            .env("HOME", "/root")
            .envs(program.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(child.id().cast_signed())
    }
}

/// Children that end are told by a signal that waits until it is asked for.
fn block_child_signal() -> io::Result<libc::sigset_t> {
    // SAFETY: a set of signals is plain memory, which sigemptyset fills; both outlive the calls.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(set)
    }
}

fn wait_for_child(set: &libc::sigset_t, longest: Option<Duration>) {
    // SAFETY: the set and the time outlive the call; no information about the signal is asked for.
    unsafe {
        match longest {
            None => libc::sigwaitinfo(set, std::ptr::null_mut()),
            Some(wait) => {
                let time = libc::timespec {
                    tv_sec: wait.as_secs() as libc::time_t,
                    tv_nsec: wait.subsec_nanos().into(),
                };
                libc::sigtimedwait(set, std::ptr::null_mut(), &raw const time)
            }
        };
    }
}
