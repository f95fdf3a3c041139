//! What several parts ask of a pod: its quality of service, and what its containers ask for together.

use crate::quantity::Quantity;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Amounts = BTreeMap<String, Quantity>;

/// Guaranteed when every container has equal requests and limits of CPU and memory, Burstable when any has a request
/// or limit, else BestEffort. What is said of the whole pod stands for its containers.
pub fn qos_class(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let whole = &spec["resources"];
    let given = |list: &str| {
        whole[list].as_object().is_some_and(|amounts| amounts.keys().any(|name| is_compute(name)))
    };
    let sets: Vec<&Value> = if given("requests") || given("limits") {
        vec![whole]
    } else {
        containers(spec, "initContainers")
            .chain(containers(spec, "containers"))
            .map(|c| &c["resources"])
            .collect()
    };
    let amount = |resources: &Value, list: &str, name: &str| {
        Quantity::from_value(&resources[list][name]).ok().filter(|amount| !amount.is_zero())
    };
    let mut any = false;
    let mut all = !sets.is_empty();
    for resources in sets {
        for name in ["cpu", "memory"] {
            let request = amount(resources, "requests", name);
            let limit = amount(resources, "limits", name);
            any |= request.is_some() || limit.is_some();
            // Without a request of its own, the limit is the request.
            all &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, all) {
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
        (false, _) => "BestEffort",
    }
}

/// What can be asked for a pod as a whole.
pub fn is_compute(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Whether an init container goes on running beside the others.
pub fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// The requests of all containers together: what runs side by side is added up, and no init container, with the
/// sidecars before it, may need more than that.
pub fn requests_of_containers(spec: &Map<String, Value>) -> Amounts {
    let list = |field: &str| spec.get(field).and_then(Value::as_array).into_iter().flatten();
    let mut sum = Amounts::new();
    for container in list("containers") {
        add(&mut sum, &requests(container));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in list("initContainers") {
        let mut now = requests(container);
        add(&mut now, &sidecars);
        raise(&mut peak, &now);
        if is_sidecar(container) {
            add(&mut sidecars, &requests(container));
        }
    }
    add(&mut sum, &sidecars);
    raise(&mut sum, &peak);
    sum
}

fn containers<'a>(spec: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    spec[list].as_array().into_iter().flatten()
}

fn requests(container: &Value) -> Amounts {
    let amounts = container["resources"]["requests"].as_object().into_iter().flatten();
    amounts.filter_map(|(name, amount)| Some((name.clone(), Quantity::from_value(amount).ok()?))).collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_insert(Quantity::ZERO) += *amount;
    }
}

fn raise(to: &mut Amounts, at_least: &Amounts) {
    for (name, amount) in at_least {
        let entry = to.entry(name.clone()).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn qos_classes() {
        #[track_caller]
        fn check(containers: Value, expected: &str) {
            assert_eq!(qos_class(&json!({"spec": {"containers": containers}})), expected);
        }
        let same = json!({"cpu": "1", "memory": "1Gi"});
        check(json!([{"name": "a"}]), "BestEffort");
        check(json!([{"resources": {"limits": same, "requests": same}}]), "Guaranteed");
        check(
            json!([{"resources": {"limits": same, "requests": {"cpu": "1000m", "memory": "1Gi"}}}]),
            "Guaranteed",
        );
        check(json!([{"resources": {"limits": same}}, {}]), "Burstable");
        check(json!([{"resources": {"requests": {"cpu": "1"}}}]), "Burstable");
        check(json!([{"resources": {"requests": {"cpu": "0"}}}]), "BestEffort");
        let whole = json!({"spec": {"resources": {"limits": same}, "containers": [{}]}});
        assert_eq!(qos_class(&whole), "Guaranteed");
    }

    #[test]
    fn sums() {
        let cpu = |amount: &str| json!({"requests": {"cpu": amount}});
        let spec = json!({
            "initContainers": [
                {"resources": cpu("2")}, {"restartPolicy": "Always", "resources": cpu("1")}, {"resources": cpu("3")}],
            "containers": [{"resources": cpu("500m")}, {"resources": cpu("1")}],
        });
        let sum = requests_of_containers(spec.as_object().unwrap());
        assert_eq!(sum["cpu"].to_string(), "4");
    }
}
