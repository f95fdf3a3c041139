//! CPUs for single containers: the `static` CPU manager policy.
//!
//! A container of a Guaranteed pod that asks for whole CPUs gets some for itself when the pod is admitted, near each other
//! and near its other resources ([`choose`], [`crate::affinity`]); all others share the rest. Who has which is in
//! `cpu_manager_state`, as upstream keeps it ([`state`]). With the policy `none`, nothing is said about CPUs to anybody.

mod choose;
mod follow;
mod options;
pub mod set;
mod state;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use crate::config::KubeletConfiguration;
use crate::container::qos::{self, Class};
use crate::container::quantity::{milli, milli_of};
use crate::meters;
use crate::numa::machine::Machine;
use crate::numa::{Hint, Hints, Mask};
use crate::pod::admission::Rejection;
use crate::pod::ext::PodExt;
use choose::choose;
pub use follow::keep;
use options::Options;
use set::{Set, shown};
use state::Given;

const POLICY: &str = "static";

pub struct Cpus {
    /// Nothing with the policy `none`.
    policy: Option<Static>,
    machine: Arc<Machine>,
    path: PathBuf,
    given: Mutex<Given>,
    /// Others share other CPUs than before.
    changed: Notify,
}

struct Static {
    options: Options,
    reserved: Set,
}

