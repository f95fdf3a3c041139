//! Thin wrappers of the system calls that the standard library lacks.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

/// A result of -1 with errno as an error.
pub fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Nanoseconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

/// Leaves the parent's session, ignores what a terminal sends, and becomes the parent of orphans.
pub fn detach() {
    // SAFETY: these calls touch no memory. setsid fails only for a group leader, which then has what it wants.
    unsafe {
        libc::setsid();
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        // Corten does without transparent huge pages, and children inherit that; containers decide for themselves.
        libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
        libc::umask(0);
    }
}

/// Points stdin, stdout and stderr at nothing, so that the shim holds nothing of its parent's.
pub fn close_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for fd in 0..3 {
        // SAFETY: dup2 touches no memory; 0 to 2 are owned by nobody in this program.
        check(unsafe { libc::dup2(null.as_raw_fd(), fd) })?;
    }
    Ok(())
}

/// A descriptor that becomes readable when a child ends.
pub fn child_signal() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset and lives through the calls; the descriptor is new.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A child that ended and how, as a shell would put it.
pub fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: status lives through the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    Some((pid, code))
}

pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: touches no memory.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A pipe: read end, write end. Both close on exec and block.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: the array has room for the two descriptors, which are new.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        // A container's user may open /dev/stdout, that is this pipe, whoever it is: nobody else can reach it.
        libc::fchmod(fds[0], 0o666);
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

pub fn set_nonblocking(fd: BorrowedFd<'_>) {
    // SAFETY: fcntl with these commands touches no memory.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK);
    }
}

pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer lives through the call and its length is passed.
    let n = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer lives through the call and its length is passed.
    let n = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
}

pub fn set_terminal_size(terminal: BorrowedFd<'_>, width: u32, height: u32) -> io::Result<()> {
    let clamp = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let size = libc::winsize { ws_row: clamp(height), ws_col: clamp(width), ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: size lives through the call and is what TIOCSWINSZ takes.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Whether the process at the other end of a unix socket is of our own user.
pub fn is_same_user(socket: BorrowedFd<'_>) -> bool {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: peer and length live through the call, and length is peer's.
    unsafe {
        let result = libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        );
        result == 0 && peer.uid == libc::geteuid()
    }
}

/// Undoes, in a child, what this program does to signals: dispositions and mask are inherited across exec.
pub fn reset_signals() {
    // SAFETY: the set is initialised by sigemptyset and lives through the call; no handler is installed.
    unsafe {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGPIPE] {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Starts a program with the given stdin, stdout and stderr and every signal as it was at birth. Returns its process id.
pub fn spawn(argv: &[String], stdio: [BorrowedFd<'_>; 3]) -> io::Result<i32> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let argv: Vec<CString> =
        argv.iter().map(|a| CString::new(a.as_str())).collect::<Result<_, _>>().map_err(invalid)?;
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|a| a.as_ptr()).collect();
    let Some(&program) = pointers.first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    pointers.push(std::ptr::null());
    let stdio = stdio.map(|fd| fd.as_raw_fd());
    // SAFETY: this process has one thread, so the child may do anything; it only makes async-signal-safe calls anyway, on memory
    // prepared before the fork.
    unsafe {
        let pid = check(libc::fork())?;
        if pid > 0 {
            return Ok(pid);
        }
        for (number, fd) in stdio.into_iter().enumerate() {
            libc::dup2(fd, number as i32);
        }
        reset_signals();
        libc::umask(0o022);
        libc::execv(program, pointers.as_ptr());
        libc::_exit(127);
    }
}

/// `/dev/null` for a program that has no stdin or whose output goes to a terminal.
pub fn null() -> io::Result<OwnedFd> {
    Ok(File::options().read(true).write(true).open("/dev/null")?.into())
}

/// A second descriptor of the same file.
pub fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}
