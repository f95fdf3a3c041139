//! `corten oci`: the OCI runtime command line.

use std::ffi::OsString;

/// Runs one OCI runtime command and returns the exit code. Call it before any thread is started: it forks.
pub fn main(args: Vec<OsString>) -> i32 {
    let _ = args;
    1
}
