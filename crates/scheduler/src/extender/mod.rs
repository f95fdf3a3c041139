//! Extenders: processes outside that have a say, asked over HTTP as upstream's scheduler asks them.
//!
//! Asking never holds up other pods: it is done beside the loop, and what has changed meanwhile is looked at again
//! before the pod is bound.

mod http;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

pub use http::Extender;

use crate::config::{ConfigError, ExtenderFile};
use crate::core::Verdict;
use crate::decide::preemption::Victims;
use crate::pod::PodInfo;

#[derive(Debug, thiserror::Error)]
pub enum ExtenderError {
    #[error("extender {url}: {source}")]
    Call { url: String, source: Box<kube::Error> },
    #[error("extender {url} did not answer for {seconds} s")]
    Timeout { url: String, seconds: u64 },
    #[error("extender {url} answers with an error: {message}")]
    Said { url: String, message: String },
}

/// All that are configured, in their order.
#[derive(Clone, Default)]
pub struct Extenders(Arc<Vec<Extender>>);

/// The highest score that an extender gives, and what it is worth beside plugins' scores.
const MAX_EXTENDER_SCORE: i64 = 10;

impl Extenders {
    pub fn new(files: &[ExtenderFile]) -> Result<Self, ConfigError> {
        let extenders: Result<_, _> = files.iter().map(Extender::new).collect();
        Ok(Self(Arc::new(extenders?)))
    }

    /// Whether any of them filters or scores such pods.
    pub fn want(&self, pod: &Pod) -> bool {
        self.0.iter().any(|extender| extender.chooses() && extender.wants(pod))
    }

    /// Who binds such pods in the scheduler's stead.
    pub fn binder(&self, pod: &Pod) -> Option<&Extender> {
        self.0.iter().find(|extender| extender.binds() && extender.wants(pod))
    }

    pub fn preempt(&self, pod: &Pod) -> bool {
        self.0.iter().any(|extender| extender.preempts() && extender.wants(pod))
    }

    /// Whom the extenders leave, and what speaks for each. An ignorable extender that fails is passed over.
    pub async fn consult(&self, pod: &Pod, nodes: Vec<(Arc<Node>, i64)>) -> Result<Verdict, ExtenderError> {
        let mut left: Vec<Arc<Node>> = nodes.iter().map(|(node, _)| node.clone()).collect();
        let mut verdict = Verdict::default();
        for extender in self.0.iter().filter(|extender| extender.filters() && extender.wants(pod)) {
            if left.is_empty() {
                break;
            }
            match extender.filter(pod, &left).await {
                Ok((passed, refused)) => {
                    left.retain(|node| passed.contains(name(node)));
                    verdict.refused.extend(refused);
                }
                Err(error) if extender.is_ignorable() => {
                    tracing::warn!(%error, "extender fails; it is ignorable and passed over");
                }
                Err(error) => return Err(error),
            }
        }
        let mut scores: BTreeMap<String, i64> = BTreeMap::new();
        let asked = self.0.iter().filter(|extender| extender.prioritizes() && extender.wants(pod));
        for extender in asked.filter(|_| !left.is_empty()) {
            // What an extender prefers is only a wish: without an answer it has none.
            match extender.prioritize(pod, &left).await {
                Ok(wishes) => {
                    for (node, score) in wishes {
                        let sum = scores.entry(node).or_default();
                        *sum = sum.saturating_add(score.saturating_mul(extender.weight()));
                    }
                }
                Err(error) => tracing::warn!(%error, "extender does not prioritize"),
            }
        }
        let worth = crate::plugins::MAX_SCORE / MAX_EXTENDER_SCORE;
        let own = nodes.into_iter().filter(|(node, _)| left.iter().any(|other| Arc::ptr_eq(other, node)));
        verdict.nodes = own
            .map(|(node, score)| {
                let wish = scores.get(name(&node)).copied().unwrap_or(0).saturating_mul(worth);
                (name(&node).to_owned(), score.saturating_add(wish))
            })
            .collect();
        Ok(verdict)
    }

    /// The candidates that the extenders agree to, with the victims that they would have.
    pub async fn agree(
        &self,
        pod: &PodInfo,
        mut candidates: Vec<Victims>,
    ) -> Result<Vec<Victims>, ExtenderError> {
        for extender in self.0.iter().filter(|extender| extender.preempts() && extender.wants(&pod.pod)) {
            match extender.preempt(pod, &candidates).await {
                Ok(left) => candidates = left,
                Err(error) if extender.is_ignorable() => {
                    tracing::warn!(%error, "extender fails; it is ignorable and passed over");
                }
                Err(error) => return Err(error),
            }
            if candidates.is_empty() {
                break;
            }
        }
        Ok(candidates)
    }
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
