//! Starting the nodes of a cluster, and what can be done to them.

use std::fs::{self, File as LogFile};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use net::segment::Segment;

use crate::host::{self, Attended, Bind, File, Host, Program, Root, Spec, StartError, Uplink};
use crate::record::{Node, Record, RecordError, Records};

/// Directories of a node that outlive its processes, where a machine has them too.
const KEPT: [(&str, &str); 3] =
    [("corten", "/var/lib/corten"), ("kubelet", "/var/lib/kubelet"), ("log", "/var/log")];
/// Of the machine's own Kubernetes, if it has one: not the node's.
const HIDDEN: [&str; 1] = ["/etc/kubernetes"];

/// Something could not be done to a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("node {node}: {source}")]
    Network { node: String, source: net::Error },
    #[error("cannot make {path}: {source}", path = path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("node {node} does not run: its first process has ended; delete the cluster and create it anew")]
    Gone { node: String },
    #[error("cannot {operation} node {node}: {source}")]
    Process { operation: &'static str, node: String, source: io::Error },
}

/// What a node is to have beyond what every node has.
pub struct Furniture {
    pub programs: Vec<Program>,
    pub binds: Vec<Bind>,
    pub files: Vec<File>,
}

/// Starts the host of a node and plugs it in. `init` is a command that calls [`host::init::run`].
pub fn start(
    records: &Records,
    record: &Record,
    node: &Node,
    furniture: Furniture,
    mut init: Command,
) -> Result<Attended, NodeError> {
    let directory = records.node_directory(&record.name, &node.name);
    let make = |path: PathBuf| match fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(NodeError::Directory { path, source }),
    };
    let mut binds = Vec::new();
    for (own, target) in KEPT {
        binds.push(Bind { source: make(directory.join(own))?, target: target.into(), read_only: false });
    }
    for target in HIDDEN {
        let source = make(directory.join("hidden").join(target.trim_start_matches('/')))?;
        binds.push(Bind { source, target: target.into(), read_only: false });
    }
    binds.extend(furniture.binds);
    let spec = Spec {
        hostname: node.name.clone(),
        uplink: Uplink::Segment,
        root: Some(Root { stage: make(directory.join("stage"))?, binds, files: furniture.files }),
        programs: furniture.programs,
        cgroup: record.cgroup_of(&node.name),
        attended: false,
    };
    let log = directory.join("log/host.log");
    init.stderr(LogFile::create(&log).map_err(|source| NodeError::Directory { path: log, source })?);
    let host = Host::start(init, &spec)?;
    let identity = host.identity;
    let plugged = segment(record)
        .attach(&node.port, &identity.namespace("net"), node.ip, node.ip6)
        .map_err(|source| NodeError::Network { node: node.name.clone(), source });
    let started = plugged.and_then(|()| Ok(host.go()?));
    if started.is_err() {
        // Nobody else knows of it.
        let _ = identity.kill();
    }
    started
}

pub fn segment(record: &Record) -> Segment {
    Segment { name: record.segment.clone(), gateway: record.gateway, gateway6: record.gateway6 }
}

/// Stops all of a node's processes, or lets them go on.
pub fn set_paused(records: &Records, cluster: &str, node: &str, paused: bool) -> Result<(), NodeError> {
    change(records, cluster, node, |node| {
        let host = alive(node)?;
        let (operation, done) =
            if paused { ("pause", host::pause(&host)) } else { ("resume", host::resume(&host)) };
        done.map_err(|source| NodeError::Process { operation, node: node.name.clone(), source })?;
        node.paused = paused;
        Ok(())
    })
}

/// Pulls a node's plug, or puts it back.
pub fn set_cut(records: &Records, cluster: &str, node: &str, cut: bool) -> Result<(), NodeError> {
    change(records, cluster, node, |node| {
        alive(node)?;
        Segment::set_plugged(&node.port, !cut)
            .map_err(|source| NodeError::Network { node: node.name.clone(), source })?;
        node.cut = cut;
        Ok(())
    })
}

/// Runs a command in a node.
pub fn run(node: &Node, command: Command) -> Result<std::process::Child, NodeError> {
    host::run_inside(&alive(node)?, command).map_err(|source| NodeError::Process {
        operation: "run a command in",
        node: node.name.clone(),
        source,
    })
}

/// Where a file of a node is on the machine, if it is in a directory that the node keeps.
pub fn kept(records: &Records, cluster: &str, node: &str, path: &Path) -> Option<PathBuf> {
    let directory = records.node_directory(cluster, node);
    KEPT.iter().find_map(|(own, target)| Some(directory.join(own).join(path.strip_prefix(target).ok()?)))
}

fn alive(node: &Node) -> Result<host::Identity, NodeError> {
    node.host.filter(host::Identity::is_alive).ok_or_else(|| NodeError::Gone { node: node.name.clone() })
}

fn change(
    records: &Records,
    cluster: &str,
    node: &str,
    work: impl FnOnce(&mut Node) -> Result<(), NodeError>,
) -> Result<(), NodeError> {
    let _lock = records.lock()?;
    let mut record = records.get(cluster)?;
    record.node(node)?;
    if let Some(node) = record.nodes.iter_mut().find(|known| known.name == node) {
        work(node)?;
    }
    Ok(records.put(&record)?)
}
