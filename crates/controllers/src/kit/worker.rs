//! Works off a controller's queue.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::error::SyncError;
use super::key::Key;
use super::queue::Queue;

/// A control loop: makes the world a little more as one object wants it.
pub trait Controller: Send + Sync + 'static {
    /// As upstream names it, in events and logs.
    const NAME: &'static str;
    /// As upstream names its work queue, in metrics.
    const QUEUE: &'static str = Self::NAME;
    /// How many keys are worked on at a time.
    const WORKERS: usize = 5;

    /// Works on one object. The answer says when to come back without any change, if ever.
    fn sync(&self, key: &Key) -> impl Future<Output = Result<Option<Duration>, SyncError>> + Send;
}

/// Runs until `shutdown`; work that has begun is finished.
///
/// Tasks are boxed: what runs a task is compiled anew for each type of task otherwise, of which there is one for each
/// controller here.
pub async fn run<C: Controller>(controller: Arc<C>, queue: Queue, shutdown: CancellationToken) {
    let mut working = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = working.join_next(), if !working.is_empty() => {}
            key = queue.next(), if working.len() < C::WORKERS => {
                working.spawn(work(controller.clone(), queue.clone(), key).boxed());
            }
        }
    }
    while working.join_next().await.is_some() {}
}

async fn work<C: Controller>(controller: Arc<C>, queue: Queue, key: Key) {
    // A panic on one object must not stop the controller for all others.
    let result = AssertUnwindSafe(controller.sync(&key)).catch_unwind().await;
    match result {
        Ok(Ok(again)) => {
            queue.done(&key);
            if let Some(delay) = again {
                queue.add_after(key, delay);
            }
        }
        Ok(Err(error)) => {
            let delay = queue.failed(&key);
            if error.is_expected() {
                debug!(controller = C::NAME, %key, %error, ?delay, "trying again");
            } else {
                warn!(controller = C::NAME, %key, %error, ?delay, "sync failed, trying again");
            }
        }
        Err(_) => {
            queue.failed(&key);
            error!(controller = C::NAME, %key, "sync panicked; the other objects are not affected");
        }
    }
}
