//! What the watches tell, brought to the scheduler one change at a time.

use client::{Delta, Informers, Subscription};
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::Error;
use crate::scheduler::Scheduler;

const KINDS: usize = 6;

pub struct News {
    classes: Subscription<StorageClass>,
    volumes: Subscription<PersistentVolume>,
    claims: Subscription<PersistentVolumeClaim>,
    namespaces: Subscription<Namespace>,
    nodes: Subscription<Node>,
    pods: Subscription<Pod>,
    /// Kinds of which everything that existed at the start has been told.
    complete: usize,
}

impl News {
    pub fn new(informers: &Informers) -> Self {
        Self {
            classes: informers.all().subscribe(),
            volumes: informers.all().subscribe(),
            claims: informers.all().subscribe(),
            namespaces: informers.all().subscribe(),
            nodes: informers.all().subscribe(),
            pods: informers.all().subscribe(),
            complete: 0,
        }
    }

    pub fn is_complete(&self) -> bool {
        self.complete == KINDS
    }

    /// Waits for the next change and tells it. Nothing is lost if this is given up on while it waits.
    pub async fn tell(&mut self, scheduler: &mut Scheduler) -> Result<(), Error> {
        let ended = Error::WatchEnded;
        let synced = tokio::select! {
            biased;
            delta = self.classes.recv() => {
                let delta = delta.ok_or(ended("storage classes"))?;
                scheduler.class_changed(&delta);
                matches!(delta, Delta::Synced)
            }
            delta = self.volumes.recv() => {
                let delta = delta.ok_or(ended("volumes"))?;
                scheduler.volume_changed(&delta);
                matches!(delta, Delta::Synced)
            }
            delta = self.claims.recv() => {
                let delta = delta.ok_or(ended("claims"))?;
                scheduler.claim_changed(&delta);
                matches!(delta, Delta::Synced)
            }
            delta = self.namespaces.recv() => {
                let delta = delta.ok_or(ended("namespaces"))?;
                scheduler.namespace_changed(&delta);
                matches!(delta, Delta::Synced)
            }
            delta = self.nodes.recv() => {
                let delta = delta.ok_or(ended("nodes"))?;
                scheduler.node_changed(&delta);
                matches!(delta, Delta::Synced)
            }
            delta = self.pods.recv() => {
                let delta = delta.ok_or(ended("pods"))?;
                scheduler.pod_changed(&delta);
                matches!(delta, Delta::Synced)
            }
        };
        self.complete += usize::from(synced);
        Ok(())
    }
}
