//! `KubeSchedulerConfiguration` (kubescheduler.config.k8s.io/v1): what upstream's scheduler reads, read here.
//!
//! [`file`] is the file's form, [`plugins`] merges a profile's plugins with the defaults, [`args`] reads what plugins
//! are told. What comes out ([`Config`]) has no defaults left to be thought of.

mod args;
mod file;
mod plugins;
mod shown;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::NodeAffinity;

pub use args::{FitArgs, PreemptionArgs, ResourceWeight, Shape, Strategy};
pub use file::{ExtenderFile, LeaderElection, Tls};

use crate::bind::Timeouts;
use crate::plugins::pod_topology_spread::Defaults;
use crate::plugins::{PluginId, PluginSet};

/// How the scheduler decides, and what about.
#[derive(Clone, Debug)]
pub struct Config {
    pub profiles: Vec<Profile>,
    pub extenders: Vec<ExtenderFile>,
    /// Fitting nodes among which the best is looked for, in percent of all. None: all of them, for looking costs
    /// little when it is known which nodes fit.
    pub percentage_of_nodes_to_score: Option<u32>,
    pub initial_backoff: Duration,
    pub longest_backoff: Duration,
    pub leader_election: LeaderElection,
    /// Of `clientConnection`.
    pub kubeconfig: Option<PathBuf>,
}

/// Pods of one `schedulerName`, and how nodes are found for them.
#[derive(Clone, Debug)]
pub struct Profile {
    pub scheduler_name: String,
    pub filters: PluginSet,
    weights: [i64; 32],
    /// Whether pods may be held back by their gates.
    pub gates: bool,
    pub preempts: bool,
    pub fit: FitArgs,
    pub balanced: Vec<ResourceWeight>,
    pub hard_pod_affinity_weight: i64,
    pub ignore_preferred_terms_of_existing_pods: bool,
    pub added_affinity: Option<NodeAffinity>,
    pub spread_defaults: Defaults,
    pub timeouts: Timeouts,
    pub preemption: PreemptionArgs,
    pub percentage_of_nodes_to_score: Option<u32>,
}

impl Profile {
    pub fn weight(&self, id: PluginId) -> i64 {
        self.weights.get(id as usize).copied().unwrap_or(0)
    }

    fn set_weight(&mut self, id: PluginId, weight: i64) {
        if let Some(place) = self.weights.get_mut(id as usize) {
            *place = weight;
        }
    }

    fn asks(&self, id: PluginId) -> bool {
        self.filters.contains(id) || self.weight(id) > 0
    }

    pub fn spreads(&self) -> bool {
        self.asks(PluginId::PodTopologySpread)
    }

    pub fn attracts(&self) -> bool {
        self.asks(PluginId::InterPodAffinity)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the scheduler's configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the scheduler's configuration {path} is not as it should be: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("extender {url}: {message}")]
    Extender { url: String, message: String },
}

impl Default for Config {
    fn default() -> Self {
        file::Configuration::default()
            .finish()
            .unwrap_or_else(|error| unreachable!("defaults are valid: {error}"))
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|message| ConfigError::Parse { path: path.to_owned(), message })
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let field = |name: &str| value.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        if field("kind") != "KubeSchedulerConfiguration" {
            return Err(format!("kind is {:?}, not KubeSchedulerConfiguration", field("kind")));
        }
        if field("apiVersion") != "kubescheduler.config.k8s.io/v1" {
            return Err(format!(
                "apiVersion is {:?}, not kubescheduler.config.k8s.io/v1",
                field("apiVersion")
            ));
        }
        let file: file::Configuration = serde_json::from_value(value).map_err(|error| error.to_string())?;
        file.finish()
    }
}

#[cfg(test)]
mod tests;
