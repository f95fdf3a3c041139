//! Horizontal pod autoscalers.

use super::edit::{Object, each, ensure, get, has_items, set};
use super::quantities;
use serde_json::{Value, json};

pub fn horizontal_pod_autoscaler(version: &str, object: &mut Object) {
    let Some(spec) = get(object, "spec") else { return };
    set(spec, "minReplicas", 1);
    if version == "v1" {
        return;
    }
    if !has_items(spec, "metrics") {
        let cpu = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
        if !matches!(spec.get("metrics"), Some(v) if !v.is_null() && !v.is_array()) {
            spec.insert("metrics".into(), cpu);
        }
    }
    each(spec, "metrics", |metric| {
        for source in ["resource", "containerResource", "pods", "object", "external"] {
            if let Some(target) = get(metric, source).and_then(|s| get(s, "target")) {
                quantities::single(target, "value");
                quantities::single(target, "averageValue");
            }
        }
    });
    let Some(behavior) = get(spec, "behavior") else { return };
    rules(
        behavior,
        "scaleUp",
        Some(0),
        json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15}]),
    );
    rules(behavior, "scaleDown", None, json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]));
}

fn rules(behavior: &mut Object, direction: &str, window: Option<i64>, policies: Value) {
    let Some(rules) = ensure(behavior, direction) else { return };
    if let Some(seconds) = window {
        set(rules, "stabilizationWindowSeconds", seconds);
    }
    set(rules, "selectPolicy", "Max");
    set(rules, "policies", policies);
}
