//! Memory of certain NUMA nodes for containers of Guaranteed pods: the `Static` memory manager policy.
//!
//! A container gets its memory and huge pages of as few nodes as can give them, those that its other resources are near
//! where there is a choice ([`crate::affinity`]). Nodes that give memory together give none alone, and the other way
//! round: else the kernel would kill for want of memory on one node while another has plenty.

mod nodes;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tracing::warn;

use crate::config::KubeletConfiguration;
use crate::container::qos::{self, Class};
use crate::container::quantity::value_of;
use crate::cpus::set;
use crate::meters;
use crate::numa::machine::Machine;
use crate::numa::{Hint, Hints, Mask};
use crate::pod::admission::Rejection;
use crate::pod::ext::PodExt;
use state::{Block, Entries, Nodes};

const STATIC: &str = "Static";
const NONE: &str = "None";

/// By kind (`memory`, `hugepages-2Mi`): bytes.
type Amounts = BTreeMap<String, u64>;

pub struct Memory {
    /// What there is while nobody has any; nothing with the policy `None`.
    empty: Option<Nodes>,
    path: PathBuf,
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    nodes: Nodes,
    entries: Entries,
}

/// What a container asks for.
fn wants(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref().or(resources.limits.as_ref()));
    let ours = |name: &&String| *name == "memory" || name.starts_with("hugepages-");
    let amount = |name: &String| {
        let bytes = u64::try_from(value_of(requests, name)?).ok()?;
        (bytes > 0).then(|| (name.clone(), bytes))
    };
    requests.into_iter().flat_map(BTreeMap::keys).filter(ours).filter_map(amount).collect()
}

fn concerns(pod: &Pod) -> bool {
    qos::class(pod.pod_spec()) == Class::Guaranteed && pod.pod_spec().resources.is_none()
}

fn plain_inits(pod: &Pod) -> impl Iterator<Item = &Container> {
    let inits = pod.pod_spec().init_containers.iter().flatten();
    inits.filter(|init| init.restart_policy.as_deref() != Some("Always"))
}

impl Memory {
    pub fn new(config: &KubeletConfiguration, root: &Path, machine: &Arc<Machine>) -> Result<Self, String> {
        let path = root.join("memory_manager_state");
        let empty = match config.memory_manager_policy.as_str() {
            NONE | "" => None,
            STATIC => Some(nodes::empty(config, machine)?),
            other => return Err(format!("unknown policy: {other:?}")),
        };
        let mut entries = state::read(&path, if empty.is_some() { STATIC } else { NONE });
        let nodes = empty.clone().unwrap_or_default();
        let there = |block: &Block| {
            let known =
                |id: &u32| nodes.get(id).is_some_and(|node| node.memory_map.contains_key(&block.kind));
            block.numa_affinity.iter().all(known)
        };
        if !entries.values().flat_map(BTreeMap::values).flatten().all(there) {
            warn!(path = %path.display(), "memory that containers had is not there any more: all is given anew");
            entries.clear();
        }
        let memory = Self { empty, path, given: Mutex::new(Given { nodes, entries }) };
        {
            let mut given = memory.given.lock();
            memory.count(&mut given);
            if let Err(error) = memory.save(&given) {
                warn!(error, "which memory containers have is not known after a restart");
            }
        }
        Ok(memory)
    }

    pub fn is_static(&self) -> bool {
        self.empty.is_some()
    }

    /// What is free follows from what is given.
    fn count(&self, given: &mut Given) {
        given.nodes = self.empty.clone().unwrap_or_default();
        for block in given.entries.values().flat_map(BTreeMap::values).flatten() {
            nodes::take(&mut given.nodes, block);
        }
    }

    fn save(&self, given: &Given) -> Result<(), String> {
        let policy = if self.is_static() { STATIC } else { NONE };
        state::write(&self.path, policy, &given.nodes, &given.entries)
    }

    /// The NUMA nodes that could give the container what it wants.
    pub fn hints(&self, pod: &Pod, container: &Container) -> Hints {
        if !self.is_static() || !concerns(pod) {
            return Hints::new();
        }
        let given = self.given.lock();
        let wanted = wants(container);
        match given.blocks(pod, container) {
            Some(blocks) => given_already(blocks),
            None => given.hints(pod, &wanted),
        }
    }

