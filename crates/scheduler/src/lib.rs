//! Assigns pods to nodes.
//!
//! [`scheduler::Scheduler`] is the loop. It keeps a picture of the cluster ([`cluster`]) that each event changes a
//! little, and a queue of pods that wait ([`queue`]); [`schedule`] chooses a node by asking the [`plugins`];
//! [`outcome`] tells the API server. Decisions are free of IO and are made one after the other; bindings run beside
//! them, counted in advance.

mod cluster;
pub mod fit;
mod labels;
mod news;
mod outcome;
mod plugins;
mod pod;
mod preemption;
mod queue;
mod resources;
mod schedule;
mod scheduler;
mod storage;
#[cfg(test)]
mod tests;

use client::Informers;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use news::News;
use scheduler::Scheduler;

/// How the scheduler presents itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `spec.schedulerName` is this are ours.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".to_owned() }
    }
}

/// The scheduler could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the scheduler's watch of {0} has ended: the informers' runtime was shut down under it")]
    WatchEnded(&'static str),
}

/// Pods decided over before looking at what has changed meanwhile.
const BATCH: usize = 64;

/// Runs until `shutdown`.
pub fn run(informers: Informers, config: Config, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    // Boxed in this crate, so that its code is generated here and not anew in each crate that runs it.
    Box::pin(run_until(informers, config, shutdown))
}

async fn run_until(informers: Informers, config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let (bound_sender, mut bound) = mpsc::unbounded_channel();
    let mut scheduler = Scheduler::new(config.scheduler_name, informers.client(), bound_sender);
    let mut news = News::new(&informers);
    // Nothing is decided on half a picture.
    while !news.is_complete() {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            told = news.tell(&mut scheduler) => told?,
        }
    }
    loop {
        let more = (0..BATCH).all(|_| scheduler.schedule_next());
        let due = scheduler.next_due();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            Some(bound) = bound.recv() => scheduler.bound(bound),
            told = news.tell(&mut scheduler) => told?,
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
