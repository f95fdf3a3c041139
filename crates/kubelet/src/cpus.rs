//! CPUs for single containers: the `static` CPU manager policy.
//!
//! A container of a Guaranteed pod that asks for whole CPUs gets some for itself, whole cores where there are; all others
//! share the rest. Who has which is in `cpu_manager_state`, as upstream keeps it. With the policy `none`, nothing is said
//! about CPUs to anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::checkpoint;
use crate::config::KubeletConfiguration;
use crate::container::qos::{self, Class};
use crate::container::quantity::{milli, milli_of};
use crate::context::Context;
use crate::cri::view::keys;
use crate::pod::ext::PodExt;

type Set = BTreeSet<u32>;

/// Reads `0-1,4`.
pub fn parse(list: &str) -> Set {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // Machines have no more.
        (last < 1 << 16).then_some(first..=last)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Writes `0-1,4`.
pub fn shown(set: &Set) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in set {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let range =
        |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

/// The state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct State {
    policy_name: String,
    default_cpu_set: String,
    /// By pod and container.
    entries: BTreeMap<String, BTreeMap<String, String>>,
}

pub struct Cpus {
    /// Nothing with the policy `none`.
    machine: Option<Machine>,
    path: PathBuf,
    given: Mutex<BTreeMap<(String, String), Set>>,
    /// Others share other CPUs than before.
    changed: Notify,
}

struct Machine {
    all: Set,
    reserved: Set,
    /// Of hyper-threads, those of one core.
    cores: Vec<Set>,
}

impl Machine {
    fn read(config: &KubeletConfiguration) -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let all = parse(text("/sys/devices/system/cpu/online").trim());
        let siblings = |cpu: &u32| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            let set = parse(text(&path).trim());
            if set.is_empty() { Set::from([*cpu]) } else { set }
        };
        let mut cores: Vec<Set> = all.iter().map(siblings).collect();
        cores.sort();
        cores.dedup();
        let named = parse(&config.reserved_system_cpus);
        let reserved = if named.is_empty() {
            let of =
                |map: &BTreeMap<String, String>| map.get("cpu").and_then(|text| milli(text)).unwrap_or(0);
            let milli = of(&config.system_reserved) + of(&config.kube_reserved);
            // Rounded up: what is reserved is not lent out, not even a part of it.
            all.iter().copied().take(usize::try_from((milli + 999) / 1000).unwrap_or(0)).collect()
        } else {
            named
        };
        Self { all, reserved, cores }
    }
}

/// The CPUs that a container is to have for itself.
fn wants(pod: &Pod, container: &Container) -> Option<usize> {
    if qos::class(pod.pod_spec()) != Class::Guaranteed || pod.pod_spec().resources.is_some() {
        return None;
    }
    let resources = container.resources.as_ref()?;
    let requests = resources.requests.as_ref().or(resources.limits.as_ref());
    let milli = milli_of(requests, "cpu")?;
    (milli > 0 && milli % 1000 == 0).then(|| usize::try_from(milli / 1000).ok())?
}

impl Cpus {
    pub fn new(config: &KubeletConfiguration, root: &Path) -> Self {
        let path = root.join("cpu_manager_state");
        let machine = (config.cpu_manager_policy == "static").then(|| Machine::read(config));
        let state: State = checkpoint::read(&path, "which CPUs containers have");
        let mut given = BTreeMap::new();
        if machine.is_some() && state.policy_name == "static" {
            for (uid, containers) in state.entries {
                given.extend(containers.into_iter().map(|(name, set)| ((uid.clone(), name), parse(&set))));
            }
        }
        Self { machine, path, given: Mutex::new(given), changed: Notify::new() }
    }

    /// Those that are not reserved.
    pub fn allocatable(&self) -> Set {
        match &self.machine {
            Some(machine) => machine.all.difference(&machine.reserved).copied().collect(),
            None => parse(fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default().trim()),
        }
    }

    pub fn given(&self, uid: &str, container: &str) -> Set {
        self.given.lock().get(&(uid.to_owned(), container.to_owned())).cloned().unwrap_or_default()
    }

