//! What the objects of a namespace use, under the names that quotas have for it. Free of IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    Container, PersistentVolumeClaim, Pod, PodSpec, ResourceQuotaSpec, Service,
};
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use crate::kit::{meta, pods};

const VOLUME_ATTRIBUTES_CLASS: &str = "VolumeAttributesClass";
/// Before the name of any device class: the extended resource that it stands for.
const IMPLICIT: &str = "deviceclass.resource.kubernetes.io/";
const EXTENDED: &str = "resource.kubernetes.io/extended-resource-claim";
/// A claim for all devices gets no more than this.
const MOST_DEVICES: i64 = 32;

pub type Usage = BTreeMap<String, Quantity>;
type List = BTreeMap<String, Text>;

fn one() -> Quantity {
    Quantity::units(1)
}

pub fn add(usage: &mut Usage, more: Usage) {
    for (name, amount) in more {
        usage.entry(name).and_modify(|sum| *sum += amount).or_insert(amount);
    }
}

pub fn of_pod(pod: &Pod) -> Usage {
    let mut usage = Usage::from([("count/pods".to_owned(), one())]);
    // What has finished uses nothing any more.
    if pods::is_finished(pod) {
        return usage;
    }
    usage.insert("pods".to_owned(), one());
    let Some(spec) = &pod.spec else { return usage };
    let of = |list: Option<&List>| parse(list);
    let requests = total(spec, |container| {
        of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
    });
    let limits = total(spec, |container| {
        of(container.resources.as_ref().and_then(|resources| resources.limits.as_ref()))
    });
    for (name, amount) in requests {
        // Extended resources are only known by their requests.
        if !name.contains('/') {
            usage.insert(name.clone(), amount);
        }
        usage.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in limits.into_iter().filter(|(name, _)| !name.contains('/')) {
        usage.insert(format!("limits.{name}"), amount);
    }
    usage
}

fn parse(list: Option<&List>) -> Usage {
    let amounts = list.into_iter().flatten();
    amounts.filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(&amount.0).ok()?))).collect()
}

/// Containers together, or the largest of the init containers beside the sidecars before it, whichever is more.
fn total(spec: &PodSpec, of: impl Fn(&Container) -> Usage) -> Usage {
    let raise = |most: &mut Usage, other: &Usage| {
        for (name, amount) in other {
            let sum = most.entry(name.clone()).or_insert(*amount);
            *sum = (*sum).max(*amount);
        }
    };
    let (mut sidecars, mut most) = (Usage::new(), Usage::new());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, of(container));
            raise(&mut most, &sidecars);
        } else {
            let mut during = sidecars.clone();
            add(&mut during, of(container));
            raise(&mut most, &during);
        }
    }
    for container in &spec.containers {
        add(&mut sidecars, of(container));
    }
    raise(&mut most, &sidecars);
    add(&mut most, parse(spec.overhead.as_ref()));
    most
}

pub fn of_service(service: &Service) -> Usage {
    let spec = service.spec.as_ref();
    let mut usage = Usage::from([("services".to_owned(), one()), ("count/services".to_owned(), one())]);
    let ports = spec.and_then(|spec| spec.ports.as_ref()).map_or(0, Vec::len);
    let ports = Quantity::units(i64::try_from(ports).unwrap_or(i64::MAX));
    match spec.and_then(|spec| spec.type_.as_deref()) {
        Some("NodePort") => drop(usage.insert("services.nodeports".to_owned(), ports)),
        Some("LoadBalancer") => {
            usage.insert("services.loadbalancers".to_owned(), one());
            if spec.and_then(|spec| spec.allocate_load_balancer_node_ports) != Some(false) {
                usage.insert("services.nodeports".to_owned(), ports);
            }
        }
        _ => {}
    }
    usage
}

pub fn of_claim(claim: &PersistentVolumeClaim) -> Usage {
    let spec = claim.spec.as_ref();
    let mut usage = Usage::from([
        ("persistentvolumeclaims".to_owned(), one()),
        ("count/persistentvolumeclaims".to_owned(), one()),
    ]);
    let requests =
        spec.and_then(|spec| spec.resources.as_ref()).and_then(|resources| resources.requests.as_ref());
    // While a claim shrinks back from a failed growth, what was given to it still counts.
    let allocated = claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref());
    let storage = parse(requests).get("storage").copied().max(parse(allocated).get("storage").copied());
    if let Some(storage) = storage {
        usage.insert("requests.storage".to_owned(), storage);
    }
    if let Some(class) =
        spec.and_then(|spec| spec.storage_class_name.as_deref()).filter(|class| !class.is_empty())
    {
        let of_class = |what: &str| format!("{class}.storageclass.storage.k8s.io/{what}");
        usage.insert(of_class("persistentvolumeclaims"), one());
        if let Some(storage) = storage {
            usage.insert(of_class("requests.storage"), storage);
        }
    }
    usage
}

