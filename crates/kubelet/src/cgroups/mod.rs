//! The cgroups of pods: `kubepods`, one for each lower QoS class, one per pod, with the pod's limits.
//!
//! Drivers `cgroupfs` and `systemd`, hierarchies v1 and v2. With the former driver, cgroups are ours; with the latter, they
//! have the names and places of slices, which systemd takes as its own when a container is started in them; limits are
//! then set once more. `kubepods` as a whole gets what the node has for pods, Burstable pods together the CPU that they
//! ask for, BestEffort pods next to none. Where the kernel does not let us (no delegation, a read-only mount), a warning
//! is all: pods run, unlimited as a whole, with their containers' own limits.

mod knob;
mod names;
mod tree;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tracing::warn;

use crate::config::KubeletConfiguration;
use crate::container::qos::{self, Class};
use crate::container::quantity::value;
use crate::container::resources::{page_size, quota, shares};
use crate::node::machine_info::MachineInfo;
use crate::pod::ext::PodExt;
use knob::{Knob, weight};
use tree::Hierarchy;

pub struct Cgroups {
    hierarchy: Hierarchy,
    /// `/kubepods`, or below the configured root.
    base: String,
    enabled: bool,
    /// Pods' cgroups are slices.
    systemd: bool,
    /// Processes that a pod may have.
    pids: Option<i64>,
    /// Microseconds that CPU limits are counted over.
    period: i64,
    /// What pods may use together; nothing when that is not enforced.
    node: Option<Node>,
    /// Requests are protected from being reclaimed.
    tiers: bool,
    /// What pods that have cgroups ask for.
    asked: Mutex<BTreeMap<String, Asked>>,
    warned: AtomicBool,
}

#[derive(Clone, Copy)]
struct Node {
    cpu: i64,
    memory: i64,
}

#[derive(Clone, Copy)]
struct Asked {
    class: Class,
    cpu: i64,
    memory: i64,
}

impl Cgroups {
    /// `systemd` is what the runtime says of its driver; the configuration counts where it says nothing.
    pub fn new(config: &KubeletConfiguration, systemd: Option<bool>, machine: &MachineInfo) -> Self {
        let enforced = config.enforce_node_allocatable.iter().any(|what| what == "pods");
        let room = machine.enforced(config);
        let amount = |name: &str| room.get(name).copied().unwrap_or(0);
        let hierarchy = Hierarchy::of_machine();
        Self {
            tiers: matches!(hierarchy, Hierarchy::V2(_)) && config.protects_memory(),
            hierarchy,
            base: format!("{}/kubepods", config.cgroup_root.trim_end_matches('/')),
            enabled: config.cgroups_per_qos,
            systemd: systemd.unwrap_or(config.cgroup_driver == "systemd"),
            pids: (config.pod_pids_limit > 0).then_some(config.pod_pids_limit),
            period: config.cfs_period(),
            node: enforced.then(|| Node { cpu: amount("cpu"), memory: amount("memory") }),
            asked: Mutex::default(),
            warned: AtomicBool::new(false),
        }
    }

    pub fn is_unified(&self) -> bool {
        matches!(self.hierarchy, Hierarchy::V2(_))
    }

    /// Whether this machine lends us the memory controller.
    pub fn limits_memory(&self) -> bool {
        match &self.hierarchy {
            Hierarchy::V1(controllers) => controllers.iter().any(|(name, _)| *name == "memory"),
            Hierarchy::V2(mount) => {
                let controllers = std::fs::read_to_string(mount.join("cgroup.controllers"));
                controllers.is_ok_and(|text| text.split_whitespace().any(|name| name == "memory"))
            }
        }
    }

    /// The cgroup that the pod's containers are made under, as CRI takes it.
    pub fn parent(&self, pod: &Pod) -> String {
        if !self.enabled {
            return String::new();
        }
        let path = names::of_pod(&self.base, qos::class(pod.pod_spec()), pod.uid());
        if self.systemd { names::slice(&path) } else { path }
    }

