//! The cgroups of pods: `kubepods`, one for each lower QoS class, one per pod, with the pod's limits.
//!
//! Drivers `cgroupfs` and `systemd`, hierarchies v1 and v2. With the latter, cgroups have the names and places of slices,
//! which systemd takes as its own when a container is started in them; limits are then set once more. Where the kernel does not let us (no delegation, a read-only
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
    /// Pods' cgroups are slices.
    systemd: bool,
    /// Processes that a pod may have.
    pids: Option<i64>,
    warned: AtomicBool,
}

impl Cgroups {
    /// `systemd` is what the runtime says of its driver; the configuration counts where it says nothing.
    pub fn new(config: &KubeletConfiguration, systemd: Option<bool>) -> Self {
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
            systemd: systemd.unwrap_or(config.cgroup_driver == "systemd"),
            pids: (config.pod_pids_limit > 0).then_some(config.pod_pids_limit),
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
        let path = self.path(qos::class(pod.pod_spec()), pod.uid());
        if self.systemd { slice(&path) } else { path }
    }

    pub fn is_systemd(&self) -> bool {
        self.systemd
    }

    /// Where the cgroup of a pod is below the mount points.
    fn place(&self, class: Class, uid: &str) -> String {
        let path = self.path(class, uid);
        let place = if self.systemd { slice_place(&path) } else { path };
        place.trim_start_matches('/').to_owned()
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
        let place = self.place(qos::class(pod.pod_spec()), pod.uid());
        let relative = place.as_str();
        match &self.hierarchy {
            Hierarchy::V1(controllers) => {
                for (name, mount) in controllers {
                    if make_v1(mount, relative, *name == "cpuset")? && *name == "pids" {
                        self.limit_processes(&mount.join(relative))?;
                    }
                }
            }
            Hierarchy::V2(mount) => {
                make_v2(mount, relative)?;
                self.limit_processes(&mount.join(relative))?;
            }
        }
        for knob in self.knobs(pod) {
            knob.set()?;
        }
        Ok(())
    }

    fn limit_processes(&self, dir: &Path) -> std::io::Result<()> {
        match self.pids {
            Some(limit) => set(dir, "pids.max", &limit.to_string()),
            None => Ok(()),
        }
    }

    /// Sets the pod's limits anew: its resources have changed.
    pub fn update(&self, pod: &Pod) {
        self.resize(pod, Knob::set);
    }

    /// Only those that grow: containers that still use what they had go on undisturbed.
    pub fn widen(&self, pod: &Pod) {
        self.resize(pod, Knob::widen);
    }

    fn resize(&self, pod: &Pod, set: impl Fn(&Knob) -> std::io::Result<()>) {
        if !self.enabled {
            return;
        }
        if let Err(error) = self.knobs(pod).iter().try_for_each(set) {
            warn!(%error, pod = pod.full_name(), "cannot change the limits of the pod's cgroup");
        }
    }

    /// The pod's limits as files and values.
    fn knobs(&self, pod: &Pod) -> Vec<Knob> {
        let place = self.place(qos::class(pod.pod_spec()), pod.uid());
        let relative = place.as_str();
        let spec = pod.pod_spec();
        let limits = qos::limits(spec);
        let shares = shares(qos::requests(spec).get("cpu"));
        let quota = quota(limits.get("cpu"));
        let memory = Some(limits.get("memory")).filter(|memory| *memory > 0);
        match &self.hierarchy {
            Hierarchy::V1(controllers) => {
                let of = |controller: &str| {
                    let found = controllers.iter().find(|(name, _)| *name == controller);
                    found.map(|(_, mount)| mount.join(relative))
                };
                let mut knobs = Vec::new();
                if let Some(dir) = of("cpu") {
                    knobs.push(Knob::number(dir.join("cpu.shares"), Some(shares)));
                    knobs.push(Knob::number(dir.join("cpu.cfs_quota_us"), Some(quota.unwrap_or(-1))));
                }
                if let Some(dir) = of("memory") {
                    knobs.push(Knob::number(dir.join("memory.limit_in_bytes"), Some(memory.unwrap_or(-1))));
                }
                knobs
            }
            Hierarchy::V2(mount) => {
                let dir = mount.join(relative);
                let words = |limit: Option<i64>| limit.map_or("max".to_owned(), |limit| limit.to_string());
                vec![
                    Knob::number(dir.join("cpu.weight"), Some(weight(shares))),
                    Knob {
                        file: dir.join("cpu.max"),
                        text: format!("{} 100000", words(quota)),
                        value: quota,
                    },
                    Knob { file: dir.join("memory.max"), text: words(memory), value: memory },
                ]
            }
        }
    }

