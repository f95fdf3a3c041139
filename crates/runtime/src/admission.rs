//! Whoever must know of a pod before its processes run.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use k8s_cri::v1::PodSandboxConfig;

use crate::{Error, Result};

/// Labels of the kubelet's own, which the pod does not have.
const KUBELET: &str = "io.kubernetes.";

/// A pod that was just given addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    pub namespace: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub ips: Vec<IpAddr>,
}

type Admit = dyn Fn(PodNetwork) -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// Is told of every pod with addresses of its own, and waited for. A refusal fails the pod's start.
#[derive(Clone)]
pub struct Admission(Arc<Admit>);

impl Admission {
    pub fn new(
        admit: impl Fn(PodNetwork) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(admit))
    }

    pub(crate) async fn admit(&self, config: &PodSandboxConfig, ips: Vec<IpAddr>) -> Result<()> {
        let metadata = config.metadata.clone().unwrap_or_default();
        let labels = config.labels.iter().filter(|(key, _)| !key.starts_with(KUBELET));
        let pod = PodNetwork {
            namespace: metadata.namespace,
            name: metadata.name,
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
            ips,
        };
        (self.0)(pod).await.map_err(Error::FailedPrecondition)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admission")
    }
}
