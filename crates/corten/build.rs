//! Builds `corten-shim`, optimised for size, so that the binary can carry it.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let workspace = manifest_dir.join("../..");
    for input in ["crates/shim", "crates/shim-protocol", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    // A target directory of its own: this cargo holds the lock of the outer one.
    let target = out.join("shim-target");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo
        .current_dir(&workspace)
        .args(["build", "--package", "shim", "--profile", "shim", "--locked"])
        .arg("--target-dir")
        .arg(&target)
        // What the outer cargo tells its own rustc is not meant for this one.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER");
    let status = cargo.status().expect("cargo can be run");
    assert!(status.success(), "corten-shim could not be built");
    fs::copy(target.join("shim/corten-shim"), out.join("corten-shim")).expect("the shim was built");
}
