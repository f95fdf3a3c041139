//! What a cluster consists of, on disk: written before each thing is made, so that all of it can be taken back, also by
//! somebody else, also after a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use net::{Ipv4Net, Ipv6Net};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::host::Identity;
use crate::plan::{Families, Role};

const FILE: &str = "cluster.json";
const LOCK: &str = ".lock";

/// A record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("cannot {operation} {path}: {source}", path = path.display())]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {reason}; remove the cluster's directory by hand when nothing of it runs", path = path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("there is no cluster {name:?}; those that there are: corten cluster list")]
    Unknown { name: String },
    #[error("cluster {cluster:?} has no node {node:?}; it has {there}")]
    NoNode { cluster: String, node: String, there: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    /// Of the bridge, and the beginning of the names of its ports.
    pub segment: String,
    /// The bridge's address and the nodes' network.
    pub gateway: Ipv4Net,
    /// The same in the other family, where nodes have both.
    #[serde(default)]
    pub gateway6: Option<Ipv6Net>,
    /// Where the machine's users find the API server.
    pub api: Option<SocketAddr>,
    pub relay: Option<Identity>,
    /// The machine did not forward packets before.
    pub began_forwarding: bool,
    /// The kubeconfig that knows the cluster.
    pub kubeconfig: Option<PathBuf>,
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    pub role: Role,
    pub ip: Ipv4Addr,
    #[serde(default)]
    pub ip6: Option<Ipv6Addr>,
    #[serde(default)]
    pub families: Families,
    /// The bridge's port.
    pub port: String,
    pub host: Option<Identity>,
    pub paused: bool,
    pub cut: bool,
}

impl Node {
    /// Those that the cluster knows it by, the main one first.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let four = (self.families != Families::Ipv6).then_some(IpAddr::from(self.ip));
        [four, self.ip6.map(IpAddr::from)].into_iter().flatten()
    }

    pub fn main_ip(&self) -> IpAddr {
        self.ips().next().unwrap_or_else(|| self.ip.into())
    }
}

impl Record {
    pub fn node(&self, name: &str) -> Result<&Node, RecordError> {
        let there = || self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| RecordError::NoNode {
            cluster: self.name.clone(),
            node: name.to_owned(),
            there: there(),
        })
    }

    /// The cgroup that the cluster's are under.
    pub fn cgroup(&self) -> String {
        format!("/corten-cluster-{}", self.name)
    }

    pub fn cgroup_of(&self, node: &str) -> String {
        format!("{}/{node}", self.cgroup())
    }

    pub fn is_running(&self) -> bool {
        self.nodes.iter().any(|node| node.host.is_some_and(|host| host.is_alive()))
    }
}

/// Where records are.
#[derive(Clone, Debug)]
pub struct Records {
    base: PathBuf,
}

impl Records {
    /// Below the directory that everything of Corten is in.
    pub fn new(root: &Path) -> Self {
        Self { base: root.join("clusters") }
    }

    pub fn directory(&self, cluster: &str) -> PathBuf {
        self.base.join(cluster)
    }

    pub fn node_directory(&self, cluster: &str, node: &str) -> PathBuf {
        self.directory(cluster).join("nodes").join(node)
    }

    /// Whoever makes or removes a cluster holds this: names and networks are given out once.
    pub fn lock(&self) -> Result<File, RecordError> {
        fs::create_dir_all(&self.base).map_err(failed("make", &self.base))?;
        let path = self.base.join(LOCK);
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed("open", &path))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| failed("lock", &path)(errno.into()))?;
        Ok(file)
    }

    /// Every cluster, by name.
    pub fn all(&self) -> Result<Vec<Record>, RecordError> {
        let entries = match fs::read_dir(&self.base) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &self.base)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("read", &self.base))?;
            if entry.path().join(FILE).exists() {
                names.extend(entry.file_name().into_string().ok());
            }
        }
        names.sort();
        names.iter().map(|name| self.get(name)).collect()
    }

    pub fn get(&self, name: &str) -> Result<Record, RecordError> {
        let path = self.directory(name).join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RecordError::Unknown { name: name.to_owned() });
            }
            text => text.map_err(failed("read", &path))?,
        };
        serde_json::from_str(&text)
            .map_err(|error| RecordError::Damaged { path: path.clone(), reason: error.to_string() })
    }

    /// Writes the record: the old one or the new one is there, whatever happens.
    pub fn put(&self, record: &Record) -> Result<(), RecordError> {
        let directory = self.directory(&record.name);
        fs::create_dir_all(&directory).map_err(failed("make", &directory))?;
        let (path, new) = (directory.join(FILE), directory.join("cluster.json.new"));
        let text = serde_json::to_string_pretty(record)
            .map_err(|error| RecordError::Damaged { path: path.clone(), reason: error.to_string() })?;
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&new, &path)
        };
        write().map_err(failed("write", &path))
    }

    /// Removes the directory of a cluster, and those above it that nobody needs any more.
    pub fn remove(&self, name: &str) -> Result<(), RecordError> {
        let directory = self.directory(name);
        fs::remove_dir_all(&directory).map_err(failed("remove", &directory))?;
        if fs::read_dir(&self.base)
            .is_ok_and(|mut left| left.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK)))
        {
            let _ = fs::remove_file(self.base.join(LOCK));
            let _ = fs::remove_dir(&self.base);
            // Only when there is nothing else of Corten.
            let _ = self.base.parent().map(fs::remove_dir);
        }
        Ok(())
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::File { operation, path, source }
}

/// A name for an interface, of that of a cluster: there is room for little.
pub fn segment_name(cluster: &str) -> String {
    // FNV-1a, 32 bits: a clash is noticed, for the interface is there already.
    let hash = cluster
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("ct{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let records = Records::new(&root.path().join("corten"));
        assert!(records.all().unwrap().is_empty());
        let record = Record {
            name: "dev".into(),
            segment: segment_name("dev"),
            gateway: "198.19.0.1/24".parse().unwrap(),
            gateway6: None,
            api: None,
            relay: None,
            began_forwarding: false,
            kubeconfig: None,
            nodes: Vec::new(),
        };
        assert!(record.segment.len() + 4 <= 15);
        let lock = records.lock().unwrap();
        records.put(&record).unwrap();
        assert_eq!(records.all().unwrap().len(), 1);
        assert_eq!(records.get("dev").unwrap().gateway, record.gateway);
        assert!(matches!(records.get("no"), Err(RecordError::Unknown { .. })));
        assert!(record.node("x").is_err());
        records.remove("dev").unwrap();
        drop(lock);
        assert!(!root.path().join("corten").exists(), "nothing is left");
    }
}