    /// Whether there are as many CPUs free as the pod's containers want for themselves.
    pub fn admit(&self, pod: &Pod) -> Result<(), String> {
        let Some(machine) = &self.machine else { return Ok(()) };
        let spec = pod.pod_spec();
        let sum: usize = spec.containers.iter().filter_map(|container| wants(pod, container)).sum();
        let init = spec.init_containers.iter().flatten().filter_map(|container| wants(pod, container)).max();
        let wanted = sum.max(init.unwrap_or(0));
        let free = free(machine, &self.given.lock()).len();
        if wanted <= free {
            return Ok(());
        }
        Err(format!(
            "Allocate failed due to not enough cpus available to satisfy request: requested={wanted}, available={free}, which is unexpected"
        ))
    }

    /// The CPUs that a container may run on, as a list; nothing for all.
    pub fn allocate(&self, pod: &Pod, container: &Container) -> Result<Option<String>, String> {
        let Some(machine) = &self.machine else { return Ok(None) };
        let mut given = self.given.lock();
        let key = (pod.uid().to_owned(), container.name.clone());
        if let Some(set) = given.get(&key) {
            return Ok(Some(shown(set)));
        }
        let Some(wanted) = wants(pod, container) else {
            return Ok(Some(shown(&shared(machine, &given))));
        };
        let before = given.clone();
        // What init containers that have ended had serves the ones that follow.
        if pod.pod_spec().containers.iter().any(|main| main.name == container.name) {
            let init = |name: &String| {
                let mut all = pod.pod_spec().init_containers.iter().flatten();
                all.any(|init| init.name == *name && init.restart_policy.as_deref() != Some("Always"))
            };
            given.retain(|(uid, name), _| *uid != key.0 || !init(name));
        }
        let set = choose(&machine.cores, &free(machine, &given), wanted)
            .ok_or_else(|| format!("not enough cpus available to satisfy request: requested={wanted}"))?;
        let list = shown(&set);
        given.insert(key, set);
        self.save(machine, &given).inspect_err(|_| *given = before)?;
        self.changed.notify_one();
        Ok(Some(list))
    }

    /// The pods that have CPUs for themselves.
    pub fn pods(&self) -> BTreeSet<String> {
        self.given.lock().keys().map(|(uid, _)| uid.clone()).collect()
    }

    /// The pod has ended.
    pub fn release(&self, uid: &str) {
        let Some(machine) = &self.machine else { return };
        let mut given = self.given.lock();
        let before = given.len();
        given.retain(|(of, _), _| of != uid);
        if given.len() == before {
            return;
        }
        if let Err(error) = self.save(machine, &given) {
            warn!(error, "CPUs of a pod that has ended stay taken after a restart");
        }
        self.changed.notify_one();
    }

    fn save(&self, machine: &Machine, given: &BTreeMap<(String, String), Set>) -> Result<(), String> {
        let mut state = State {
            policy_name: "static".into(),
            default_cpu_set: shown(&shared(machine, given)),
            entries: BTreeMap::new(),
        };
        for ((uid, container), set) in given {
            state.entries.entry(uid.clone()).or_default().insert(container.clone(), shown(set));
        }
        checkpoint::write(&self.path, &state)
    }
}

fn free(machine: &Machine, given: &BTreeMap<(String, String), Set>) -> Set {
    let taken = |cpu: &u32| machine.reserved.contains(cpu) || given.values().any(|set| set.contains(cpu));
    machine.all.iter().copied().filter(|cpu| !taken(cpu)).collect()
}

/// What is left for everybody else: the reserved ones too.
fn shared(machine: &Machine, given: &BTreeMap<(String, String), Set>) -> Set {
    machine.all.iter().copied().filter(|cpu| !given.values().any(|set| set.contains(cpu))).collect()
}

/// Whole cores first, then single threads, of cores that are broken already.
fn choose(cores: &[Set], free: &Set, wanted: usize) -> Option<Set> {
    let mut chosen = Set::new();
    for core in cores.iter().filter(|core| core.is_subset(free)) {
        if chosen.len() + core.len() <= wanted {
            chosen.extend(core);
        }
    }
    let mut rest: Vec<(bool, u32)> = free
        .iter()
        .filter(|cpu| !chosen.contains(cpu))
        .map(|cpu| (cores.iter().any(|core| core.contains(cpu) && core.is_subset(free)), *cpu))
        .collect();
    rest.sort_unstable();
    let missing = wanted.saturating_sub(chosen.len());
    chosen.extend(rest.into_iter().take(missing).map(|(_, cpu)| cpu));
    (chosen.len() == wanted).then_some(chosen)
}

