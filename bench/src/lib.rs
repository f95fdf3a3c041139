//! What the benchmarks share: a client, samples, and how they are printed.

pub mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

/// Where the measured cluster is.
#[derive(clap::Args)]
pub struct Target {
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: PathBuf,
}

/// A client of the cluster that a kubeconfig names.
pub async fn client(kubeconfig: &Path) -> Result<kube::Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(client::from_kubeconfig(kubeconfig, "bench").await?)
}

/// A namespace of its own for a run.
pub async fn namespace(client: &kube::Client) -> Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"generateName": "bench-"}}))?;
    let made =
        namespaces.create(&PostParams::default(), &namespace).await.context("cannot make a namespace")?;
    made.metadata.name.context("a namespace has a name")
}

/// As [`namespace`], ready for pods: its service account is there.
pub async fn namespace_for_pods(client: &kube::Client) -> Result<String> {
    let name = namespace(client).await?;
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client.clone(), &name);
    let mut changes = std::pin::pin!(kube::runtime::watcher(
        accounts,
        kube::runtime::watcher::Config::default().fields("metadata.name=default")
    ));
    use futures::TryStreamExt;
    use kube::runtime::watcher::Event;
    while let Some(change) = changes.try_next().await? {
        if matches!(change, Event::Apply(_) | Event::InitApply(_)) {
            break;
        }
    }
    Ok(name)
}

/// Removes what [`namespace`] made, with all in it.
pub async fn remove_namespace(client: &kube::Client, name: &str) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// Durations of many like operations.
#[derive(Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub fn extend(&mut self, other: Samples) {
        self.0.extend(other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn quantile(&self, q: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * q).round() as usize).copied().unwrap_or_default()
    }

    /// Prints `name` with median, 99th percentile and maximum.
    pub fn print(mut self, name: &str) {
        self.0.sort_unstable();
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        println!(
            "{name:<28} p50 {:>9.2} ms   p90 {:>9.2} ms   p99 {:>9.2} ms   max {:>9.2} ms   n {}",
            ms(self.quantile(0.5)),
            ms(self.quantile(0.9)),
            ms(self.quantile(0.99)),
            ms(self.quantile(1.0)),
            self.0.len()
        );
    }
}
