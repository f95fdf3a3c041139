//! Extended resources that somebody wrote into the node's capacity: what of them pods may have follows from that.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NodeStatus;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

type Amounts = BTreeMap<String, Quantity>;

/// Names with a domain, other than Kubernetes' own, are for anybody to advertise.
fn is_extended(name: &str) -> bool {
    name.split_once('/').is_some_and(|(domain, _)| {
        domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io") && !domain.starts_with("requests.")
    })
}

fn of<'a>(
    amounts: Option<&'a Amounts>,
    own: Option<&'a Amounts>,
) -> impl Iterator<Item = (&'a String, &'a Quantity)> {
    let is_own = move |name: &str| own.is_some_and(|own| own.contains_key(name));
    amounts.into_iter().flatten().filter(move |(name, _)| is_extended(name) && !is_own(name))
}

/// Adds what others have advertised in the node as it is `known` to what pods may have of it.
pub fn follow(known: &NodeStatus, status: &mut NodeStatus) {
    let more: Vec<_> = of(known.capacity.as_ref(), status.capacity.as_ref())
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect();
    status.allocatable.get_or_insert_default().extend(more);
}

/// Has a merge patch remove what is not advertised any more.
pub fn forget(known: &NodeStatus, status: &NodeStatus, patch: &mut Value) {
    let gone = of(known.allocatable.as_ref(), status.allocatable.as_ref());
    let gone: Vec<&String> = gone.map(|(name, _)| name).collect();
    if let Some(allocatable) = patch["status"]["allocatable"].as_object_mut() {
        allocatable.extend(gone.into_iter().map(|name| (name.clone(), Value::Null)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_pods_may_have_follows_the_capacity() {
        let check = |known: Value, expected: Value| {
            let known: NodeStatus = serde_json::from_value(known).unwrap();
            let own = json!({"capacity": {"cpu": "2", "vendor.com/gpu": "1"}, "allocatable": {"cpu": "1", "vendor.com/gpu": "0"}});
            let mut status: NodeStatus = serde_json::from_value(own).unwrap();
            follow(&known, &mut status);
            let mut patch = json!({"status": status});
            forget(&known, &status, &mut patch);
            assert_eq!(patch["status"]["allocatable"], expected);
        };
        let own = json!({"cpu": "1", "vendor.com/gpu": "0"});
        check(json!({}), own.clone());
        check(
            json!({"capacity": {"cpu": "9", "example.com/dongle": "4", "vendor.com/gpu": "9", "kubernetes.io/x": "1"}}),
            json!({"cpu": "1", "vendor.com/gpu": "0", "example.com/dongle": "4"}),
        );
        check(
            json!({"allocatable": {"cpu": "9", "example.com/dongle": "4"}}),
            json!({"cpu": "1", "vendor.com/gpu": "0", "example.com/dongle": null}),
        );
    }
}
