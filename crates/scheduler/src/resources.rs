//! Amounts of resources, as the scheduler counts them.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// What a container without requests is taken to use when nodes are compared (not when they are filtered).
const UNTOLD_MILLI_CPU: i64 = 100;
const UNTOLD_MEMORY: i64 = 200 * 1024 * 1024;

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
pub const EPHEMERAL: &str = "ephemeral-storage";
pub const HUGE_PAGES: &str = "hugepages-";
const PODS: &str = "pods";

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral: i64,
    /// Huge pages and extended resources, by name.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    /// Of a map such as a node's `allocatable` or a container's `requests`. Malformed amounts count as none: the
    /// API server does not let them in.
    pub fn of(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut resources = Self::default();
        for (name, amount) in list.into_iter().flatten() {
            let Ok(amount) = Quantity::parse(&amount.0) else { continue };
            match name.as_str() {
                CPU => resources.milli_cpu = amount.milli_value(),
                MEMORY => resources.memory = amount.value(),
                EPHEMERAL => resources.ephemeral = amount.value(),
                PODS => {}
                _ => drop(resources.others.insert(name.clone(), amount.value())),
            }
        }
        resources
    }

    pub fn amount(&self, name: &str) -> i64 {
        match name {
            CPU => self.milli_cpu,
            MEMORY => self.memory,
            EPHEMERAL => self.ephemeral,
            _ => self.others.get(name).copied().unwrap_or(0),
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory = self.memory.saturating_add(other.memory);
        self.ephemeral = self.ephemeral.saturating_add(other.ephemeral);
        for (name, amount) in &other.others {
            let sum = self.others.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        self.milli_cpu -= other.milli_cpu;
        self.memory -= other.memory;
        self.ephemeral -= other.ephemeral;
        for (name, amount) in &other.others {
            if let Some(left) = self.others.get_mut(name) {
                *left -= amount;
                // As if it had never been added, so that what is counted and what is counted anew are equal.
                if *left == 0 {
                    self.others.remove(name);
                }
            }
        }
    }

    /// The larger of each.
    fn raise(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory = self.memory.max(other.memory);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
        for (name, amount) in &other.others {
            let most = self.others.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }
}

/// Whether a resource is one that not every node has (a device, say), or huge pages.
pub fn is_extended(name: &str) -> bool {
    !matches!(name, CPU | MEMORY | EPHEMERAL)
}

/// How many pods a node takes.
pub fn pod_limit(allocatable: Option<&BTreeMap<String, Text>>) -> i64 {
    let amount = allocatable.and_then(|list| list.get(PODS));
    amount.and_then(|amount| Quantity::parse(&amount.0).ok()).map_or(0, |amount| amount.value())
}

/// What a pod needs on its node.
pub fn of_pod(pod: &Pod) -> Resources {
    pod.spec.as_ref().map(|spec| requested(spec, |container| granted(container, pod))).unwrap_or_default()
}

/// What a pod may use at most, of those resources for which it is told.
pub fn limits_of_pod(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let whole = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let mut limits = total(spec, whole, |container| {
        Resources::of(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
    });
    let overhead = Resources::of(spec.overhead.as_ref());
    let add = |limit: &mut i64, more: i64| {
        if *limit != 0 {
            *limit = limit.saturating_add(more);
        }
    };
    add(&mut limits.milli_cpu, overhead.milli_cpu);
    add(&mut limits.memory, overhead.memory);
    add(&mut limits.ephemeral, overhead.ephemeral);
    limits
}

/// What a pod is taken to use when nodes are compared.
pub fn of_pod_for_scoring(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let of_whole = |name| whole.is_some_and(|whole| whole.contains_key(name));
    let requests = |container: &Container| {
        let mut resources = granted(container, pod);
        let told = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let told = |name| told.is_some_and(|told| told.contains_key(name)) || of_whole(name);
        if !told(CPU) {
            resources.milli_cpu = UNTOLD_MILLI_CPU;
        }
        if !told(MEMORY) {
            resources.memory = UNTOLD_MEMORY;
        }
        resources
    };
    requested(spec, requests)
}

/// What a container requests or, while it is being resized, what its node has granted if that is more: the node
/// gives up the difference only when the resize is done.
fn granted(container: &Container, pod: &Pod) -> Resources {
    let mut resources =
        Resources::of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let Some(status) = &pod.status else { return resources };
    let mut statuses = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let Some(status) = statuses.find(|status| status.name == container.name) else { return resources };
    let actual = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let told = [status.allocated_resources.as_ref(), actual];
    for amounts in told.into_iter().flatten() {
        resources.raise(&Resources::of(Some(amounts)));
    }
    resources
}

fn requested(spec: &PodSpec, requests: impl Fn(&Container) -> Resources) -> Resources {
    let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let mut all = total(spec, whole, requests);
    all.add(&Resources::of(spec.overhead.as_ref()));
    all
}

/// Containers run together; init containers one after the other before them, beside the sidecars begun so far. What is
/// told for the pod as a `whole` takes the place of what its containers have together.
fn total(
    spec: &PodSpec,
    whole: Option<&BTreeMap<String, Text>>,
    requests: impl Fn(&Container) -> Resources,
) -> Resources {
    let mut sidecars = Resources::default();
    let mut most = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut during = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&during);
            most.raise(&sidecars);
        } else {
            during.add(&sidecars);
            most.raise(&during);
        }
    }
    let mut running = sidecars;
    for container in &spec.containers {
        running.add(&requests(container));
    }
    most.raise(&running);

    if let Some(whole) = whole {
        let amounts = Resources::of(Some(whole));
        if whole.contains_key(CPU) {
            most.milli_cpu = amounts.milli_cpu;
        }
        if whole.contains_key(MEMORY) {
            most.memory = amounts.memory;
        }
        most.others.extend(amounts.others.into_iter().filter(|(name, _)| name.starts_with(HUGE_PAGES)));
    }
    // A request of nothing is none.
    most.others.retain(|_, amount| *amount != 0);
    most
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(cpu: &str, sidecar: bool) -> serde_json::Value {
        let mut value = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        if sidecar {
            value["restartPolicy"] = "Always".into();
        }
        value
    }

    #[test]
    fn init_containers_count_by_the_most_that_runs_at_once() {
        let check = |init: &[(&str, bool)], expected: i64| {
            let init: Vec<_> = init.iter().map(|(cpu, sidecar)| container(cpu, *sidecar)).collect();
            let pod: Pod = serde_json::from_value(json!({"spec": {"initContainers": init,
                "containers": [container("100m", false), container("200m", false)], "overhead": {"cpu": "5m"}}}))
            .unwrap();
            assert_eq!(of_pod(&pod).milli_cpu, expected + 5, "{init:?}");
        };
        check(&[], 300);
        check(&[("100m", false)], 300);
        check(&[("1", false)], 1000);
        check(&[("100m", true)], 400);
        check(&[("100m", true), ("500m", false)], 600);
        check(&[("500m", false), ("100m", true)], 500);
    }

    #[test]
    fn untold_requests_count_for_scores_only() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "0", "example.com/gpu": "2"}}}, {"name": "b"}]}}))
        .unwrap();
        assert_eq!((of_pod(&pod).milli_cpu, of_pod(&pod).memory), (0, 0));
        assert_eq!(of_pod(&pod).others.get("example.com/gpu"), Some(&2));
        let scored = of_pod_for_scoring(&pod);
        assert_eq!((scored.milli_cpu, scored.memory), (UNTOLD_MILLI_CPU, 2 * UNTOLD_MEMORY));
    }

    #[test]
    fn what_is_added_can_be_subtracted() {
        let list =
            BTreeMap::from([("cpu".to_owned(), Text("2".into())), ("x/y".to_owned(), Text("1k".into()))]);
        let mut resources = Resources::of(Some(&list));
        let before = resources.clone();
        resources.add(&before.clone());
        resources.subtract(&before);
        assert_eq!(resources, before);
        assert_eq!((before.milli_cpu, before.others["x/y"]), (2000, 1000));
    }
}
