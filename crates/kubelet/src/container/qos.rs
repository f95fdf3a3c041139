//! Quality of service, and the sums of resources that a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use super::quantity::{milli_of, value_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Guaranteed => "Guaranteed",
            Class::Burstable => "Burstable",
            Class::BestEffort => "BestEffort",
        }
    }
}

/// Only CPU and memory count. Pod-level resources, where given, are the only ones looked at.
pub fn class(spec: &PodSpec) -> Class {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let all: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        Some(resources) => vec![Some(resources)],
        None => containers.map(|container| container.resources.as_ref()).collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    for resources in all {
        for name in ["cpu", "memory"] {
            let amount = |map| milli_of(map, name).filter(|amount| *amount > 0);
            let limit = amount(resources.and_then(|resources| resources.limits.as_ref()));
            let request = amount(resources.and_then(|resources| resources.requests.as_ref()));
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Class::BestEffort,
        (true, true) => Class::Guaranteed,
        (true, false) => Class::Burstable,
    }
}

/// What a pod is counted with: the larger of its containers together and its init containers one by one,
/// sidecars being added to both, and the overhead.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// By name: CPU in thousandths, everything else in whole units.
    pub amounts: BTreeMap<String, i64>,
}

impl Sums {
    pub fn get(&self, name: &str) -> i64 {
        self.amounts.get(name).copied().unwrap_or(0)
    }

    fn add(&mut self, other: &Sums) {
        for (name, amount) in &other.amounts {
            let sum = self.amounts.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    fn at_least(&mut self, other: &Sums) {
        for (name, amount) in &other.amounts {
            let sum = self.amounts.entry(name.clone()).or_default();
            *sum = (*sum).max(*amount);
        }
    }
}

type Map = super::quantity::Resources;

fn amounts(map: Option<&Map>) -> Sums {
    let read = |name: &String| {
        let amount = if name == "cpu" { milli_of(map, name) } else { value_of(map, name) };
        Some((name.clone(), amount?))
    };
    Sums { amounts: map.into_iter().flat_map(BTreeMap::keys).filter_map(read).collect() }
}

fn sums(spec: &PodSpec, of: impl Fn(&ResourceRequirements) -> Option<&Map>) -> Sums {
    let mut together = of_containers(spec, &of);
    if let Some(resources) = &spec.resources {
        for (name, amount) in amounts(of(resources)).amounts {
            together.amounts.insert(name, amount);
        }
    }
    together.add(&amounts(spec.overhead.as_ref()));
    together
}

fn of_containers(spec: &PodSpec, of: impl Fn(&ResourceRequirements) -> Option<&Map>) -> Sums {
    let one = |container: &Container| amounts(container.resources.as_ref().and_then(&of));
    let mut together = Sums::default();
    for container in &spec.containers {
        together.add(&one(container));
    }
    let mut sidecars = Sums::default();
    let mut init = Sums::default();
    for container in spec.init_containers.iter().flatten() {
        let mut needs = one(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&needs);
            together.add(&needs);
            needs = sidecars.clone();
        } else {
            needs.add(&sidecars);
        }
        init.at_least(&needs);
    }
    together.at_least(&init);
    together
}

/// The limits that hold for a container: what it does not limit itself is limited by its pod.
pub fn limits_of(spec: &PodSpec, own: Option<&Map>) -> Map {
    let pod = spec.resources.as_ref().and_then(|resources| resources.limits.clone());
    let mut limits = pod.unwrap_or_default();
    let is_said = |amount: &str| super::quantity::milli(amount).is_some_and(|amount| amount > 0);
    let own = own.into_iter().flatten().filter(|(_, amount)| is_said(&amount.0));
    limits.extend(own.map(|(name, amount)| (name.clone(), amount.clone())));
    limits
}

/// Each container's part of the memory that the pod asks for beyond what they ask for themselves.
pub fn shared_memory(spec: &PodSpec) -> i64 {
    let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let Some(whole) = value_of(whole, "memory") else { return 0 };
    let asked = of_containers(spec, |resources| resources.requests.as_ref()).get("memory");
    let count = spec.containers.len() + spec.init_containers.as_ref().map_or(0, Vec::len);
    whole.saturating_sub(asked).max(0) / i64::try_from(count.max(1)).unwrap_or(1)
}

pub fn requests(spec: &PodSpec) -> Sums {
    sums(spec, |resources| resources.requests.as_ref())
}

/// The limits of a pod: for a resource that some container leaves unlimited, there is none.
pub fn limits(spec: &PodSpec) -> Sums {
    let mut limits = sums(spec, |resources| resources.limits.as_ref());
    let limited = |container: &Container, name: &String| {
        let resources = container.resources.as_ref();
        resources
            .and_then(|resources| resources.limits.as_ref())
            .is_some_and(|limits| limits.contains_key(name))
    };
    let pod_level = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    limits.amounts.retain(|name, _| {
        pod_level.is_some_and(|pod| pod.contains_key(name))
            || spec
                .init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
                .all(|container| limited(container, name))
    });
    limits
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn classes() {
        let check = |resources: serde_json::Value, expected: Class| {
            let spec = spec(json!({"containers": [{"name": "c", "resources": resources}]}));
            assert_eq!(class(&spec), expected, "{resources}");
        };
        check(json!({}), Class::BestEffort);
        check(json!({"requests": {"cpu": "0"}}), Class::BestEffort);
        check(json!({"requests": {"cpu": "1"}}), Class::Burstable);
        check(json!({"limits": {"cpu": "1"}}), Class::Burstable);
        check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), Class::Guaranteed);
        check(
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m"}}),
            Class::Guaranteed,
        );
        check(
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
            Class::Burstable,
        );
    }

    #[test]
    fn init_containers_count_when_larger() {
        let spec = spec(json!({
            "initContainers": [
                {"name": "i", "resources": {"requests": {"cpu": "2"}}},
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
            ],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Mi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "500m"}}},
            ],
        }));
        let sums = requests(&spec);
        assert_eq!((sums.get("cpu"), sums.get("memory")), (2000, 1 << 20));
    }
}
