//! What the watches tell, brought to the scheduler in one stream.

use client::{Delta, Informers, Watched};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use tokio::sync::mpsc;

/// One change of one object.
pub enum Change {
    Pod(Delta<Pod>),
    Node(Delta<Node>),
    Namespace(Delta<Namespace>),
    Claim(Delta<PersistentVolumeClaim>),
    Volume(Delta<PersistentVolume>),
    StorageClass(Delta<StorageClass>),
    CsiNode(Delta<CSINode>),
    CsiDriver(Delta<CSIDriver>),
    CsiCapacity(Delta<CSIStorageCapacity>),
    Service(Delta<Service>),
    ReplicaSet(Delta<ReplicaSet>),
    StatefulSet(Delta<StatefulSet>),
    ReplicationController(Delta<ReplicationController>),
    Budget(Delta<PodDisruptionBudget>),
    ResourceClaim(Delta<ResourceClaim>),
    ResourceSlice(Delta<ResourceSlice>),
    DeviceClass(Delta<DeviceClass>),
    /// Everything of one kind that existed at the start has been told.
    Synced,
}

pub struct News {
    changes: mpsc::UnboundedReceiver<Change>,
    sender: mpsc::UnboundedSender<Change>,
    /// Kinds of which not everything has been told yet.
    missing: usize,
}

impl News {
    pub fn new(informers: &Informers) -> Self {
        let (sender, changes) = mpsc::unbounded_channel();
        let mut news = Self { changes, sender, missing: 0 };
        // What pods may depend on first, so that little is decided twice.
        news.follow(informers, Change::Namespace);
        news.follow(informers, Change::StorageClass);
        news.follow(informers, Change::CsiDriver);
        news.follow(informers, Change::CsiNode);
        news.follow(informers, Change::CsiCapacity);
        news.follow(informers, Change::Volume);
        news.follow(informers, Change::Claim);
        news.follow(informers, Change::Service);
        news.follow(informers, Change::ReplicaSet);
        news.follow(informers, Change::StatefulSet);
        news.follow(informers, Change::ReplicationController);
        news.follow(informers, Change::Budget);
        news.follow(informers, Change::DeviceClass);
        news.follow(informers, Change::ResourceSlice);
        news.follow(informers, Change::ResourceClaim);
        news.follow(informers, Change::Node);
        news.follow(informers, Change::Pod);
        news
    }

    fn follow<K: Watched>(&mut self, informers: &Informers, wrap: fn(Delta<K>) -> Change) {
        self.missing += 1;
        let mut deltas = informers.all::<K>().subscribe();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            while let Some(delta) = deltas.recv().await {
                let change = if matches!(delta, Delta::Synced) { Change::Synced } else { wrap(delta) };
                // Nobody listens any more: the scheduler has ended.
                if sender.send(change).is_err() {
                    return;
                }
            }
        });
    }

    /// Whether all that existed at the start has been told.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Waits for changes and gives those that there are, a bounded number. Nothing is lost if this is given up on
    /// while it waits.
    pub async fn next(&mut self, into: &mut Vec<Change>) {
        self.changes.recv_many(into, BATCH).await;
        self.missing -= into.iter().filter(|change| matches!(change, Change::Synced)).count();
    }
}

const BATCH: usize = 256;
