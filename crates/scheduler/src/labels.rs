//! Label selectors of pods, and the node selectors that look like them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub type Labels = BTreeMap<String, String>;

/// Whether a label selector picks an object; one without requirements picks all, none picks nothing.
pub fn selects(selector: Option<&LabelSelector>, labels: Option<&Labels>) -> bool {
    let Some(selector) = selector else { return false };
    let value = |key: &String| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    contains_all(selector.match_labels.as_ref(), labels)
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            holds(&requirement.operator, value(&requirement.key), values)
        })
}

/// Whether all of the wanted labels are there.
pub fn contains_all(wanted: Option<&Labels>, labels: Option<&Labels>) -> bool {
    let mut wanted = wanted.into_iter().flatten();
    wanted.all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

/// Whether one of the terms of a node selector picks the node.
pub fn selects_node(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| term_selects_node(term, node))
}

/// A term without any requirement picks no node.
pub fn term_selects_node(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label =
        |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then_some(node.metadata.name.as_deref()).flatten();
    let all = |requirements: &[NodeSelectorRequirement], value: &dyn Fn(&str) -> Option<String>| {
        requirements.iter().all(|requirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            holds(&requirement.operator, value(&requirement.key).as_deref(), values)
        })
    };
    all(expressions, &|key| label(key).map(str::to_owned))
        && all(fields, &|key| field(key).map(str::to_owned))
}

fn holds(operator: &str, value: Option<&str>, values: &[String]) -> bool {
    let among = || value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let compare = |fits: fn(i64, i64) -> bool| {
        let bound = values.first().and_then(|bound| bound.parse().ok());
        let value = value.and_then(|value| value.parse().ok());
        value.zip(bound).is_some_and(|(value, bound)| fits(value, bound))
    };
    match operator {
        "In" => among(),
        "NotIn" => !among(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn node_terms_pick_nodes() {
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"zone": "a", "cpus": "8"}}}))
                .unwrap();
        let check = |term: serde_json::Value, expected: bool| {
            let selector: NodeSelector =
                serde_json::from_value(json!({"nodeSelectorTerms": [term]})).unwrap();
            assert_eq!(selects_node(&selector, &node), expected, "{selector:?}");
        };
        let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        check(json!({}), false);
        check(expression("zone", "In", &["a", "b"]), true);
        check(expression("zone", "NotIn", &["a"]), false);
        check(expression("none", "NotIn", &["a"]), true);
        check(expression("zone", "Exists", &[]), true);
        check(expression("none", "DoesNotExist", &[]), true);
        check(expression("cpus", "Gt", &["4"]), true);
        check(expression("cpus", "Lt", &["4"]), false);
        check(expression("zone", "Gt", &["4"]), false);
        check(expression("cpus", "Gt", &[]), false);
        check(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), true);
        check(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}), false);
    }
}
