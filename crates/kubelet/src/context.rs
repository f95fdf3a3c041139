//! What every part of the kubelet shares.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use client::{Informer, Informers};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::Options;
use crate::affinity::Affinity;
use crate::cgroups::Cgroups;
use crate::claims::Claims;
use crate::container::resources::{NodeDefaults, Swap};
use crate::container::sandbox::{Cluster, parse_resolv_conf};
use crate::cpus::Cpus;
use crate::cri::Cri;
use crate::csi::Csi;
use crate::devices::Devices;
use crate::events::Recorder;
use crate::eviction::Pressure;
use crate::images::Images;
use crate::memory::Memory;
use crate::node::machine_info::MachineInfo;
use crate::numa::machine::Machine;
use crate::objects::Objects;
use crate::pod::ext::PodExt;
use crate::shutdown::Shutdown;
use crate::users::Users;

/// A kubelet that lives here is the machine's only one, and keeps to what everybody knows of such.
const ROOT_OF_THE_MACHINE: &str = "/var/lib/kubelet";
pub const LOGS_OF_THE_MACHINE: &str = "/var/log/pods";

/// The configuration asks a resource manager for something that it cannot do.
#[derive(Debug, thiserror::Error)]
#[error("the {manager} manager cannot start: {reason}: correct the kubelet's configuration")]
pub struct ManagerError {
    manager: &'static str,
    reason: String,
}

/// When the node's start came how far.
#[derive(Clone, Debug, Default)]
pub struct Milestones {
    /// The API server was first asked for the node.
    pub asked: Option<jiff::Timestamp>,
    pub registered: Option<jiff::Timestamp>,
    pub ready: Option<jiff::Timestamp>,
}

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
    pub pressure: Pressure,
    /// Where the runtime keeps images, as far as it has said so.
    pub image_fs: Mutex<Option<PathBuf>>,
    /// What the runtime has said of its handlers.
    pub handlers: Mutex<Vec<cri::RuntimeHandler>>,
    /// The pods of this node's manifests.
    pub statics: Mutex<Vec<Arc<Pod>>>,
    /// Volumes whose place cannot be told from their pod, by the pod's UID and their name.
    pub mounted: Mutex<HashMap<(String, String), PathBuf>>,
    pub csi: Csi,
    pub devices: Devices,
    pub claims: Claims,
    pub cpus: Cpus,
    pub memory: Memory,
    pub affinity: Affinity,
    pub users: Users,
    pub shutdown: Shutdown,
    pub probes: crate::probe::counts::Counts,
    pub started: jiff::Timestamp,
    pub milestones: Mutex<Milestones>,
    host_dns: cri::DnsConfig,
}

impl Context {
    /// `systemd` tells whether the runtime has systemd make its cgroups, as far as it has said so.
    pub fn new(options: Options, cri: Cri, systemd: Option<bool>) -> Result<Self, ManagerError> {
        let client = options.client.clone();
        let informers = Informers::new(client.clone());
        let name = &options.node_name;
        let events = Recorder::start(client.clone(), name.clone());
        let resolv_conf = std::fs::read_to_string(&options.config.resolv_conf).unwrap_or_default();
        let (config, root) = (&options.config, &options.root_dir);
        let hardware = Arc::new(Machine::read(Path::new("/sys")));
        let machine = MachineInfo::read(root);
        let failed = |manager| move |reason| ManagerError { manager, reason };
        let cpus = Cpus::new(config, root, hardware.clone()).map_err(failed("CPU"))?;
        let memory = Memory::new(config, root, &hardware).map_err(failed("memory"))?;
        let images = Images::new(config, root, client.clone(), cri.clone(), events.clone());
        let images = images.map_err(failed("image"))?;
        let affinity = Affinity::new(config, hardware.clone()).map_err(failed("topology"))?;
        Ok(Self {
            pods: informers.fields(&format!("spec.nodeName={name}")),
            services: informers.all(),
            node: informers.fields(&format!("metadata.name={name}")),
            images,
            changes: broadcast::channel(256).0,
            objects: Arc::new(Objects::new(client.clone())),
            cgroups: Cgroups::new(config, systemd, &machine),
            machine,
            host_dns: parse_resolv_conf(&resolv_conf),
            pressure: Pressure::new(&options.config),
            image_fs: Mutex::default(),
            handlers: Mutex::default(),
            statics: Mutex::default(),
            mounted: Mutex::default(),
            claims: Claims::new(&options.root_dir),
            devices: Devices::new(root, hardware.mask()),
            users: Users::new(&options.config, &options.root_dir),
            cpus,
            memory,
            affinity,
            csi: Csi::new(&options.root_dir),
            probes: Default::default(),
            started: jiff::Timestamp::now(),
            milestones: Mutex::default(),
            shutdown: Shutdown::default(),
            events,
            cri,
            client,
            options,
        })
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.options.root_dir.join("pods").join(uid)
    }

    pub fn logs_root(&self) -> PathBuf {
        match self.options.config.pod_logs_dir.as_str() {
            "" if self.options.root_dir == Path::new(ROOT_OF_THE_MACHINE) => {
                PathBuf::from(LOGS_OF_THE_MACHINE)
            }
            "" => self.options.root_dir.join("logs").join("pods"),
            dir => PathBuf::from(dir),
        }
    }

    pub fn log_dir(&self, pod: &Pod) -> PathBuf {
        let name = format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid());
        self.logs_root().join(name)
    }

    pub fn host_ips(&self) -> Vec<IpAddr> {
        self.options.node_ips.clone()
    }

    pub fn cluster(&self) -> Cluster<'_> {
        Cluster { dns: &self.options.cluster_dns, domain: &self.options.cluster_domain, host: &self.host_dns }
    }

    /// Whether the runtime has said that it can.
    pub fn has_user_namespaces(&self, handler: &str) -> bool {
        let handlers = self.handlers.lock();
        let own = handlers.iter().find(|known| known.name == handler);
        own.and_then(|own| own.features.as_ref()).is_some_and(|features| features.user_namespaces)
    }

    pub fn container_defaults(&self) -> NodeDefaults {
        let config = &self.options.config;
        let unified = self.cgroups.is_unified();
        NodeDefaults {
            memory_capacity: self.machine.memory,
            cfs_quota: config.cpu_cfs_quota,
            cfs_period: config.cfs_period(),
            oom_group: self.cgroups.limits_memory()
                && unified
                && config.single_process_oom_kill != Some(true),
            swap: match self.machine.swap {
                swap if swap <= 0 || !unified || !self.cgroups.limits_memory() => Swap::Unsaid,
                swap if config.memory_swap.swap_behavior == "LimitedSwap" => Swap::Share(swap),
                _ => Swap::None,
            },
            throttled: config.throttling().filter(|_| unified),
            tiers: unified && config.protects_memory(),
            memory_allocatable: self.machine.allocatable(config).get("memory").copied().unwrap_or(0),
        }
    }

    /// What pods may use of the node, for limits that are not set: CPU in thousandths, the rest in units.
    pub fn allocatable(&self) -> BTreeMap<String, i64> {
        let mut allocatable = self.machine.allocatable(&self.options.config);
        allocatable.extend(self.devices.amounts().into_iter().map(|(name, (_, healthy))| (name, healthy)));
        allocatable
    }

    /// What the node has.
    pub fn capacity(&self) -> BTreeMap<String, i64> {
        let mut capacity = self.machine.capacity(&self.options.config);
        capacity.extend(self.devices.amounts().into_iter().map(|(name, (all, _))| (name, all)));
        capacity
    }
}