/// Moves running containers to the CPUs that are shared whenever those change, until `shutdown`.
pub async fn keep(ctx: Arc<Context>, shutdown: CancellationToken) {
    if ctx.cpus.machine.is_none() {
        return;
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = ctx.cpus.changed.notified() => {}
        }
        move_all(&ctx).await;
    }
}

async fn move_all(ctx: &Context) {
    let Some(machine) = &ctx.cpus.machine else { return };
    let filter = cri::ContainerFilter {
        state: Some(cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning as i32 }),
        ..Default::default()
    };
    let list = ctx.cri.list_containers(cri::ListContainersRequest { filter: Some(filter) }).await;
    let containers = match list {
        Ok(list) => list.containers,
        Err(error) => return warn!(%error, "cannot move containers to other CPUs"),
    };
    for container in containers {
        let label = |key: &str| container.labels.get(key).cloned().unwrap_or_default();
        let key = (label(keys::POD_UID), label(keys::CONTAINER_NAME));
        let cpus = {
            let given = ctx.cpus.given.lock();
            shown(given.get(&key).unwrap_or(&shared(machine, &given)))
        };
        let request = cri::UpdateContainerResourcesRequest {
            container_id: container.id.clone(),
            linux: Some(cri::LinuxContainerResources { cpuset_cpus: cpus, ..Default::default() }),
            ..Default::default()
        };
        if let Err(error) = ctx.cri.update_container_resources(request).await {
            // It may have ended meanwhile.
            debug!(container = container.id, %error, "cannot move a container to other CPUs");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists() {
        for (text, expected) in [("0-2,5", "0-2,5"), ("3,1,2", "1-3"), ("", ""), ("x", "")] {
            assert_eq!(shown(&parse(text)), expected, "{text}");
        }
    }

    #[test]
    fn whole_cores_are_given_first() {
        let cores: Vec<Set> = ["0,4", "1,5", "2,6", "3,7"].map(parse).into();
        let check = |free: &str, wanted: usize, expected: Option<&str>| {
            let chosen = choose(&cores, &parse(free), wanted);
            assert_eq!(chosen.as_ref().map(shown).as_deref(), expected, "{wanted} of {free}");
        };
        check("0-7", 2, Some("0,4"));
        check("1-7", 2, Some("1,5"));
        check("1-7", 1, Some("4"));
        check("0-7", 3, Some("0-1,4"));
        check("0-1", 2, Some("0-1"));
        check("0-1", 3, None);
    }

    #[test]
    fn who_gets_some() {
        let check = |resources: serde_json::Value, expected: Option<usize>| {
            let pod: Pod = serde_json::from_value(
                json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}),
            )
            .unwrap();
            assert_eq!(wants(&pod, &pod.pod_spec().containers[0]), expected, "{resources}");
        };
        check(json!({"limits": {"cpu": "2", "memory": "1Gi"}}), Some(2));
        check(json!({"limits": {"cpu": "1500m", "memory": "1Gi"}}), None);
        check(json!({"requests": {"cpu": "2"}}), None);
    }

    #[test]
    fn what_is_given_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let config = KubeletConfiguration { cpu_manager_policy: "static".into(), ..Default::default() };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}}))
        .unwrap();
        let container = &pod.pod_spec().containers[0];
        let cpus = Cpus::new(&config, dir.path());
        let list = cpus.allocate(&pod, container).unwrap().unwrap();
        let cpus = Cpus::new(&config, dir.path());
        assert_eq!(shown(&cpus.given("u", "c")), list);
        assert_eq!(cpus.allocate(&pod, container).unwrap().unwrap(), list);
        cpus.release("u");
        assert!(Cpus::new(&config, dir.path()).given("u", "c").is_empty());
    }
}
