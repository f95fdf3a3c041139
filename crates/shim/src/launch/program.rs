//! The last step: the program itself.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;

use shim_protocol::Process;

use super::credentials;

pub fn run(process: &Process) -> Result<Infallible, String> {
    let strings = |list: &[String], what: &str| {
        list.iter()
            .map(|s| CString::new(s.as_str()).map_err(|_| format!("{what} {s:?} has a NUL in it")))
            .collect::<Result<Vec<_>, _>>()
    };
    let args = strings(&process.args, "argument")?;
    let env = strings(&process.env, "environment variable")?;
    let name = process.args.first().ok_or("no command")?;
    // As the user may not: the directory is the pod's choice.
    let denied = std::env::set_current_dir(&process.cwd).err();
    credentials::assume(process)?;
    if denied.is_some() {
        std::env::set_current_dir(&process.cwd)
            .map_err(|e| format!("change to working directory {:?}: {e}", process.cwd))?;
    }
    let path = process.env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        path.split(':').map(|d| format!("{}/{name}", if d.is_empty() { "." } else { d })).collect()
    };
    // SAFETY: touches no memory. From here on nothing of ours is passed to the program.
    unsafe {
        libc::umask(0o022);
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
    let pointers =
        |list: &[CString]| list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (args, env) = (pointers(&args), pointers(&env));
    let mut error = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates {
        let Ok(candidate) = CString::new(candidate) else { continue };
        // SAFETY: both lists end with a null and live through the call, as what they point to does.
        unsafe { libc::execve(candidate.as_ptr(), args.as_ptr(), env.as_ptr()) };
        let failed = io::Error::last_os_error();
        // One that may not be run is told rather than that the others are not there.
        if failed.kind() != io::ErrorKind::NotFound && error.kind() == io::ErrorKind::NotFound {
            error = failed;
        }
    }
    Err(match error.raw_os_error() {
        Some(libc::ENOENT) if name.contains('/') => {
            format!("exec: {name:?}: stat {name}: no such file or directory")
        }
        Some(libc::ENOENT) => format!("exec: {name:?}: executable file not found in $PATH"),
        Some(libc::EACCES) => format!("exec: {name:?}: permission denied"),
        Some(libc::ENOEXEC) => format!("exec {name}: exec format error"),
        _ => format!("exec {name:?}: {error}"),
    })
}
