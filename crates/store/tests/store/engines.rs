//! Every engine, for tests of what all of them must do.

use store::{EtcdOptions, Options, Store};
use tempfile::TempDir;

use crate::etcd::Cluster;

#[derive(Clone, Copy, Debug)]
pub enum Engine {
    Embedded,
    Etcd,
}

pub const ALL: [Engine; 2] = [Engine::Embedded, Engine::Etcd];

/// Where an engine keeps its state, for as long as this lives.
pub enum Place {
    Directory(TempDir),
    Cluster(Cluster),
}

impl Engine {
    pub fn place(self) -> Place {
        match self {
            Self::Embedded => Place::Directory(tempfile::tempdir().unwrap()),
            Self::Etcd => Place::Cluster(Cluster::start(1)),
        }
    }
}

pub fn etcd(servers: Vec<String>) -> EtcdOptions {
    EtcdOptions { servers, ..EtcdOptions::default() }
}

impl Place {
    pub async fn open(&self, options: Options) -> Store {
        match self {
            Self::Directory(directory) => Store::open(&directory.path().join("state"), options).unwrap(),
            Self::Cluster(cluster) => Store::connect(etcd(cluster.servers()), options).await.unwrap(),
        }
    }
}
