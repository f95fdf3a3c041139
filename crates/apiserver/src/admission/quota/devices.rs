//! What claims for devices use of quotas: devices by class, and, as pods do, the extended resources that classes stand for.

use api::quantity::Quantity;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::usage::{self, Amounts, Usage};
use crate::admission::objects::{self, DEVICE_CLASSES, Objects, PODS, annotation, items};

/// Before the name of any class: the extended resource that it stands for without being told to.
const IMPLICIT: &str = "deviceclass.resource.kubernetes.io/";
const EXTENDED: &str = "resource.kubernetes.io/extended-resource-claim";
/// A request for all devices that there are gets no more.
const MOST: i64 = 32;

/// What else is to be known of a claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claimed {
    /// Name and uid of the pod for whose extended resources it was made.
    pod: Option<(String, String)>,
}

/// Counts the devices that a claim may get.
pub fn of(claim: &Value, amounts: &mut Amounts) -> Claimed {
    for request in items(&claim["spec"]["devices"]["requests"]) {
        // Of alternatives, any may be taken: each class counts with the most that it would be asked for.
        let mut most = Amounts::new();
        let exactly = Some(&request["exactly"]).filter(|exactly| exactly.is_object());
        for wanted in exactly.into_iter().chain(items(&request["firstAvailable"])) {
            let class = wanted["deviceClassName"].as_str().unwrap_or_default();
            let count = match wanted["allocationMode"].as_str() {
                Some("All") => MOST,
                _ => wanted["count"].as_i64().unwrap_or(1),
            };
            for name in [
                format!("{class}.deviceclass.resource.k8s.io/devices"),
                format!("requests.{IMPLICIT}{class}"),
            ] {
                let amount = most.entry(name).or_default();
                *amount = (*amount).max(usage::one().times(count));
            }
        }
        for (name, amount) in most {
            *amounts.entry(name).or_default() += amount;
        }
    }
    let extended = annotation(claim, EXTENDED) == "true";
    let owner = items(&claim["metadata"]["ownerReferences"])
        .find(|owner| extended && owner["controller"] == true && owner["kind"] == "Pod");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Claimed { pod: owner.map(|owner| (text(&owner["name"]), text(&owner["uid"]))) }
}

/// How much of what a quota calls `name` an object uses.
pub fn amount(objects: &dyn Objects, namespace: &str, usage: &Usage, name: &str) -> Quantity {
    let own = usage.amounts.get(name).copied().unwrap_or_default();
    let (Some(claimed), Some(resource)) = (&usage.devices, name.strip_prefix("requests.")) else {
        return own;
    };
    let mut amount = own;
    if !resource.starts_with(IMPLICIT) {
        for class in objects.list(DEVICE_CLASSES, "") {
            if class["spec"]["extendedResourceName"] == resource {
                let of_class = format!("requests.{IMPLICIT}{}", objects::name(&class));
                amount += usage.amounts.get(&of_class).copied().unwrap_or_default();
            }
        }
    }
    // The pod itself is counted with what it asks for.
    let pod = claimed
        .pod
        .as_ref()
        .and_then(|(pod, uid)| objects.get(PODS, namespace, pod).filter(|pod| objects::uid(pod) == uid));
    let counted = pod.and_then(|pod| usage::of(PODS, &pod).amounts.get(name).copied());
    amount.minus(counted.unwrap_or_default()).max(Quantity::default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::objects::DEVICE_CLAIMS;
    use super::super::super::objects::tests::Fixture;
    use super::*;

    fn check(claim: &Value, name: &str, expected: &str) {
        let pod = |name: &str, resource: &str| {
            json!({"metadata": {"name": name, "namespace": "ns", "uid": name},
                "spec": {"containers": [{"resources": {"requests": {resource: "2"}, "limits": {resource: "2"}}}]}})
        };
        let objects = Fixture::new()
            .add(
                DEVICE_CLASSES,
                json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}),
            )
            .add(DEVICE_CLASSES, json!({"metadata": {"name": "nic"}, "spec": {}}))
            .add(PODS, pod("p", "example.com/gpu"));
        let usage = usage::of(DEVICE_CLAIMS, claim);
        assert_eq!(amount(&objects, "ns", &usage, name).to_string(), expected, "{name} {claim}");
    }

    #[test]
    fn devices_count_by_class_and_as_extended_resources() {
        let claim = json!({"spec": {"devices": {"requests": [
            {"name": "a", "exactly": {"deviceClassName": "gpu", "count": 3}},
            {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "gpu"}, {"name": "y", "deviceClassName": "nic", "allocationMode": "All"}]},
        ]}}});
        check(&claim, "gpu.deviceclass.resource.k8s.io/devices", "4");
        check(&claim, "nic.deviceclass.resource.k8s.io/devices", "32");
        check(&claim, "requests.deviceclass.resource.kubernetes.io/gpu", "4");
        check(&claim, "requests.example.com/gpu", "4");
        check(&claim, "requests.example.com/nic", "0");
        check(&claim, "count/resourceclaims.resource.k8s.io", "1");
        check(&claim, "pods", "0");
    }

    #[test]
    fn what_a_pod_is_counted_with_its_claim_is_not() {
        let claim = |annotation: &str, uid: &str| {
            json!({"metadata": {"annotations": {EXTENDED: annotation},
                "ownerReferences": [{"kind": "Pod", "name": "p", "uid": uid, "controller": true}]},
                "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 3}}]}}})
        };
        check(&claim("true", "p"), "requests.example.com/gpu", "1");
        check(&claim("true", "another"), "requests.example.com/gpu", "3");
        check(&claim("", "p"), "requests.example.com/gpu", "3");
        check(&claim("true", "p"), "gpu.deviceclass.resource.k8s.io/devices", "3");
    }
}
