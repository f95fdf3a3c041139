//! Test hosts: each its own network, mount and process namespaces, root and run directories and cgroup, so that a
//! cluster in it touches nothing of the machine, and all of it is gone with its first process.

mod cluster;
mod host;
mod wait;

pub use cluster::{BUSYBOX, Cluster, Options, busybox_archive, shared};
pub use host::{Host, Output};
pub use wait::eventually;

use std::path::PathBuf;

/// The repository.
pub fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The built binary, as `script/test` or the developer built it.
pub fn corten() -> PathBuf {
    if let Some(path) = std::env::var_os("CORTEN") {
        return path.into();
    }
    // This test is at <target>/<profile>/deps/<name>.
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test.ancestors().nth(2).expect("cargo's layout");
    let binary = profile.join("corten");
    assert!(binary.exists(), "{} is missing: build it first, or name it in CORTEN", binary.display());
    binary
}
