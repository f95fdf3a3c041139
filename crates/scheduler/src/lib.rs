//! Assigns pods to nodes.

use client::Informers;
use tokio_util::sync::CancellationToken;

/// How the scheduler presents itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods whose `spec.schedulerName` is this are ours.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            scheduler_name: "default-scheduler".to_owned(),
        }
    }
}

/// The scheduler could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {}

/// Runs until `shutdown`.
pub async fn run(_informers: Informers, _config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    shutdown.cancelled().await;
    Ok(())
}
