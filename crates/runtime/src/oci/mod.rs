//! `corten oci`: the OCI runtime command line, with the verbs and flags that engines know from runc.
//!
//! The work is libcontainer's. What is ours: the arguments, the error log, mounting the root filesystem where only the container
//! sees it, and giving way where this machine forbids what a configuration wishes (scores and limits without the privilege).

mod arguments;
mod bundle;
mod commands;

use std::ffi::OsString;

use arguments::Arguments;

/// Runs one OCI runtime command and returns the exit code. Call it before any thread is started: it forks.
pub fn main(args: Vec<OsString>) -> i32 {
    // Rust ignores SIGPIPE, and what is ignored stays so across exec: containers would inherit it.
    // SAFETY: sets a disposition; no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let args: Vec<String> = args.into_iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let arguments = match Arguments::parse(&args) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("error: {message}");
            return 2;
        }
    };
    match commands::run(&arguments) {
        Ok(()) => 0,
        Err(message) => {
            report(&arguments, &message);
            1
        }
    }
}

/// Into the log if one is named, as runc does it: stderr may be the container's.
fn report(arguments: &Arguments, message: &str) {
    use std::io::Write;
    let Some(log) = &arguments.log else {
        eprintln!("error: {message}");
        return;
    };
    let line = if arguments.log_format == "json" {
        serde_json::json!({"level": "error", "msg": message}).to_string()
    } else {
        format!("level=error msg={message:?}")
    };
    if let Ok(mut file) = std::fs::File::options().append(true).create(true).open(log) {
        // Nobody is left to tell.
        let _ = writeln!(file, "{line}");
    }
}
