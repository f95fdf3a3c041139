//! Pods that a Job has tracked and no longer owns: their finalizers would hold them for ever, for nobody counts them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::track;
use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.pods.on(move |change| {
        let Some(pod) = change.new.filter(|pod| track::has_finalizer(pod)) else { return };
        // Those of a Job are that Job's business until it is gone.
        if meta::owner_key::<Job>(&pod.metadata).is_none() {
            due.add(Key::of(&**pod));
        }
    });
    loops.add(Orphans { world: world.clone() }, queue);
}

struct Orphans {
    world: Arc<World>,
}

impl Controller for Orphans {
    const NAME: &'static str = "job-orphan-pods";
    const QUEUE: &'static str = "job_orphan_pod";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let is_orphan = |pod: &Arc<Pod>| meta::owner_key::<Job>(&pod.metadata).is_none();
        if let Some(pod) = self.world.pods.by_key(key).filter(is_orphan) {
            super::remove_finalizers(&self.world, [&pod].into_iter()).await?;
        }
        Ok(None)
    }
}
