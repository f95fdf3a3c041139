//! The pod's namespaces: the shim moves into new ones and so keeps them alive.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::sys::check;
use crate::userns;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub hostname: String,
    pub network: bool,
    pub ipc: bool,
    pub uts: bool,
    /// A PID namespace that the pod's containers share, with a process of ours as its init.
    pub pid: bool,
    pub sysctls: Vec<(String, String)>,
    /// A file through which the shim enters its control group.
    pub cgroup: Option<String>,
    /// Lines of `/proc/PID/uid_map` and `gid_map`; none for no user namespace.
    pub uids: Vec<String>,
    pub gids: Vec<String>,
}

/// What the pod has of its own.
pub struct Made {
    /// The first process of the PID namespace that the containers share, or 0.
    pub pod_init: i32,
    pub user: Option<OwnedFd>,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut options = Self::default();
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or_else(|| io::Error::other(format!("{flag} needs a value")))?;
            match flag.as_str() {
                "--hostname" => options.hostname = value,
                "--new" => {
                    for namespace in value.split(',').filter(|n| !n.is_empty()) {
                        match namespace {
                            "net" => options.network = true,
                            "ipc" => options.ipc = true,
                            "uts" => options.uts = true,
                            "pid" => options.pid = true,
                            other => return Err(io::Error::other(format!("unknown namespace {other}"))),
                        }
                    }
                }
                "--sysctl" => {
                    let (key, value) = value
                        .split_once('=')
                        .ok_or_else(|| io::Error::other(format!("--sysctl {value}: expected key=value")))?;
                    options.sysctls.push((key.to_owned(), value.to_owned()));
                }
                "--cgroup" => options.cgroup = Some(value),
                "--uids" => options.uids = ranges(&value)?,
                "--gids" => options.gids = ranges(&value)?,
                other => return Err(io::Error::other(format!("unknown flag {other}"))),
            }
        }
        Ok(options)
    }
}

/// `0:65536:65536,...`: the first id in the namespace, the first outside, how many.
fn ranges(text: &str) -> io::Result<Vec<String>> {
    let line = |range: &str| {
        let numbers: Vec<u32> = range.split(':').map_while(|n| n.parse().ok()).collect();
        match numbers.as_slice() {
            [inside, outside, count] => Ok(format!("{inside} {outside} {count}")),
            _ => Err(io::Error::other(format!("{range:?} is not a range of ids"))),
        }
    };
    text.split(',').map(line).collect()
}

/// Enters new namespaces and prepares them.
pub fn enter(options: &Options) -> io::Result<Made> {
    if options.uids.is_empty() {
        let pod_init = make(options, 0)?;
        return Ok(Made { pod_init, user: None });
    }
    let (user, pod_init) = userns::make(options)?;
    Ok(Made { pod_init, user: Some(user) })
}

pub fn flags(options: &Options) -> i32 {
    let wanted = [
        (options.network, libc::CLONE_NEWNET),
        (options.ipc, libc::CLONE_NEWIPC),
        (options.uts, libc::CLONE_NEWUTS),
    ];
    wanted.into_iter().filter(|(wanted, _)| *wanted).fold(0, |flags, (_, flag)| flags | flag)
}

/// New namespaces for this process. Returns the init process of the shared PID namespace, or 0; `parent` is a flag for its clone.
pub fn make(options: &Options, parent: i32) -> io::Result<i32> {
    // SAFETY: unshare touches no memory.
    check(unsafe { libc::unshare(flags(options)) })
        .map_err(|e| io::Error::other(format!("make namespaces: {e}")))?;
    if options.uts && !options.hostname.is_empty() {
        // SAFETY: the name lives through the call and its length is passed.
        check(unsafe { libc::sethostname(options.hostname.as_ptr().cast(), options.hostname.len()) })
            .map_err(|e| io::Error::other(format!("set host name {:?}: {e}", options.hostname)))?;
    }
    if options.network {
        loopback_up().map_err(|e| io::Error::other(format!("bring up the loopback interface: {e}")))?;
    }
    for (key, value) in &options.sysctls {
        let path = sysctl_path(key)
            .ok_or_else(|| io::Error::other(format!("sysctl {key:?} is not a valid name")))?;
        fs::write(&path, value).map_err(|e| io::Error::other(format!("set sysctl {key}={value}: {e}")))?;
    }
    if options.pid { pod_init(parent) } else { Ok(0) }
}

/// A sysctl's file. Both `net.ipv4.ip_forward` and `net/ipv4/conf/eth0.1/forwarding` are written by users; nothing may lead out.
fn sysctl_path(key: &str) -> Option<String> {
    let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    let sane =
        !path.is_empty() && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    sane.then(|| format!("/proc/sys/{path}"))
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: the socket is new; ifreq is plain data for which zero is valid, and lives through the ioctls.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request))?;
    }
    Ok(())
}

/// Forks the first process of a new PID namespace. It does nothing but reap, and ends with the shim.
fn pod_init(parent: i32) -> io::Result<i32> {
    // SAFETY: with no stack given, clone is fork; this process has one thread. The child makes only plain calls and never returns.
    unsafe {
        let flags = (libc::CLONE_NEWPID | libc::SIGCHLD | parent) as libc::c_ulong;
        // In a user namespace it is another process's child; there is no descriptor of that one here, and none is polled.
        let shim = match parent {
            0 => check(libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as i32)?,
            _ => -1,
        };
        let pid = libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize);
        if pid != 0 {
            libc::close(shim);
            return check(pid as i32)
                .map_err(|e| io::Error::other(format!("make the shared PID namespace: {e}")));
        }
        libc::prctl(libc::PR_SET_NAME, c"pod-init".as_ptr());
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        // One that died before that will not be told of; and of its number nothing is seen from in here.
        let mut died = libc::pollfd { fd: shim, events: libc::POLLIN, revents: 0 };
        if libc::poll(&raw mut died, 1, 0) != 0 {
            libc::_exit(0);
        }
        // Ignored children are reaped by the kernel.
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        libc::syscall(libc::SYS_close_range, 0u32, u32::MAX, 0u32);
        loop {
            libc::pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> io::Result<Options> {
        Options::parse(line.split_ascii_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line() {
        assert_eq!(
            parse("--hostname h --new net,uts --sysctl a.b=c=d --uids 0:70000:65536 --gids 0:1:2,2:9:1")
                .unwrap(),
            Options {
                hostname: "h".into(),
                network: true,
                uts: true,
                sysctls: vec![("a.b".into(), "c=d".into())],
                uids: vec!["0 70000 65536".into()],
                gids: vec!["0 1 2".into(), "2 9 1".into()],
                ..Options::default()
            }
        );
        for bad in ["--hostname", "--new time", "--sysctl x", "--what 1", "--uids 1:2", "--gids 0:x:1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sysctls_stay_under_proc_sys() {
        assert_eq!(sysctl_path("net.core.somaxconn").as_deref(), Some("/proc/sys/net/core/somaxconn"));
        assert_eq!(
            sysctl_path("net/ipv4/conf/eth0.1/rp_filter").as_deref(),
            Some("/proc/sys/net/ipv4/conf/eth0.1/rp_filter")
        );
        for bad in ["", "..", "a..b", "../../etc/passwd", "/etc/passwd", "net/../../x"] {
            assert_eq!(sysctl_path(bad), None, "{bad}");
        }
    }
}