    /// Removes the pod's cgroup, whose processes have all ended.
    pub fn remove(&self, pod: &Pod) {
        if !self.enabled {
            return;
        }
        // Of a pod that is only known from the runtime, nobody knows the class any more.
        for class in [Class::Guaranteed, Class::Burstable, Class::BestEffort] {
            let place = self.place(class, pod.uid());
            let relative = place.as_str();
            match &self.hierarchy {
                Hierarchy::V1(controllers) => {
                    controllers.iter().for_each(|(_, mount)| remove_tree(&mount.join(relative)));
                }
                Hierarchy::V2(mount) => remove_tree(&mount.join(relative)),
            }
        }
    }
}

/// What a path's parts are called in the names of slices, where a dash stands between parents and children.
fn slice_parts(path: &str) -> impl Iterator<Item = String> {
    path.split('/').filter(|part| !part.is_empty()).map(|part| part.replace('-', "_"))
}

/// `/kubepods/burstable/podx` as `kubepods-burstable-podx.slice`.
fn slice(path: &str) -> String {
    slice_parts(path).collect::<Vec<_>>().join("-") + ".slice"
}

/// `/kubepods/burstable/podx` as `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice`.
fn slice_place(path: &str) -> String {
    let mut name = String::new();
    let mut place = Vec::new();
    for part in slice_parts(path) {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(&part);
        place.push(format!("{name}.slice"));
    }
    place.join("/")
}

/// One limit of a cgroup.
struct Knob {
    file: PathBuf,
    text: String,
    /// Nothing for no limit.
    value: Option<i64>,
}

impl Knob {
    fn number(file: PathBuf, value: Option<i64>) -> Self {
        let text = value.unwrap_or(-1).to_string();
        Self { file, text, value: value.filter(|value| *value >= 0) }
    }

    /// A controller that the machine does not lend us has no file: its limits are not kept, as everybody who runs
    /// there knows.
    fn set(&self) -> std::io::Result<()> {
        match std::fs::write(&self.file, &self.text) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| at(&self.file, error)),
        }
    }

    fn widen(&self) -> std::io::Result<()> {
        let Ok(now) = std::fs::read_to_string(&self.file) else { return Ok(()) };
        let now: Option<i64> = now.split_whitespace().next().and_then(|word| word.parse().ok());
        let now = now.filter(|now| *now >= 0);
        let grows = match (now, self.value) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(now), Some(wanted)) => wanted > now,
        };
        if grows { self.set() } else { Ok(()) }
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
    fn slices() {
        assert_eq!(slice("/kubepods/burstable/poda-b"), "kubepods-burstable-poda_b.slice");
        assert_eq!(
            slice_place("/kubepods/burstable/poda-b"),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice"
        );
    }

    #[test]
    fn weights() {
        assert_eq!(weight(2), 1);
        assert_eq!(weight(1024), 39);
        assert_eq!(weight(262_144), 10_000);
    }

    /// Files as the kernel would have them, in a directory.
    #[test]
    fn the_files_of_a_unified_hierarchy() {
        let root = tempfile::tempdir().unwrap();
        let dirs = ["", "kubepods", "kubepods/burstable", "kubepods/burstable/podu"];
        for dir in dirs {
            let dir = root.path().join(dir);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("cgroup.controllers"), "cpu memory pids").unwrap();
            std::fs::write(dir.join("cgroup.subtree_control"), "memory").unwrap();
        }
        let pod_dir = root.path().join("kubepods/burstable/podu");
        for file in ["cpu.weight", "cpu.max", "memory.max"] {
            std::fs::write(pod_dir.join(file), "").unwrap();
        }
        let cgroups = Cgroups {
            hierarchy: Hierarchy::V2(root.path().to_owned()),
            base: "/kubepods".into(),
            enabled: true,
            systemd: false,
            pids: Some(50),
            warned: AtomicBool::new(false),
        };
        let pod = |limits: serde_json::Value| -> Pod {
            serde_json::from_value(serde_json::json!({"metadata": {"uid": "u"}, "spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": "100m"}, "limits": limits}}]}}))
            .unwrap()
        };
        let check = |file: &str, expected: &str| {
            assert_eq!(std::fs::read_to_string(pod_dir.join(file)).unwrap(), expected, "{file}");
        };
        cgroups.try_make(&pod(serde_json::json!({"cpu": "500m", "memory": "64Mi"}))).unwrap();
        check("cpu.weight", "4");
        check("cpu.max", "50000 100000");
        check("memory.max", "67108864");
        check("pids.max", "50");
        let handed_on = std::fs::read_to_string(root.path().join("kubepods/cgroup.subtree_control")).unwrap();
        assert_eq!(handed_on, "+pids", "each missing one is asked for");
        let smaller = pod(serde_json::json!({"cpu": "1", "memory": "32Mi"}));
        cgroups.widen(&smaller);
        check("cpu.max", "100000 100000");
        check("memory.max", "67108864");
        cgroups.update(&smaller);
        check("memory.max", "33554432");
        cgroups.update(&pod(serde_json::json!({})));
        check("memory.max", "max");
        check("cpu.max", "max 100000");
    }
}
