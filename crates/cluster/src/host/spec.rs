//! What a host is to be: told to its first process on standard input.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub hostname: String,
    pub uplink: Uplink,
    /// Nothing for a host that shares the machine's files.
    pub root: Option<Root>,
    /// What runs in it; what ends is started again.
    pub programs: Vec<Program>,
    /// The cgroup that those of the host are under.
    pub cgroup: String,
    /// The host ends when standard input does, with whoever started it, and takes its cgroups along.
    pub attended: bool,
}

/// Where the host's default route leads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Uplink {
    /// Nowhere, by way of an interface that looks as if it led somewhere.
    Nowhere { address: Ipv4Addr, prefix: u8, gateway: Ipv4Addr },
    /// Whoever starts the host attaches it to a segment before its programs start.
    Segment,
}

/// A root of the host's own: the machine's files as they are, and what is written goes nowhere but into memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Root {
    /// An empty directory of the machine, for the host to work in.
    pub stage: PathBuf,
    pub binds: Vec<Bind>,
    pub files: Vec<File>,
}

/// A directory or file of the machine that the host has too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    pub source: PathBuf,
    pub target: PathBuf,
    pub read_only: bool,
}

/// A file that only the host has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    pub path: PathBuf,
    pub contents: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Nothing for the program that the host's first process is itself.
    pub path: Option<PathBuf>,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Where its output goes, as the host sees it.
    pub log: PathBuf,
}