/// `reservedSystemCPUs`, or as many as `systemReserved` and `kubeReserved` say.
fn reserved(config: &KubeletConfiguration, machine: &Machine) -> Set {
    let named = set::parse(&config.reserved_system_cpus);
    if !named.is_empty() {
        return named;
    }
    let of = |map: &std::collections::BTreeMap<String, String>| {
        map.get("cpu").and_then(|text| milli(text)).unwrap_or(0)
    };
    let milli = of(&config.system_reserved) + of(&config.kube_reserved);
    // Rounded up: what is reserved is not lent out, not even a part of it.
    let count = usize::try_from((milli + 999) / 1000).unwrap_or(0);
    choose(machine, &Options::default(), &machine.all(), count).unwrap_or_default()
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

fn key(pod: &Pod, container: &Container) -> (String, String) {
    (pod.uid().to_owned(), container.name.clone())
}

fn rejection(reason: &str, message: String) -> Rejection {
    Rejection { reason: reason.to_owned(), message }
}

impl Cpus {
    pub fn new(config: &KubeletConfiguration, root: &Path, machine: Arc<Machine>) -> Result<Self, String> {
        let path = root.join("cpu_manager_state");
        let policy = match config.cpu_manager_policy.as_str() {
            "none" | "" => None,
            POLICY => Some(Static { options: Options::new(config)?, reserved: reserved(config, &machine) }),
            other => return Err(format!("unknown policy: {other:?}")),
        };
        let mut given = state::read(&path, if policy.is_some() { POLICY } else { "none" });
        let there = machine.all();
        if given.values().any(|set| !set.is_subset(&there)) {
            warn!(path = %path.display(), "CPUs that containers had are not there any more: all are shared anew");
            given.clear();
        }
        let cpus = Self { policy, machine, path, given: Mutex::new(given), changed: Notify::new() };
        if let Err(error) = cpus.save(&cpus.given.lock()) {
            warn!(error, "which CPUs containers have is not known after a restart");
        }
        Ok(cpus)
    }

    pub fn is_static(&self) -> bool {
        self.policy.is_some()
    }

    /// Those that are not reserved.
    pub fn allocatable(&self) -> Set {
        let all = self.machine.all();
        match &self.policy {
            Some(policy) => all.difference(&policy.reserved).copied().collect(),
            None => all,
        }
    }

    pub fn given(&self, uid: &str, container: &str) -> Set {
        self.given.lock().get(&(uid.to_owned(), container.to_owned())).cloned().unwrap_or_default()
    }

    /// How many containers have for their own, and how many are left for the others.
    pub fn counts(&self) -> (u64, u64) {
        let given = self.given.lock();
        (given.values().map(|set| set.len() as u64).sum(), self.shared(&given).len() as u64)
    }

    /// What is left for everybody else.
    fn shared(&self, given: &Given) -> Set {
        let strict = self.policy.as_ref().filter(|policy| policy.options.strict_reservation);
        let mut all = if strict.is_some() { self.allocatable() } else { self.machine.all() };
        all.retain(|cpu| !given.values().any(|set| set.contains(cpu)));
        all
    }

    /// What nobody has and nobody may not have.
    fn free(&self, given: &Given) -> Set {
        let mut free = self.allocatable();
        free.retain(|cpu| !given.values().any(|set| set.contains(cpu)));
        if self.policy.as_ref().is_some_and(|policy| policy.options.full_pcpus_only) {
            free = self.machine.whole_cores(&free);
        }
        free
    }

    /// What plain init containers of the pod have, and no container that runs on beside the others.
    fn reusable(pod: &Pod, given: &Given) -> Set {
        let of = |container: &Container| given.get(&key(pod, container)).cloned().unwrap_or_default();
        let spec = pod.pod_spec();
        let sidecar = |init: &&Container| init.restart_policy.as_deref() == Some("Always");
        let inits = || spec.init_containers.iter().flatten();
        let mut reusable: Set = inits().filter(|init| !sidecar(init)).flat_map(of).collect();
        let lasting: Set = inits().filter(sidecar).chain(&spec.containers).flat_map(of).collect();
        reusable.retain(|cpu| !lasting.contains(cpu));
        reusable
    }

    /// The NUMA nodes that could give the container what it wants.
    pub fn hints(&self, pod: &Pod, container: &Container) -> Hints {
        let Some(wanted) = wants(pod, container) else { return Hints::new() };
        let given = self.given.lock();
        match given.get(&key(pod, container)) {
            Some(set) => self.hints_of(set, &Set::new(), wanted),
            None => self.hints_of(&self.free(&given), &Self::reusable(pod, &given), wanted),
        }
    }

    /// The same, for all of the pod's containers at once.
    pub fn pod_hints(&self, pod: &Pod) -> Hints {
        let spec = pod.pod_spec();
        let wanted = crate::affinity::most(spec, |container| wants(pod, container).unwrap_or(0));
        if wanted == 0 {
            return Hints::new();
        }
        let given = self.given.lock();
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let own: Set =
            containers.by_ref().filter_map(|one| given.get(&key(pod, one))).flatten().copied().collect();
        if own.is_empty() {
            self.hints_of(&self.free(&given), &Set::new(), wanted)
        } else {
            self.hints_of(&own, &Set::new(), wanted)
        }
    }

    fn hints_of(&self, free: &Set, reusable: &Set, wanted: usize) -> Hints {
        let Some(policy) = &self.policy else { return Hints::new() };
        let machine = &self.machine;
        let in_mask = |cpus: &Set, mask: Mask| machine.within(cpus, mask).len();
        let all = machine.all();
        let could = |mask: Mask| in_mask(&all, mask) >= wanted;
        let mut hints = crate::numa::hints(machine.mask(), could, |mask| {
            in_mask(reusable, mask) == reusable.len()
                && in_mask(&free.union(reusable).copied().collect(), mask) >= wanted
        });
        if policy.options.align_by_socket {
            let masks = crate::numa::masks(machine.mask());
            let least = masks.into_iter().find(|mask| could(*mask)).map_or(1, Mask::count);
            for hint in &mut hints {
                hint.preferred |= hint.mask.is_some_and(|mask| machine.is_socket(mask, least));
            }
        }
        Hints::from([("cpu".to_owned(), Some(hints))])
    }

    /// Gives the container CPUs of its own if it wants some and has none; those of the hint's nodes first.
    pub fn allocate(&self, pod: &Pod, container: &Container, hint: Option<Hint>) -> Result<(), Rejection> {
        let Some((policy, wanted)) = self.policy.as_ref().zip(wants(pod, container)) else { return Ok(()) };
        let mut given = self.given.lock();
        if given.contains_key(&key(pod, container)) {
            return Ok(());
        }
        meters::count("kubelet_cpu_manager_pinning_requests_total", &[]);
        let result = self.give(pod, container, &mut given, policy, wanted, hint);
        if result.is_err() {
            meters::count("kubelet_cpu_manager_pinning_errors_total", &[]);
        }
        result
    }

    fn give(
        &self,
        pod: &Pod,
        container: &Container,
        given: &mut Given,
        policy: &Static,
        wanted: usize,
        hint: Option<Hint>,
    ) -> Result<(), Rejection> {
        let free: Set = self.free(given).union(&Self::reusable(pod, given)).copied().collect();
        if policy.options.full_pcpus_only {
            self.check_whole_cores(wanted, free.len())?;
        }
        let mut set = Set::new();
        if let Some(mask) = hint.and_then(|hint| hint.mask) {
            let near = self.machine.within(&free, mask);
            let count = wanted.min(near.len());
            set = choose(&self.machine, &policy.options, &near, count).unwrap_or_default();
        }
        let rest: Set = free.difference(&set).copied().collect();
        let Some(more) = choose(&self.machine, &policy.options, &rest, wanted - set.len()) else {
            let message = format!(
                "not enough cpus available to satisfy request: requested={wanted}, available={}",
                free.len()
            );
            return Err(crate::affinity::unexpected(&message));
        };
        set.extend(more);
        given.insert(key(pod, container), set);
        if let Err(error) = self.save(given) {
            given.remove(&key(pod, container));
            return Err(crate::affinity::unexpected(&error));
        }
        self.changed.notify_one();
        Ok(())
    }

    fn check_whole_cores(&self, wanted: usize, free: usize) -> Result<(), Rejection> {
        let threads = self.machine.threads();
        if !wanted.is_multiple_of(threads) {
            return Err(rejection(
                "SMTAlignmentError",
                format!(
                    "SMT Alignment Error: requested {wanted} cpus not multiple cpus per core = {threads}"
                ),
            ));
        }
        if wanted > free {
            return Err(rejection(
                "SMTAlignmentError",
                format!(
                    "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {free}, requested CPUs = {wanted}, CPUs per core = {threads}"
                ),
            ));
        }
        Ok(())
    }

    /// The CPUs that a container may run on, as a list; nothing for all.
    pub fn list(&self, pod: &Pod, container: &Container) -> Option<String> {
        self.policy.as_ref()?;
        let given = self.given.lock();
        let own = given.get(&key(pod, container)).cloned();
        Some(shown(&own.unwrap_or_else(|| self.shared(&given))))
    }

    /// The pods that have CPUs for themselves.
    pub fn pods(&self) -> BTreeSet<String> {
        self.given.lock().keys().map(|(uid, _)| uid.clone()).collect()
    }

    /// Whether some container of the pod has CPUs for itself.
    pub fn has_own(&self, uid: &str) -> bool {
        self.given.lock().keys().any(|(of, _)| of == uid)
    }

    /// The pod has ended.
    pub fn release(&self, uid: &str) {
        let mut given = self.given.lock();
        let before = given.len();
        given.retain(|(of, _), _| of != uid);
        if given.len() == before {
            return;
        }
        if let Err(error) = self.save(&given) {
            warn!(error, "CPUs of a pod that has ended stay taken after a restart");
        }
        self.changed.notify_one();
    }

    fn save(&self, given: &Given) -> Result<(), String> {
        match self.policy {
            Some(_) => state::write(&self.path, POLICY, &self.shared(given), given),
            None => state::write(&self.path, "none", &Set::new(), &Given::new()),
        }
    }
}

#[cfg(test)]
mod tests;