    /// The same, for all of the pod's containers at once.
    pub fn pod_hints(&self, pod: &Pod) -> Hints {
        if !self.is_static() || !concerns(pod) {
            return Hints::new();
        }
        let given = self.given.lock();
        let spec = pod.pod_spec();
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        if let Some(blocks) = containers.find_map(|container| given.blocks(pod, container)) {
            return given_already(blocks);
        }
        let kinds: BTreeSet<String> = spec.containers.iter().flat_map(|one| wants(one).into_keys()).collect();
        let most = |kind: String| {
            let of = |container: &Container| wants(container).get(&kind).copied().unwrap_or(0);
            let bytes =
                crate::affinity::most(spec, |container| usize::try_from(of(container)).unwrap_or(usize::MAX));
            (kind, bytes as u64)
        };
        given.hints(pod, &kinds.into_iter().map(most).collect())
    }

    /// Gives the container memory if it wants some and has none; of the hint's nodes, and more if they do not do.
    pub fn allocate(&self, pod: &Pod, container: &Container, hint: Option<Hint>) -> Result<(), Rejection> {
        let wanted = wants(container);
        if !self.is_static() || !concerns(pod) || wanted.is_empty() {
            return Ok(());
        }
        let mut given = self.given.lock();
        if given.blocks(pod, container).is_some() {
            return Ok(());
        }
        meters::count("kubelet_memory_manager_pinning_requests_total", &[]);
        let before = given.entries.clone();
        let result = given.give(pod, container, &wanted, hint).and_then(|()| {
            self.count(&mut given);
            self.save(&given)
        });
        result.map_err(|error| {
            meters::count("kubelet_memory_manager_pinning_errors_total", &[]);
            given.entries = before;
            self.count(&mut given);
            crate::affinity::unexpected(&error)
        })
    }

    /// The nodes that a container's memory is on, as the kernel takes them; nothing for all.
    pub fn list(&self, uid: &str, container: &str) -> Option<String> {
        let nodes: BTreeSet<u32> =
            self.blocks(uid, container).into_iter().flat_map(|(nodes, ..)| nodes).collect();
        (!nodes.is_empty()).then(|| set::shown(&nodes))
    }

    /// Nodes, kind and size of what a container has.
    pub fn blocks(&self, uid: &str, container: &str) -> Vec<(Vec<u32>, String, u64)> {
        let given = self.given.lock();
        let blocks = given.entries.get(uid).and_then(|containers| containers.get(container));
        let shown = |block: &Block| (block.numa_affinity.clone(), block.kind.clone(), block.size);
        blocks.into_iter().flatten().map(shown).collect()
    }

    /// The same of everything that can be given.
    pub fn allocatable(&self) -> Vec<(Vec<u32>, String, u64)> {
        let empty = self.empty.iter().flatten();
        let of = |(id, node): (&u32, &state::Node)| -> Vec<(Vec<u32>, String, u64)> {
            let table =
                |(kind, table): (&String, &state::Table)| (vec![*id], kind.clone(), table.allocatable);
            node.memory_map.iter().map(table).filter(|(.., size)| *size > 0).collect()
        };
        empty.flat_map(of).collect()
    }

    /// The pods that have some.
    pub fn pods(&self) -> BTreeSet<String> {
        self.given.lock().entries.keys().cloned().collect()
    }

    /// The pod has ended.
    pub fn release(&self, uid: &str) {
        let mut given = self.given.lock();
        if given.entries.remove(uid).is_none() {
            return;
        }
        self.count(&mut given);
        if let Err(error) = self.save(&given) {
            warn!(error, "memory of a pod that has ended stays taken after a restart");
        }
    }
}

fn given_already(blocks: &[Block]) -> Hints {
    let hint = |block: &Block| {
        let mask = Mask::of(block.numa_affinity.iter().copied());
        (block.kind.clone(), Some(vec![Hint { mask: Some(mask), preferred: true }]))
    };
    blocks.iter().map(hint).collect()
}

