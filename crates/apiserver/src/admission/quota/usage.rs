//! What an object uses of a quota, and which scopes it is in.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use api::status::GroupResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::devices;
use crate::admission::objects::{CLAIMS, DEVICE_CLAIMS, PODS, SERVICES, annotation, items};

pub type Amounts = BTreeMap<String, Quantity>;

/// What one object uses, by the names that quotas have for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    pub amounts: Amounts,
    /// What scopes are decided by; none for what is not a pod.
    pub pod: Option<PodFacts>,
    /// The class of a claim, which is all that its scope is decided by.
    pub attributes_class: Option<String>,
    /// A claim for devices: what it uses has more names than these amounts have.
    pub devices: Option<devices::Claimed>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFacts {
    pub best_effort: bool,
    pub terminating: bool,
    pub cross_namespace_affinity: bool,
    pub priority_class: String,
}

pub fn one() -> Quantity {
    Quantity::from_value(&Value::from(1)).unwrap_or_default()
}

fn number(count: usize) -> Quantity {
    Quantity::from_value(&Value::from(count)).unwrap_or_default()
}

/// `count/deployments.apps`
pub fn count_name(resource: GroupResource<'_>) -> String {
    format!("count/{resource}")
}

/// The usage of an object of any resource.
pub fn of(resource: GroupResource<'_>, object: &Value) -> Usage {
    let mut usage = Usage::default();
    usage.amounts.insert(count_name(resource), one());
    match resource {
        PODS => pod(object, &mut usage),
        SERVICES => service(object, &mut usage.amounts),
        CLAIMS => {
            let class = object["spec"]["volumeAttributesClassName"].as_str().unwrap_or_default();
            usage.attributes_class = Some(class.to_owned());
            claim(object, &mut usage.amounts);
        }
        DEVICE_CLAIMS => usage.devices = Some(devices::of(object, &mut usage.amounts)),
        // Counted by their plain names since before there was `count/`.
        GroupResource {
            group: "",
            resource: "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas",
        } => {
            usage.amounts.insert(resource.resource.to_owned(), one());
        }
        _ => {}
    }
    usage
}

fn service(object: &Value, amounts: &mut Amounts) {
    let spec = &object["spec"];
    amounts.insert("services".to_owned(), one());
    let ports = number(items(&spec["ports"]).count());
    match spec["type"].as_str() {
        Some("NodePort") => {
            amounts.insert("services.nodeports".to_owned(), ports);
        }
        Some("LoadBalancer") => {
            amounts.insert("services.loadbalancers".to_owned(), one());
            if spec["allocateLoadBalancerNodePorts"].as_bool() != Some(false) {
                amounts.insert("services.nodeports".to_owned(), ports);
            }
        }
        _ => {}
    }
}

fn claim(object: &Value, amounts: &mut Amounts) {
    let class = match object["spec"]["storageClassName"].as_str() {
        Some(class) => class,
        None => annotation(object, "volume.beta.kubernetes.io/storage-class"),
    };
    let mut names = vec!["persistentvolumeclaims".to_owned()];
    if !class.is_empty() {
        names.push(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"));
    }
    let size = &object["spec"]["resources"]["requests"]["storage"];
    if let Ok(size) = Quantity::from_value(size) {
        amounts.insert("requests.storage".to_owned(), size);
        if !class.is_empty() {
            amounts.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
        }
    }
    amounts.extend(names.into_iter().map(|name| (name, one())));
}

fn pod(object: &Value, usage: &mut Usage) {
    let spec = &object["spec"];
    usage.pod = Some(PodFacts {
        best_effort: is_best_effort(spec),
        terminating: spec["activeDeadlineSeconds"].as_i64().is_some(),
        cross_namespace_affinity: has_cross_namespace_affinity(spec),
        priority_class: spec["priorityClassName"].as_str().unwrap_or_default().to_owned(),
    });
    // What has finished holds nothing but its place in the store.
    if matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return;
    }
    usage.amounts.insert("pods".to_owned(), one());
    usage.amounts.extend(compute(&pod_total(spec, "requests"), &pod_total(spec, "limits")));
}

