//! What every part of the kubelet shares.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use client::{Informer, Informers};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use tokio::sync::broadcast;

use crate::Options;
use crate::cgroups::Cgroups;
use crate::container::sandbox::{Cluster, parse_resolv_conf};
use crate::cri::Cri;
use crate::events::Recorder;
use crate::images::Images;
use crate::node::machine_info::MachineInfo;
use crate::objects::Objects;
use crate::pod::ext::PodExt;

pub struct Context {
    pub options: Options,
    pub client: kube::Client,
    pub cri: Cri,
    pub events: Recorder,
    pub objects: Arc<Objects>,
    pub images: Images,
    pub cgroups: Cgroups,
    pub machine: MachineInfo,
    pub pods: Informer<Pod>,
    pub services: Informer<Service>,
    pub node: Informer<Node>,
    /// UIDs of pods of which the runtime has news: for those who follow a log.
    pub changes: broadcast::Sender<Arc<str>>,
    host_dns: cri::DnsConfig,
}

impl Context {
    pub fn new(options: Options, cri: Cri) -> Self {
        let client = options.client.clone();
        let informers = Informers::new(client.clone());
        let name = &options.node_name;
        let events = Recorder::start(client.clone(), name.clone());
        let resolv_conf = std::fs::read_to_string(&options.config.resolv_conf).unwrap_or_default();
        Self {
            pods: informers.fields(&format!("spec.nodeName={name}")),
            services: informers.all(),
            node: informers.fields(&format!("metadata.name={name}")),
            images: Images::new(cri.clone(), events.clone()),
            changes: broadcast::channel(256).0,
            objects: Arc::new(Objects::new(client.clone())),
            cgroups: Cgroups::new(&options.config),
            machine: MachineInfo::read(&options.root_dir),
            host_dns: parse_resolv_conf(&resolv_conf),
            events,
            cri,
            client,
            options,
        }
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.options.root_dir.join("pods").join(uid)
    }

    pub fn logs_root(&self) -> PathBuf {
        match self.options.config.pod_logs_dir.as_str() {
            "" => self.options.root_dir.join("logs").join("pods"),
            dir => PathBuf::from(dir),
        }
    }

    pub fn log_dir(&self, pod: &Pod) -> PathBuf {
        let name = format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid());
        self.logs_root().join(name)
    }

    pub fn host_ips(&self) -> Vec<IpAddr> {
        vec![self.options.node_ip]
    }

    pub fn cluster(&self) -> Cluster<'_> {
        Cluster { dns: &self.options.cluster_dns, domain: &self.options.cluster_domain, host: &self.host_dns }
    }

    /// What pods may use of the node, for limits that are not set: CPU in thousandths, the rest in units.
    pub fn allocatable(&self) -> BTreeMap<String, i64> {
        self.machine.allocatable(&self.options.config)
    }
}
