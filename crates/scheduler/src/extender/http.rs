//! One extender: calls to it, with its TLS and its time limit.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use kube::api::PostParams;
use kube::core::request::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::{
    Args, BindingArgs, BindingResult, Filtered, HostPriority, MetaPod, MetaVictims, Nodes, PreemptionArgs,
    PreemptionResult, VictimPods,
};
use super::{ExtenderError, name};
use crate::config::{ConfigError, ExtenderFile, Tls};
use crate::decide::preemption::Victims;
use crate::pod::PodInfo;

const TIMEOUT: Duration = Duration::from_secs(5);

pub struct Extender {
    file: ExtenderFile,
    client: kube::Client,
}

impl Extender {
    pub fn new(file: &ExtenderFile) -> Result<Self, ConfigError> {
        let failed = |message: String| ConfigError::Extender { url: file.url_prefix.clone(), message };
        let url = file.url_prefix.trim_end_matches('/');
        let config = configure(url, file.tls_config.as_ref(), file.enable_https).map_err(failed)?;
        let client = kube::Client::try_from(config).map_err(|error| failed(error.to_string()))?;
        Ok(Self { file: file.clone(), client })
    }

    pub fn filters(&self) -> bool {
        !self.file.filter_verb.is_empty()
    }

    pub fn prioritizes(&self) -> bool {
        !self.file.prioritize_verb.is_empty()
    }

    pub fn chooses(&self) -> bool {
        self.filters() || self.prioritizes()
    }

    pub fn binds(&self) -> bool {
        !self.file.bind_verb.is_empty()
    }

    pub fn preempts(&self) -> bool {
        !self.file.preempt_verb.is_empty()
    }

    pub fn is_ignorable(&self) -> bool {
        self.file.ignorable
    }

    pub fn weight(&self) -> i64 {
        self.file.weight
    }

    /// Whether the pod asks for something that the extender looks after; if it names nothing, it looks after all.
    pub fn wants(&self, pod: &Pod) -> bool {
        if self.file.managed_resources.is_empty() {
            return true;
        }
        let Some(spec) = &pod.spec else { return false };
        let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let asks = |container: &Container| {
            let Some(resources) = &container.resources else { return false };
            let mut amounts = resources.requests.iter().chain(&resources.limits);
            amounts.any(|list| {
                self.file.managed_resources.iter().any(|managed| list.contains_key(&managed.name))
            })
        };
        containers.any(asks)
    }

    fn args<'a>(&self, pod: &'a Pod, nodes: &'a [Arc<Node>]) -> Args<'a> {
        if self.file.node_cache_capable {
            let names = nodes.iter().map(|node| name(node)).collect();
            return Args { pod, nodes: None, node_names: Some(names) };
        }
        let items = nodes.iter().map(|node| &**node).collect();
        Args { pod, nodes: Some(Nodes { items }), node_names: None }
    }

    /// The nodes left, and those refused.
    pub async fn filter(
        &self,
        pod: &Pod,
        nodes: &[Arc<Node>],
    ) -> Result<(HashSet<String>, Vec<(String, String, bool)>), ExtenderError> {
        let answer: Filtered = self.call(&self.file.filter_verb, &self.args(pod, nodes)).await?;
        self.said(answer.error)?;
        let left = match (answer.node_names, answer.nodes) {
            (Some(names), _) if self.file.node_cache_capable => names.into_iter().collect(),
            (_, Some(nodes)) => {
                nodes.items.unwrap_or_default().iter().map(|node| name(node).to_owned()).collect()
            }
            (Some(names), None) => names.into_iter().collect(),
            (None, None) => HashSet::new(),
        };
        let refused = |nodes: Option<BTreeMap<String, String>>, helps: bool| {
            nodes.unwrap_or_default().into_iter().map(move |(node, reason)| (node, reason, helps))
        };
        let hopeless = refused(answer.failed_and_unresolvable_nodes, false);
        let refused = refused(answer.failed_nodes, true).chain(hopeless).collect();
        Ok((left, refused))
    }