    pub fn is_systemd(&self) -> bool {
        self.systemd
    }

    /// Where a cgroup is below the mount points.
    fn place(&self, path: &str) -> String {
        let place = if self.systemd { names::slice_place(path) } else { path.to_owned() };
        place.trim_start_matches('/').to_owned()
    }

    fn pod_place(&self, class: Class, uid: &str) -> String {
        self.place(&names::of_pod(&self.base, class, uid))
    }

    /// Makes the pod's cgroup with its limits. `own_cpus`: it has CPUs for itself, and needs no quota.
    pub fn make(&self, pod: &Pod, own_cpus: bool) {
        if !self.enabled {
            return;
        }
        self.know(pod);
        if let Err(error) = self.try_make(pod, own_cpus)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            warn!(%error, "cannot limit pods by cgroups of their own; containers keep their own limits");
        }
    }

    fn try_make(&self, pod: &Pod, own_cpus: bool) -> std::io::Result<()> {
        let place = self.pod_place(qos::class(pod.pod_spec()), pod.uid());
        self.hierarchy.make(&place)?;
        if let Some((limit, dir)) = self.pids.zip(self.hierarchy.dir("pids", &place)) {
            Knob::number(dir.join("pids.max"), Some(limit)).set()?;
        }
        // The larger ones are there now, if they were not before.
        self.class_knobs().iter().try_for_each(Knob::set)?;
        self.knobs(pod, own_cpus).iter().try_for_each(Knob::set)
    }

    /// A pod that has a cgroup: its class as a whole is given what it asks for.
    pub fn know(&self, pod: &Pod) {
        let requests = qos::requests(pod.pod_spec());
        let asked = Asked {
            class: qos::class(pod.pod_spec()),
            cpu: requests.get("cpu"),
            memory: requests.get("memory"),
        };
        self.asked.lock().insert(pod.uid().to_owned(), asked);
    }

    /// Sets the pod's limits anew: its resources have changed.
    pub fn update(&self, pod: &Pod, own_cpus: bool) {
        self.know(pod);
        self.resize(pod, own_cpus, Knob::set);
    }

    /// Only those that grow: containers that still use what they had go on undisturbed.
    pub fn widen(&self, pod: &Pod, own_cpus: bool) {
        self.resize(pod, own_cpus, Knob::widen);
    }

    fn resize(&self, pod: &Pod, own_cpus: bool, set: impl Fn(&Knob) -> std::io::Result<()>) {
        if !self.enabled {
            return;
        }
        let classes = self.class_knobs();
        let knobs = self.knobs(pod, own_cpus);
        let result = classes.iter().try_for_each(Knob::set).and_then(|()| knobs.iter().try_for_each(set));
        if let Err(error) = result {
            warn!(%error, pod = pod.full_name(), "cannot change the limits of the pod's cgroup");
        }
    }

    /// The limits of `kubepods` and of the lower classes.
    fn class_knobs(&self) -> Vec<Knob> {
        let asked = self.asked.lock();
        let sum = |class: Class, of: fn(&Asked) -> i64| -> i64 {
            asked.values().filter(|asked| asked.class == class).map(of).fold(0, i64::saturating_add)
        };
        let place = |class| self.place(&names::of_class(&self.base, class));
        let mut knobs =
            self.cpu_shares(&place(Class::Burstable), shares(sum(Class::Burstable, |one| one.cpu)));
        knobs.extend(self.cpu_shares(&place(Class::BestEffort), shares(0)));
        let whole = place(Class::Guaranteed);
        if let Some(node) = &self.node {
            knobs.extend(self.cpu_shares(&whole, shares(node.cpu)));
            knobs.extend(self.memory_limit(&whole, Some(node.memory)));
        }
        if self.tiers {
            let burstable = sum(Class::Burstable, |one| one.memory);
            knobs.extend(self.memory_tier(&whole, "memory.min", sum(Class::Guaranteed, |one| one.memory)));
            knobs.extend(self.memory_tier(&whole, "memory.low", burstable));
            knobs.extend(self.memory_tier(&place(Class::Burstable), "memory.low", burstable));
        }
        knobs
    }

    /// The pod's limits as files and values.
    fn knobs(&self, pod: &Pod, own_cpus: bool) -> Vec<Knob> {
        let spec = pod.pod_spec();
        let class = qos::class(spec);
        let place = self.pod_place(class, pod.uid());
        let (requests, limits) = (qos::requests(spec), qos::limits(spec));
        let quota = quota(limits.get("cpu")).filter(|_| !own_cpus);
        let mut knobs = self.cpu_shares(&place, shares(requests.get("cpu")));
        if let Some(dir) = self.hierarchy.dir("cpu", &place) {
            let quota = quota.map(|quota| quota.saturating_mul(self.period) / 100_000);
            if self.is_unified() {
                let words = quota.map_or("max".to_owned(), |quota| quota.to_string());
                let text = format!("{words} {}", self.period);
                knobs.push(Knob { file: dir.join("cpu.max"), text, value: quota });
            } else {
                knobs.push(Knob::number(dir.join("cpu.cfs_period_us"), Some(self.period)));
                knobs.push(Knob::number(dir.join("cpu.cfs_quota_us"), Some(quota.unwrap_or(-1))));
            }
        }
        knobs.extend(self.memory_limit(&place, Some(limits.get("memory")).filter(|memory| *memory > 0)));
        if let Some(dir) = self.hierarchy.dir("hugetlb", &place) {
            for (name, bytes) in &limits.amounts {
                let Some(size) = name.strip_prefix("hugepages-").and_then(value) else { continue };
                let file = if self.is_unified() { "max" } else { "limit_in_bytes" };
                let file = dir.join(format!("hugetlb.{}.{file}", page_size(size)));
                knobs.push(Knob::number(file, Some(*bytes)));
            }
        }
        if self.tiers {
            let file = match class {
                Class::Guaranteed => "memory.min",
                Class::Burstable => "memory.low",
                Class::BestEffort => return knobs,
            };
            knobs.extend(self.memory_tier(&place, file, requests.get("memory")));
        }
        knobs
    }

    fn cpu_shares(&self, place: &str, shares: i64) -> Vec<Knob> {
        let dir = self.hierarchy.dir("cpu", place);
        let knob = |dir: std::path::PathBuf| match self.hierarchy {
            Hierarchy::V1(_) => Knob::number(dir.join("cpu.shares"), Some(shares)),
            Hierarchy::V2(_) => Knob::number(dir.join("cpu.weight"), Some(weight(shares))),
        };
        dir.into_iter().map(knob).collect()
    }

    fn memory_limit(&self, place: &str, bytes: Option<i64>) -> Option<Knob> {
        let dir = self.hierarchy.dir("memory", place)?;
        Some(match self.hierarchy {
            Hierarchy::V1(_) => Knob::number(dir.join("memory.limit_in_bytes"), Some(bytes.unwrap_or(-1))),
            Hierarchy::V2(_) => Knob::word(dir.join("memory.max"), bytes),
        })
    }

    fn memory_tier(&self, place: &str, file: &str, bytes: i64) -> Option<Knob> {
        Some(Knob::number(self.hierarchy.dir("memory", place)?.join(file), Some(bytes)))
    }

    /// Removes the pod's cgroup, whose processes have all ended.
    pub fn remove(&self, pod: &Pod) {
        if !self.enabled {
            return;
        }
        // Of a pod that is only known from the runtime, nobody knows the class any more.
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            self.hierarchy.remove(&self.pod_place(class, pod.uid()));
        }
        if self.asked.lock().remove(pod.uid()).is_some()
            && let Err(error) = self.class_knobs().iter().try_for_each(Knob::set)
        {
            tracing::debug!(%error, "cannot change what the pods of a class get together");
        }
    }
}

#[cfg(test)]
mod tests;
