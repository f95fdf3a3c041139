//! `matchLabelKeys` and `mismatchLabelKeys`: when a pod is made, the values that it has itself for these keys become part
//! of its selectors, so that nobody who reads them has to know of the keys.

use serde_json::{Value, json};

const TERMS: [&str; 2] =
    ["requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"];

/// Works the keys into the selectors of a pod that is being made.
pub fn merge(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].take();
    let constraints = pod.pointer_mut("/spec/topologySpreadConstraints").and_then(Value::as_array_mut);
    for constraint in constraints.into_iter().flatten() {
        select(constraint, &labels);
    }
    for affinity in ["podAffinity", "podAntiAffinity"] {
        for list in TERMS {
            let terms = pod.pointer_mut(&format!("/spec/affinity/{affinity}/{list}"));
            for term in terms.and_then(Value::as_array_mut).into_iter().flatten() {
                // Preferred terms have a weight around them.
                match term.get_mut("podAffinityTerm") {
                    Some(inner) => select(inner, &labels),
                    None => select(term, &labels),
                }
            }
        }
    }
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        if labels.is_null() {
            metadata.remove("labels");
        } else {
            metadata.insert("labels".to_owned(), labels);
        }
    }
}

fn select(term: &mut Value, labels: &Value) {
    let mut found = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(field).and_then(Value::as_array).into_iter().flatten();
        for key in keys.filter_map(Value::as_str) {
            if let Some(value) = labels.get(key) {
                found.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else { return };
    if found.is_empty() {
        return;
    }
    match selector.entry("matchExpressions").or_insert_with(|| json!([])) {
        Value::Array(expressions) => expressions.extend(found),
        other => *other = found.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_expressions() {
        let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "a"}},
            "matchLabelKeys": ["pod-template-hash", "absent"], "mismatchLabelKeys": ["tenant"]});
        let mut pod = json!({
            "metadata": {"labels": {"pod-template-hash": "x", "tenant": "t"}},
            "spec": {
                "topologySpreadConstraints": [{"labelSelector": {}, "matchLabelKeys": ["tenant"]}],
                "affinity": {"podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [term],
                    "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}],
                }},
            },
        });
        merge(&mut pod);
        let expressions = json!([
            {"key": "pod-template-hash", "operator": "In", "values": ["x"]},
            {"key": "tenant", "operator": "NotIn", "values": ["t"]},
        ]);
        let affinity = &pod["spec"]["affinity"]["podAntiAffinity"];
        let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(required["labelSelector"]["matchExpressions"], expressions);
        let preferred = &affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
        assert_eq!(preferred["labelSelector"]["matchExpressions"], expressions);
        let spread = &pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"];
        assert_eq!(spread, &json!([{"key": "tenant", "operator": "In", "values": ["t"]}]));
        assert_eq!(pod["metadata"]["labels"]["tenant"], "t");
    }
}
