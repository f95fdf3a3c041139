//! Object metadata: owners, revisions, conditions, selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;

use super::key::Key;

pub type Labels = BTreeMap<String, String>;

/// The revision at which an object was written; Kubernetes orders resource versions since 1.35.
pub fn revision<K: Resource>(object: &K) -> u64 {
    let version = object.meta().resource_version.as_deref();
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = meta.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.controller == Some(true))
}

pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// The key of the `Owner` that controls an object.
pub fn owner_key<Owner: Resource<DynamicType = ()>>(meta: &ObjectMeta) -> Option<Key> {
    let owner = controller_of(meta)?;
    let ours = owner.kind == Owner::kind(&()) && owner.api_version == Owner::api_version(&());
    ours.then(|| Key::new(meta.namespace.clone().unwrap_or_default(), &owner.name))
}

/// The reference that makes `owner` the controller of an object, and its foreground deletion wait for it.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name(owner).to_owned(),
        uid: uid(owner).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub fn name<K: Resource>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

pub fn namespace<K: Resource>(object: &K) -> &str {
    object.meta().namespace.as_deref().unwrap_or_default()
}

pub fn uid<K: Resource>(object: &K) -> &str {
    object.meta().uid.as_deref().unwrap_or_default()
}

pub fn is_terminating<K: Resource>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}

pub fn annotation<'a, K: Resource>(object: &'a K, key: &str) -> Option<&'a str> {
    let annotations = object.meta().annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

/// Whether a label selector picks an object. One without any requirement picks everything.
pub fn selects(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let value = |key: &String| labels.and_then(|labels| labels.get(key));
    let by_labels = selector.match_labels.iter().flatten();
    by_labels.into_iter().all(|(key, wanted)| value(key) == Some(wanted))
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let found = value(&requirement.key);
            let among = |v: &String| requirement.values.iter().flatten().any(|wanted| wanted == v);
            match requirement.operator.as_str() {
                "In" => found.is_some_and(among),
                "NotIn" => !found.is_some_and(among),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// Whether a selector that must not be empty picks an object: workloads never select everything by accident.
pub fn selects_strictly(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
    !empty && selects(selector, labels)
}

/// Whether all pairs of a plain label map are among the labels.
pub fn labels_match(wanted: &Labels, labels: Option<&Labels>) -> bool {
    wanted.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

pub fn now() -> Time {
    // Kubernetes keeps whole seconds; comparing with what comes back must not differ by a fraction.
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Seconds from `from` to `to`, negative when `to` is earlier.
pub fn seconds_between(from: &Time, to: Timestamp) -> f64 {
    to.duration_since(from.0).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_pick_by_labels_and_expressions() {
        let check = |selector: serde_json::Value, labels: &[(&str, &str)], expected: bool| {
            let selector: LabelSelector = serde_json::from_value(selector).unwrap();
            let labels: Labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            assert_eq!(selects(&selector, Some(&labels)), expected, "{selector:?} {labels:?}");
        };
        let expression = |operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
        check(json!({}), &[], true);
        check(json!({"matchLabels": {"a": "1"}}), &[("a", "1"), ("b", "2")], true);
        check(json!({"matchLabels": {"a": "1"}}), &[("a", "2")], false);
        check(json!({"matchLabels": {"a": "1"}}), &[], false);
        check(expression("In", &["1", "2"]), &[("a", "2")], true);
        check(expression("In", &["1", "2"]), &[], false);
        check(expression("NotIn", &["1"]), &[("a", "1")], false);
        check(expression("NotIn", &["1"]), &[], true);
        check(expression("Exists", &[]), &[("a", "")], true);
        check(expression("DoesNotExist", &[]), &[("a", "")], false);
        check(expression("Near", &["1"]), &[("a", "1")], false);
        assert!(!selects_strictly(&LabelSelector::default(), None));
    }
}
