//! Asking the kubelets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use http::Request;
use http_body_util::{BodyExt, Limited};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tracing::debug;

use crate::summary::Summary;

/// What was told stays true for so long: a kubelet does not look at its containers more often either.
const FRESH: Duration = Duration::from_secs(5);
/// A node that takes longer is left out: the others are worth more than waiting.
const LIMIT: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 64;
/// Of a thousand pods it has a few megabytes.
const MAX_SUMMARY: usize = 32 << 20;

/// Why a node is left out.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Client(#[from] kube::Error),
    #[error("the answer broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the kubelet answered {code}: {text}")]
    Refused { code: http::StatusCode, text: String },
    #[error("the answer is no summary: {0}")]
    Decode(#[from] serde_json::Error),
    #[error("no answer in {LIMIT:?}")]
    Timeout,
}

/// One asking of one node, shared by all who want to know at the time. Empty for a node that did not answer.
struct Asked {
    at: Instant,
    summary: OnceCell<Option<Arc<Summary>>>,
}

pub struct Gatherer {
    pub client: kube::Client,
    known: Mutex<HashMap<String, Arc<Asked>>>,
}

impl Gatherer {
    pub fn new(client: kube::Client) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// What the kubelets of these nodes say, without those that do not answer.
    pub async fn of(&self, nodes: impl IntoIterator<Item = String>) -> HashMap<String, Arc<Summary>> {
        self.known.lock().retain(|_, asked| asked.at.elapsed() < FRESH);
        stream::iter(nodes)
            .map(|node| async move {
                let summary = self.summary(&node).await?;
                Some((node, summary))
            })
            .buffer_unordered(AT_ONCE)
            .filter_map(std::future::ready)
            .collect()
            .await
    }

    async fn summary(&self, node: &str) -> Option<Arc<Summary>> {
        let new = || Arc::new(Asked { at: Instant::now(), summary: OnceCell::new() });
        let asked = self.known.lock().entry(node.to_owned()).or_insert_with(new).clone();
        let asking = asked.summary.get_or_init(|| async {
            match tokio::time::timeout(LIMIT, self.ask(node)).await.unwrap_or(Err(Unanswered::Timeout)) {
                Ok(summary) => Some(Arc::new(summary)),
                Err(error) => {
                    debug!(node, %error, "a kubelet does not say what its pods use");
                    None
                }
            }
        });
        asking.await.clone()
    }

    async fn ask(&self, node: &str) -> Result<Summary, Unanswered> {
        let path = format!("/api/v1/nodes/{node}/proxy/stats/summary?only_cpu_and_memory=true");
        let request = Request::get(path).body(kube::client::Body::empty())?;
        let (parts, body) = self.client.send(request).await?.into_parts();
        let body = Limited::new(body, MAX_SUMMARY).collect().await.map_err(Unanswered::Body)?.to_bytes();
        if !parts.status.is_success() {
            let text = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(Unanswered::Refused { code: parts.status, text });
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