/// What a claim for devices uses, by the names that these classes give it too, less what is counted with the `pod` for whose
/// extended resources it was made.
pub fn of_devices(claim: &ResourceClaim, classes: &[Arc<DeviceClass>], pod: Option<&Pod>) -> Usage {
    let mut usage = of_resource_claim(claim);
    for class in classes {
        let Some(resource) = &class.spec.extended_resource_name else { continue };
        if let Some(amount) = usage.get(&format!("requests.{IMPLICIT}{}", meta::name(&**class))).copied() {
            add(&mut usage, Usage::from([(format!("requests.{resource}"), amount)]));
        }
    }
    for (name, counted) in pod.map(of_pod).unwrap_or_default() {
        if let Some(amount) = usage.get_mut(&name) {
            *amount = amount.minus(counted).max(Quantity::ZERO);
        }
    }
    usage
}

/// The pod for whose extended resources the claim was made.
pub fn owner_of(claim: &ResourceClaim) -> Option<(&str, &str)> {
    let owner = meta::controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod")?;
    (meta::annotation(claim, EXTENDED) == Some("true")).then_some((&owner.name, &owner.uid))
}

/// Devices of each class, as many as can be told before they are allocated.
fn of_resource_claim(claim: &ResourceClaim) -> Usage {
    let mut usage = Usage::new();
    let requests = claim.spec.devices.iter().flat_map(|devices| devices.requests.iter().flatten());
    for request in requests {
        // Of alternatives, any may be taken: each class counts with the most that it would be asked for.
        let mut most = Usage::new();
        let exactly = request
            .exactly
            .iter()
            .map(|exact| (&exact.device_class_name, exact.allocation_mode.as_deref(), exact.count));
        let alternatives = request
            .first_available
            .iter()
            .flatten()
            .map(|sub| (&sub.device_class_name, sub.allocation_mode.as_deref(), sub.count));
        for (class, mode, count) in exactly.chain(alternatives) {
            let count = if mode == Some("All") { MOST_DEVICES } else { count.unwrap_or(1) };
            for name in [
                format!("{class}.deviceclass.resource.k8s.io/devices"),
                format!("requests.{IMPLICIT}{class}"),
            ] {
                let amount = most.entry(name).or_insert(Quantity::ZERO);
                *amount = (*amount).max(Quantity::units(count));
            }
        }
        add(&mut usage, most);
    }
    usage
}

/// Whether the scopes of a quota pick a claim: only attribute classes say anything about claims.
pub fn claim_in_scope(quota: &ResourceQuotaSpec, claim: &PersistentVolumeClaim) -> bool {
    let status = claim.status.as_ref();
    let classes = [
        claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref()),
        status.and_then(|status| status.current_volume_attributes_class_name.as_ref()),
        status
            .and_then(|status| status.modify_volume_status.as_ref())
            .and_then(|modify| modify.target_volume_attributes_class_name.as_ref()),
    ];
    let classes: Vec<&String> = classes.into_iter().flatten().filter(|class| !class.is_empty()).collect();
    let matches = |scope: &str, operator: &str, values: &[String]| {
        let among = || classes.iter().any(|class| values.contains(class));
        scope == VOLUME_ATTRIBUTES_CLASS
            && match operator {
                "In" => among(),
                "NotIn" => !among(),
                "Exists" => !classes.is_empty(),
                "DoesNotExist" => classes.is_empty(),
                _ => false,
            }
    };
    let selected =
        quota.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    let mut selected = selected
        .map(|term| matches(&term.scope_name, &term.operator, term.values.as_deref().unwrap_or_default()));
    quota.scopes.iter().flatten().all(|scope| matches(scope, "Exists", &[]))
        && selected.all(|matches| matches)
}

/// Whether the scopes of a quota pick a pod.
pub fn in_scope(quota: &ResourceQuotaSpec, pod: &Pod) -> bool {
    let plain = quota.scopes.iter().flatten().all(|scope| matches_scope(scope, "Exists", &[], pod));
    let selected =
        quota.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    let mut selected = selected.map(|term| {
        matches_scope(&term.scope_name, &term.operator, term.values.as_deref().unwrap_or_default(), pod)
    });
    plain && selected.all(|matches| matches)
}

