//! The cgroups of pods: `kubepods`, one for each lower QoS class, one per pod, with the pod's limits.
//!
//! Driver `cgroupfs`, hierarchies v1 and v2. Where the kernel does not let us (no delegation, a read-only
//! mount), a warning is all: pods run, unlimited as a whole, with their containers' own limits.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::Pod;
use tracing::warn;

use crate::config::KubeletConfiguration;
use crate::container::qos::{self, Class};
use crate::container::resources::{quota, shares};
use crate::pod::ext::PodExt;

const ROOT: &str = "/sys/fs/cgroup";
/// v1 hierarchies that pod cgroups are made in.
const CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer"];
/// Controllers that v2 pod cgroups hand on to their containers.
const DELEGATED: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

enum Hierarchy {
    /// The mount points of the controllers.
    V1(Vec<(&'static str, PathBuf)>),
    V2(PathBuf),
}

pub struct Cgroups {
    hierarchy: Hierarchy,
    /// `/kubepods`, or below the configured root.
    base: String,
    enabled: bool,
    /// Processes that a pod may have.
    pids: Option<i64>,
    warned: AtomicBool,
}

impl Cgroups {
    pub fn new(config: &KubeletConfiguration) -> Self {
        let hierarchy = if Path::new(ROOT).join("cgroup.controllers").exists() {
            Hierarchy::V2(PathBuf::from(ROOT))
        } else {
            let found = CONTROLLERS.map(|name| (name, Path::new(ROOT).join(name)));
            Hierarchy::V1(found.into_iter().filter(|(_, path)| path.is_dir()).collect())
        };
        Self {
            hierarchy,
            base: format!("{}/kubepods", config.cgroup_root.trim_end_matches('/')),
            enabled: config.cgroups_per_qos,
            pids: (config.pod_pids_limit > 0).then_some(config.pod_pids_limit),
            warned: AtomicBool::new(false),
        }
    }

    /// The cgroup that the pod's containers are made under, as CRI takes it.
    pub fn parent(&self, pod: &Pod) -> String {
        if !self.enabled {
            return String::new();
        }
        self.path(qos::class(pod.pod_spec()), pod.uid())
    }

    fn path(&self, class: Class, uid: &str) -> String {
        let base = &self.base;
        match class {
            Class::Guaranteed => format!("{base}/pod{uid}"),
            Class::Burstable => format!("{base}/burstable/pod{uid}"),
            Class::BestEffort => format!("{base}/besteffort/pod{uid}"),
        }
    }

    /// Makes the pod's cgroup with its limits.
    pub fn make(&self, pod: &Pod) {
        if !self.enabled {
            return;
        }
        if let Err(error) = self.try_make(pod)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            warn!(%error, "cannot limit pods by cgroups of their own; containers keep their own limits");
        }
    }

    fn try_make(&self, pod: &Pod) -> std::io::Result<()> {
        let path = self.parent(pod);
        let relative = path.trim_start_matches('/');
        let knobs = Knobs::of(pod);
        match &self.hierarchy {
            Hierarchy::V1(controllers) => {
                for (name, mount) in controllers {
                    let dir = mount.join(relative);
                    if !make_v1(mount, relative, *name == "cpuset")? {
                        continue;
                    }
                    match *name {
                        "cpu" => {
                            set(&dir, "cpu.shares", &knobs.shares.to_string())?;
                            if let Some(quota) = knobs.quota {
                                set(&dir, "cpu.cfs_period_us", "100000")?;
                                set(&dir, "cpu.cfs_quota_us", &quota.to_string())?;
                            }
                        }
                        "memory" => {
                            if let Some(limit) = knobs.memory {
                                set(&dir, "memory.limit_in_bytes", &limit.to_string())?;
                            }
                        }
                        "pids" => {
                            if let Some(limit) = self.pids {
                                set(&dir, "pids.max", &limit.to_string())?;
                            }
                        }
                        _ => {}
                    }
                }
            }
            Hierarchy::V2(mount) => {
                make_v2(mount, relative)?;
                let dir = mount.join(relative);
                set(&dir, "cpu.weight", &weight(knobs.shares).to_string())?;
                if let Some(quota) = knobs.quota {
                    set(&dir, "cpu.max", &format!("{quota} 100000"))?;
                }
                if let Some(limit) = knobs.memory {
                    set(&dir, "memory.max", &limit.to_string())?;
                }
                if let Some(limit) = self.pids {
                    set(&dir, "pids.max", &limit.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Removes the pod's cgroup, whose processes have all ended.
    pub fn remove(&self, pod: &Pod) {
        if !self.enabled {
            return;
        }
        // Of a pod that is only known from the runtime, nobody knows the class any more.
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            let path = self.path(class, pod.uid());
            let relative = path.trim_start_matches('/');
            match &self.hierarchy {
                Hierarchy::V1(controllers) => {
                    controllers.iter().for_each(|(_, mount)| remove_tree(&mount.join(relative)));
                }
                Hierarchy::V2(mount) => remove_tree(&mount.join(relative)),
            }
        }
    }
}

struct Knobs {
    shares: i64,
    quota: Option<i64>,
    memory: Option<i64>,
}

impl Knobs {
    fn of(pod: &Pod) -> Self {
        let requests = qos::requests(pod.pod_spec());
        let limits = qos::limits(pod.pod_spec());
        let memory = limits.get("memory");
        Self {
            shares: shares(requests.get("cpu")),
            quota: quota(limits.get("cpu")),
            memory: (memory > 0).then_some(memory),
        }
    }
}

/// v1 shares (2..262144) as v2 weight (1..10000), as runtimes convert them.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Makes the directories of `relative` below `mount`; false when it was there already.
fn make_v1(mount: &Path, relative: &str, cpuset: bool) -> std::io::Result<bool> {
    let mut dir = mount.to_owned();
    let mut new = false;
    for part in relative.split('/') {
        let parent = dir.clone();
        dir.push(part);
        new = make_dir(&dir)?;
        if new && cpuset {
            // A fresh cpuset has no CPUs: nothing could run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let inherited = std::fs::read_to_string(parent.join(file))?;
                set(&dir, file, inherited.trim())?;
            }
        }
    }
    Ok(new)
}

fn make_v2(mount: &Path, relative: &str) -> std::io::Result<()> {
    let mut dir = mount.to_owned();
    for part in relative.split('/') {
        // What the parent has may go on; what it lacks is not ours to say.
        let available = std::fs::read_to_string(dir.join("cgroup.controllers"))?;
        let enabled = std::fs::read_to_string(dir.join("cgroup.subtree_control"))?;
        for name in available.split_whitespace().filter(|name| DELEGATED.contains(name)) {
            if !enabled.split_whitespace().any(|on| on == name) {
                set(&dir, "cgroup.subtree_control", &format!("+{name}"))?;
            }
        }
        dir.push(part);
        make_dir(&dir)?;
    }
    Ok(())
}

fn make_dir(dir: &Path) -> std::io::Result<bool> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(at(dir, error)),
    }
}

fn set(dir: &Path, file: &str, value: &str) -> std::io::Result<()> {
    let path = dir.join(file);
    std::fs::write(&path, value).map_err(|error| at(&path, error))
}

fn at(path: &Path, error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Directories only: the kernel's files in them cannot be and need not be removed.
fn remove_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights() {
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
    }
}