    pub async fn prioritize(
        &self,
        pod: &Pod,
        nodes: &[Arc<Node>],
    ) -> Result<Vec<(String, i64)>, ExtenderError> {
        let answer: Vec<HostPriority> = self.call(&self.file.prioritize_verb, &self.args(pod, nodes)).await?;
        Ok(answer.into_iter().map(|wish| (wish.host, wish.score)).collect())
    }

    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), ExtenderError> {
        let args =
            BindingArgs { pod_name: pod.name(), pod_namespace: pod.namespace(), pod_uid: &pod.uid, node };
        let answer: BindingResult = self.call(&self.file.bind_verb, &args).await?;
        self.said(answer.error)
    }

    /// The candidates that the extender agrees to, with the victims it would have.
    pub async fn preempt(
        &self,
        pod: &PodInfo,
        candidates: &[Victims],
    ) -> Result<Vec<Victims>, ExtenderError> {
        let mut args = PreemptionArgs {
            pod: &pod.pod,
            node_name_to_victims: BTreeMap::new(),
            node_name_to_meta_victims: BTreeMap::new(),
        };
        for victims in candidates {
            let (node, violations) = (victims.node.as_str(), victims.violations);
            if self.file.node_cache_capable {
                let pods = victims.pods.iter().map(|pod| MetaPod { uid: pod.uid.to_string() }).collect();
                args.node_name_to_meta_victims.insert(node, MetaVictims { pods: Some(pods), violations });
            } else {
                let pods = victims.pods.iter().map(|pod| &*pod.pod).collect();
                args.node_name_to_victims.insert(node, VictimPods { pods, violations });
            }
        }
        let answer: PreemptionResult = self.call(&self.file.preempt_verb, &args).await?;
        let answer = answer.node_name_to_meta_victims.unwrap_or_default();
        let agreed = candidates.iter().filter_map(|victims| {
            let wanted = answer.get(&victims.node)?;
            let uids: HashSet<&str> = wanted.pods.iter().flatten().map(|pod| pod.uid.as_str()).collect();
            let pods = victims.pods.iter().filter(|pod| uids.contains(&*pod.uid)).cloned().collect();
            Some(Victims { node: victims.node.clone(), pods, violations: wanted.violations })
        });
        Ok(agreed.collect())
    }

    fn said(&self, message: String) -> Result<(), ExtenderError> {
        if message.is_empty() {
            return Ok(());
        }
        Err(ExtenderError::Said { url: self.file.url_prefix.clone(), message })
    }

    async fn call<T: DeserializeOwned>(&self, verb: &str, body: &impl Serialize) -> Result<T, ExtenderError> {
        let failed = |source: kube::Error| ExtenderError::Call {
            url: format!("{}/{verb}", self.file.url_prefix),
            source: Box::new(source),
        };
        let body = serde_json::to_vec(body).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        let path = format!("/{}", verb.trim_start_matches('/'));
        let mut request = Request::new(path.clone())
            .create(&PostParams::default(), body)
            .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        // Without the empty query that requests to API servers have.
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        let timeout = self.file.http_timeout.unwrap_or(TIMEOUT);
        match tokio::time::timeout(timeout, self.client.request::<T>(request)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(ExtenderError::Timeout {
                url: format!("{}/{verb}", self.file.url_prefix),
                seconds: timeout.as_secs(),
            }),
        }
    }
}

/// The library that speaks to API servers speaks to extenders: it knows TLS and client certificates.
fn configure(url: &str, tls: Option<&Tls>, https: bool) -> Result<kube::Config, String> {
    let uri = url.parse().map_err(|error| format!("{url:?} is not a URL: {error}"))?;
    let mut config = kube::Config::new(uri);
    let Some(tls) = tls else {
        config.accept_invalid_certs = https;
        return Ok(config);
    };
    config.accept_invalid_certs = tls.insecure;
    if !tls.server_name.is_empty() {
        config.tls_server_name = Some(tls.server_name.clone());
    }
    let kubeconfig = serde_json::json!({
        "clusters": [{"name": "x", "cluster": {
            "server": url,
            "certificate-authority": given(&tls.ca_file),
            "certificate-authority-data": text(&tls.ca_data),
        }}],
        "users": [{"name": "x", "user": {
            "client-certificate": given(&tls.cert_file),
            "client-key": given(&tls.key_file),
            "client-certificate-data": text(&tls.cert_data),
            "client-key-data": text(&tls.key_data),
        }}],
    });
    let kubeconfig: kube::config::Kubeconfig =
        serde_json::from_value(kubeconfig).map_err(|error| error.to_string())?;
    let cluster = kubeconfig.clusters.into_iter().next().and_then(|named| named.cluster);
    let authorities = cluster.map(|cluster| authorities(&cluster)).transpose()?.flatten();
    config.root_cert = authorities;
    if let Some(user) = kubeconfig.auth_infos.into_iter().next().and_then(|named| named.auth_info) {
        config.auth_info = user;
    }
    Ok(config)
}

fn given(path: &std::path::Path) -> Option<&std::path::Path> {
    (!path.as_os_str().is_empty()).then_some(path)
}

fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// The certificates, as DER.
fn authorities(cluster: &kube::config::Cluster) -> Result<Option<Vec<Vec<u8>>>, String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let pem = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
        (Some(data), _) => STANDARD.decode(data).map_err(|error| format!("caData: {error}"))?,
        (None, Some(path)) => std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?,
        (None, None) => return Ok(None),
    };
    let text = String::from_utf8(pem).map_err(|error| format!("the certificate is not PEM: {error}"))?;
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let decode = |block: &str| {
        let body: String = block.split("-----END").next().unwrap_or_default().split_whitespace().collect();
        STANDARD.decode(body).map_err(|error| format!("the certificate is not PEM: {error}"))
    };
    blocks.map(decode).collect::<Result<Vec<_>, _>>().map(Some)
}