/// Whether a quota has scopes at all: such a one counts only what scopes can pick.
pub fn has_scopes(quota: &ResourceQuotaSpec) -> bool {
    quota.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty()) || quota.scope_selector.is_some()
}

fn matches_scope(scope: &str, operator: &str, values: &[String], pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let has_deadline = spec.and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0);
    let best_effort =
        pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) == Some("BestEffort");
    match scope {
        "Terminating" => has_deadline,
        "NotTerminating" => !has_deadline,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => {
            let class =
                spec.and_then(|spec| spec.priority_class_name.as_ref()).filter(|class| !class.is_empty());
            let among = class.is_some_and(|class| values.contains(class));
            match operator {
                "In" => among,
                "NotIn" => !among,
                "Exists" => class.is_some(),
                "DoesNotExist" => class.is_none(),
                _ => false,
            }
        }
        "CrossNamespacePodAffinity" => spec.is_some_and(crosses_namespaces),
        _ => false,
    }
}

fn crosses_namespaces(spec: &PodSpec) -> bool {
    let affinity = spec.affinity.as_ref();
    let with = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let without = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = with.and_then(|with| with.required_during_scheduling_ignored_during_execution.as_ref());
    let required_anti =
        without.and_then(|without| without.required_during_scheduling_ignored_during_execution.as_ref());
    let preferred = with.and_then(|with| with.preferred_during_scheduling_ignored_during_execution.as_ref());
    let preferred_anti =
        without.and_then(|without| without.preferred_during_scheduling_ignored_during_execution.as_ref());
    let weighted = preferred.into_iter().chain(preferred_anti).flatten().map(|term| &term.pod_affinity_term);
    let mut terms = required.into_iter().chain(required_anti).flatten().chain(weighted);
    terms.any(|term| {
        term.namespace_selector.is_some() || term.namespaces.as_ref().is_some_and(|names| !names.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(usage: Usage) -> Value {
        serde_json::to_value(
            usage.into_iter().map(|(name, amount)| (name, amount.to_string())).collect::<BTreeMap<_, _>>(),
        )
        .unwrap()
    }

    #[test]
    fn pods_use_what_they_request() {
        let pod = |phase: &str| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [
                {"name": "a", "resources": {"requests": {"cpu": "100m", "x.y/gpu": "1"}, "limits": {"cpu": "1"}}},
                {"name": "b", "resources": {"requests": {"cpu": "200m"}}}]}, "status": {"phase": phase}}))
            .unwrap()
        };
        assert_eq!(
            told(of_pod(&pod("Running"))),
            json!({"count/pods": "1", "pods": "1", "cpu": "300m", "requests.cpu": "300m",
            "requests.x.y/gpu": "1", "limits.cpu": "1"})
        );
        assert_eq!(told(of_pod(&pod("Failed"))), json!({"count/pods": "1"}));
    }

    #[test]
    fn services_and_claims() {
        let service = |type_: &str| -> Service {
            serde_json::from_value(json!({"spec": {"type": type_, "ports": [{"port": 1}, {"port": 2}]}}))
                .unwrap()
        };
        let plain = json!({"services": "1", "count/services": "1"});
        assert_eq!(told(of_service(&service("ClusterIP"))), plain);
        assert_eq!(told(of_service(&service("NodePort")))["services.nodeports"], "2");
        assert_eq!(told(of_service(&service("LoadBalancer")))["services.loadbalancers"], "1");
        let claim: PersistentVolumeClaim = serde_json::from_value(
            json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}}),
        )
        .unwrap();
        assert_eq!(told(of_claim(&claim))["fast.storageclass.storage.k8s.io/requests.storage"], "1Gi");
    }

    #[test]
    fn scopes_pick_pods() {
        let check = |quota: Value, pod: Value, expected: bool| {
            let (quota, pod): (ResourceQuotaSpec, Pod) =
                (serde_json::from_value(quota).unwrap(), serde_json::from_value(pod).unwrap());
            assert_eq!(in_scope(&quota, &pod), expected, "{quota:?}");
        };
        let important = json!({"spec": {"containers": [], "priorityClassName": "high"}, "status": {"qosClass": "BestEffort"}});
        let selector = |operator: &str| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": ["high"]}]}});
        check(json!({}), important.clone(), true);
        check(json!({"scopes": ["BestEffort"]}), important.clone(), true);
        check(json!({"scopes": ["BestEffort", "Terminating"]}), important.clone(), false);
        check(selector("In"), important.clone(), true);
        check(selector("NotIn"), important, false);
    }
}