/// Requests and limits under the names of quotas.
pub fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut amounts = Amounts::new();
    for (name, amount) in requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            amounts.insert(name.clone(), *amount);
        }
        amounts.insert(format!("requests.{name}"), *amount);
    }
    for (name, amount) in limits {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            amounts.insert(format!("limits.{name}"), *amount);
        }
    }
    amounts
}

/// A `requests` or `limits` list.
pub fn list(list: &Value) -> Amounts {
    list.as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), Quantity::from_value(value).ok()?)))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        to.entry(name.clone()).and_modify(|sum| *sum += *amount).or_insert(*amount);
    }
}

/// What a pod needs at its greediest moment, and the runtime's overhead.
fn pod_total(spec: &Value, field: &str) -> Amounts {
    let mut running = greediest(spec, field);
    let overhead = list(&spec["overhead"]);
    if field == "requests" {
        add(&mut running, &overhead);
    } else {
        for (name, amount) in &overhead {
            running.entry(name.clone()).and_modify(|sum| *sum += *amount);
        }
    }
    running
}

/// What the containers of a pod need at their greediest moment: all together with the sidecars, or one init container
/// with the sidecars started before it; unless the pod says it for all of them.
pub fn greediest(spec: &Value, field: &str) -> Amounts {
    let mut running = Amounts::new();
    for container in items(&spec["containers"]) {
        add(&mut running, &list(&container["resources"][field]));
    }
    let (mut sidecars, mut starting) = (Amounts::new(), Amounts::new());
    for container in items(&spec["initContainers"]) {
        let own = list(&container["resources"][field]);
        let mut moment = sidecars.clone();
        add(&mut moment, &own);
        if container["restartPolicy"].as_str() == Some("Always") {
            sidecars = moment.clone();
        }
        for (name, amount) in moment {
            starting.entry(name).and_modify(|most| *most = (*most).max(amount)).or_insert(amount);
        }
    }
    add(&mut running, &sidecars);
    for (name, amount) in starting {
        running.entry(name).and_modify(|most| *most = (*most).max(amount)).or_insert(amount);
    }
    running.extend(list(&spec["resources"][field]));
    running
}

fn is_best_effort(spec: &Value) -> bool {
    let asks = |resources: &Value| {
        ["requests", "limits"].iter().any(|field| {
            let list = list(&resources[*field]);
            list.iter().any(|(name, amount)| {
                matches!(name.as_str(), "cpu" | "memory") && *amount > Quantity::default()
            })
        })
    };
    let containers = items(&spec["containers"]).chain(items(&spec["initContainers"]));
    !asks(&spec["resources"]) && !containers.map(|container| &container["resources"]).any(asks)
}

fn has_cross_namespace_affinity(spec: &Value) -> bool {
    let crosses =
        |term: &Value| items(&term["namespaces"]).next().is_some() || term["namespaceSelector"].is_object();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = &spec["affinity"][*kind];
        items(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]).any(crosses)
            || items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"])
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}

