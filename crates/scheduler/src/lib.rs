//! Assigns pods to nodes.
//!
//! [`core`] is the scheduler without the world around it: a picture of the [`cluster`] that each event changes a
//! little, a [`queue`] of pods that wait, and the choice of a node ([`decide`]) by [`plugins`], whose judgements are
//! kept and brought up to date ([`classes`]) rather than made anew. [`scheduler`] brings it what the watches tell
//! ([`news`]) and carries out what it decides ([`bind`], [`evict`], [`outcome`]). Decisions are free of IO and are made
//! one after the other; bindings run beside them, counted in advance.

mod bind;
mod budgets;
mod classes;
mod cluster;
pub mod config;
pub mod core;
mod decide;
mod decision;
mod devices;
mod evict;
mod extended;
mod extender;
pub mod fit;
mod labels;
pub mod metrics;
mod news;
mod outcome;
mod plugins;
mod pod;
mod pod_resources;
mod queue;
mod random;
mod reserve;
mod resources;
mod scheduler;
mod stages;
mod storage;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use client::{Informer, Informers};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use config::Config;
use news::News;
use scheduler::Scheduler;

/// The scheduler could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Config(#[from] config::ConfigError),
}

/// What a scheduler tells of itself. Clones share it.
#[derive(Clone, Default)]
pub struct Pages {
    pub metrics: metrics::Metrics,
    syncing: Arc<AtomicBool>,
    /// Known once a scheduler has begun to work.
    pods: Arc<OnceLock<Informer<Pod>>>,
}

impl Pages {
    /// Whether all that decisions depend on has been heard of. A scheduler that waits to lead has no need to.
    pub fn is_ready(&self) -> bool {
        !self.syncing.load(Ordering::Relaxed)
    }

    /// What pods want, in Prometheus' text form.
    pub fn resources(&self) -> String {
        pod_resources::text(&self.pods.get().map(Informer::list).unwrap_or_default())
    }
}

/// Pods decided over before looking at what has changed meanwhile.
const BATCH: usize = 64;

/// Runs until `shutdown`.
pub fn run(
    informers: Informers,
    config: Config,
    pages: Pages,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(informers, config, pages, shutdown))
}

async fn run_until(
    informers: Informers,
    config: Config,
    pages: Pages,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (sender, mut messages) = mpsc::unbounded_channel();
    let mut scheduler = Scheduler::new(&config, informers.client(), sender, pages.metrics.clone())?;
    let mut news = News::new(&informers);
    pages.pods.get_or_init(|| informers.all());
    let mut changes = Vec::new();
    loop {
        // Nothing is decided on half a picture.
        let ready = news.is_complete();
        pages.syncing.store(!ready, Ordering::Relaxed);
        let more = ready && (0..BATCH).all(|_| scheduler.schedule_next());
        scheduler.measure();
        let due = scheduler.core.next_due().filter(|_| ready);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            Some(message) = messages.recv() => scheduler.hear(message),
            () = news.next(&mut changes) => changes.drain(..).for_each(|change| scheduler.take_in(change)),
            () = tokio::task::yield_now(), if more => {}
            () = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            }, if !more => {}
        }
    }
}