impl Given {
    fn blocks(&self, pod: &Pod, container: &Container) -> Option<&Vec<Block>> {
        self.entries.get(pod.uid())?.get(&container.name)
    }

    /// What plain init containers of the pod have of those nodes: containers that follow use it again.
    fn reusable(&self, pod: &Pod, mask: Mask, kind: &str) -> u64 {
        let blocks = plain_inits(pod).filter_map(|init| self.blocks(pod, init)).flatten();
        let same =
            |block: &&Block| block.kind == kind && Mask::of(block.numa_affinity.iter().copied()) == mask;
        blocks.filter(same).map(|block| block.size).sum()
    }

    fn hints(&self, pod: &Pod, wanted: &Amounts) -> Hints {
        if wanted.is_empty() {
            return Hints::new();
        }
        let all = Mask::of(self.nodes.keys().copied());
        let could = |mask: Mask| {
            wanted
                .iter()
                .all(|(kind, bytes)| nodes::sum(&self.nodes, mask, kind, |table| table.allocatable) >= *bytes)
        };
        let hints = crate::numa::hints(all, could, |mask| {
            could(mask) && nodes::may_give_together(&self.nodes, mask) && self.has(pod, mask, wanted)
        });
        wanted.keys().map(|kind| (kind.clone(), Some(hints.clone()))).collect()
    }

    fn has(&self, pod: &Pod, mask: Mask, wanted: &Amounts) -> bool {
        wanted.iter().all(|(kind, bytes)| {
            let free = nodes::sum(&self.nodes, mask, kind, |table| table.free);
            free.saturating_add(self.reusable(pod, mask, kind)) >= *bytes
        })
    }

    /// The fewest nodes, those that include `within`.
    fn best(&self, pod: &Pod, wanted: &Amounts, within: Mask) -> Option<Hint> {
        let hints = self.hints(pod, wanted).into_values().next().flatten().unwrap_or_default();
        let including = |hint: &Hint| hint.mask.is_some_and(|mask| mask.and(within) == within);
        let key = |hint: &Hint| (!hint.preferred, hint.mask.map(|mask| (mask.count(), mask)));
        hints.into_iter().filter(including).min_by_key(key)
    }

    fn give(
        &mut self,
        pod: &Pod,
        container: &Container,
        wanted: &Amounts,
        hint: Option<Hint>,
    ) -> Result<(), String> {
        let preferred = hint.is_some_and(|hint| hint.preferred);
        let mask = match hint.and_then(|hint| hint.mask) {
            Some(mask) if self.has(pod, mask, wanted) => mask,
            near => {
                let found = self.best(pod, wanted, near.unwrap_or_default()).ok_or(
                    "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with enough memory is available",
                )?;
                if preferred && !found.preferred {
                    return Err("[memorymanager] failed to find the default preferred hint".into());
                }
                found.mask.unwrap_or_default()
            }
        };
        if !nodes::may_give_together(&self.nodes, mask) {
            return Err("[memorymanager] preferred hint violates NUMA node allocation".into());
        }
        let mut blocks = Vec::new();
        for (kind, bytes) in wanted {
            self.reuse(pod, container, mask, kind, *bytes);
            blocks.push(Block { numa_affinity: mask.nodes().collect(), kind: kind.clone(), size: *bytes });
        }
        self.entries.entry(pod.uid().to_owned()).or_default().insert(container.name.clone(), blocks);
        Ok(())
    }

    /// What is used again is not counted twice: init containers' blocks shrink by it.
    fn reuse(&mut self, pod: &Pod, container: &Container, mask: Mask, kind: &str, mut bytes: u64) {
        let Some(containers) = self.entries.get_mut(pod.uid()) else { return };
        for init in plain_inits(pod).filter(|init| init.name != container.name) {
            for block in containers.get_mut(&init.name).into_iter().flatten() {
                if block.kind == kind && Mask::of(block.numa_affinity.iter().copied()) == mask {
                    let used = block.size.min(bytes);
                    block.size -= used;
                    bytes -= used;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