/// Whether the scopes of a quota let it count this.
pub fn in_scope(quota: &Value, usage: &Usage) -> bool {
    let spec = &quota["spec"];
    let scopes = items(&spec["scopes"]).filter_map(Value::as_str);
    let selected = items(&spec["scopeSelector"]["matchExpressions"]);
    let holds = |scope: &str| match (&usage.pod, &usage.attributes_class) {
        (Some(pod), _) => match scope {
            "BestEffort" => pod.best_effort,
            "NotBestEffort" => !pod.best_effort,
            "Terminating" => pod.terminating,
            "NotTerminating" => !pod.terminating,
            "CrossNamespacePodAffinity" => pod.cross_namespace_affinity,
            "PriorityClass" => !pod.priority_class.is_empty(),
            _ => false,
        },
        (None, Some(class)) => scope == "VolumeAttributesClass" && !class.is_empty(),
        (None, None) => false,
    };
    // The scopes whose classes can be named, with the class of this object.
    let class_of = |scope: &str| match scope {
        "PriorityClass" => usage.pod.as_ref().map(|pod| pod.priority_class.as_str()),
        "VolumeAttributesClass" => usage.attributes_class.as_deref(),
        _ => None,
    };
    let known = |scope: &str| usage.pod.is_some() || class_of(scope).is_some();
    let expression = |one: &Value| {
        let scope = one["scopeName"].as_str().unwrap_or_default();
        let among = |class: &str| items(&one["values"]).any(|value| value.as_str() == Some(class));
        match one["operator"].as_str().unwrap_or_default() {
            "In" => class_of(scope).is_some_and(among),
            "NotIn" => class_of(scope).is_some_and(|class| !among(class)),
            "Exists" => holds(scope),
            "DoesNotExist" => known(scope) && !holds(scope),
            _ => false,
        }
    };
    scopes.into_iter().all(holds) && selected.into_iter().all(expression)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(amounts: &Amounts) -> String {
        let all: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        all.join(",")
    }

    #[test]
    fn usages() {
        let check = |resource: GroupResource<'_>, object: Value, expected: &str| {
            assert_eq!(show(&of(resource, &object).amounts), expected);
        };
        let containers =
            |requests: Value, limits: Value| json!([{"resources": {"requests": requests, "limits": limits}}]);
        check(
            PODS,
            json!({"spec": {"containers": containers(json!({"cpu": "1", "example.com/gpu": "2"}), json!({"cpu": "2"}))}}),
            "count/pods=1,cpu=1,limits.cpu=2,pods=1,requests.cpu=1,requests.example.com/gpu=2",
        );
        check(PODS, json!({"spec": {}, "status": {"phase": "Failed"}}), "count/pods=1");
        // The init container beside its sidecar is greedier than the container beside the sidecar.
        check(
            PODS,
            json!({"spec": {"containers": containers(json!({"cpu": "1"}), json!({})), "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
                {"resources": {"requests": {"cpu": "2"}}}], "overhead": {"cpu": "250m"}}}),
            "count/pods=1,cpu=2750m,pods=1,requests.cpu=2750m",
        );
        check(
            SERVICES,
            json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}}),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2",
        );
        check(
            CLAIMS,
            json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}}),
            "count/persistentvolumeclaims=1,fast.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             fast.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi",
        );
        check(("apps", "deployments").into(), json!({}), "count/deployments.apps=1");
        check(("", "secrets").into(), json!("junk"), "count/secrets=1,secrets=1");
    }

    #[test]
    fn scopes() {
        let check = |spec: Value, pod: Value, expected: bool| {
            let usage = of(PODS, &json!({"spec": pod}));
            assert_eq!(in_scope(&json!({"spec": spec}), &usage), expected, "{spec} {pod}");
        };
        let burstable = json!({"containers": [{"resources": {"requests": {"cpu": "1"}}}]});
        check(json!({}), json!({}), true);
        check(json!({"scopes": ["BestEffort"]}), json!({}), true);
        check(json!({"scopes": ["BestEffort"]}), burstable.clone(), false);
        check(json!({"scopes": ["NotBestEffort", "NotTerminating"]}), burstable, true);
        check(json!({"scopes": ["Terminating"]}), json!({"activeDeadlineSeconds": 5}), true);
        let priority = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
        check(priority("In", json!(["high"])), json!({"priorityClassName": "high"}), true);
        check(priority("In", json!(["high"])), json!({"priorityClassName": "low"}), false);
        check(priority("NotIn", json!(["high"])), json!({}), true);
        check(priority("Exists", json!(null)), json!({"priorityClassName": "low"}), true);
        check(priority("DoesNotExist", json!(null)), json!({}), true);
        let class = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "VolumeAttributesClass", "operator": operator, "values": values}]}});
        let claim = of(CLAIMS, &json!({"spec": {"volumeAttributesClassName": "gold"}}));
        assert!(in_scope(&json!({"spec": class("In", json!(["gold"]))}), &claim));
        assert!(!in_scope(&json!({"spec": class("NotIn", json!(["gold"]))}), &claim));
        assert!(in_scope(&json!({"spec": class("Exists", json!(null))}), &claim));
        assert!(!in_scope(&json!({"spec": {"scopes": ["NotTerminating"]}}), &claim));
        check(class("DoesNotExist", json!(null)), json!({}), true);
        let service = of(SERVICES, &json!({}));
        assert!(in_scope(&json!({"spec": {}}), &service));
        assert!(!in_scope(&json!({"spec": {"scopes": ["NotTerminating"]}}), &service));
    }
}
