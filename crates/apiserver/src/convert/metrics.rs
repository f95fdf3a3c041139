//! Metrics of autoscalers as the annotations of `autoscaling/v1` carry them: in the form that came before `v2`, in which
//! targets have no object of their own.

use serde_json::{Map, Value, json};

/// What is wanted of a metric, or what it is now.
#[derive(Clone, Copy)]
pub enum Side {
    Target,
    Current,
}

impl Side {
    /// The object of `v2` that holds the numbers.
    fn holder(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Current => "current",
        }
    }

    fn named(self, what: &str) -> String {
        format!("{}{what}", self.holder())
    }
}

/// By the types of metrics: where the numbers of `v2` go.
const SOURCES: [(&str, &str); 5] = [
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("Pods", "pods"),
    ("Object", "object"),
    ("External", "external"),
];

/// The field that holds what is said of a metric of this type.
fn source_of(metric: &Value) -> Option<&'static str> {
    SOURCES.iter().find(|(kind, _)| metric["type"] == *kind).map(|(_, field)| *field)
}

/// What the older form calls them: the number itself, and that of the average.
fn values(field: &str, side: Side) -> (String, String) {
    match field {
        // An average was added to what had only one number.
        "object" => (side.named("Value"), "averageValue".to_owned()),
        _ => (side.named("Value"), side.named("AverageValue")),
    }
}

/// Moves a field, if it is there.
fn carry(from: &Value, name: &str, to: &mut Map<String, Value>, called: &str) {
    if let Some(value) = from.get(name).filter(|value| !value.is_null()) {
        to.insert(called.to_owned(), value.clone());
    }
}

pub fn to_old(metrics: &Value, side: Side) -> Value {
    let each = metrics.as_array().into_iter().flatten();
    each.map(|metric| {
        let Some(field) = source_of(metric) else { return metric.clone() };
        let (source, numbers) = (&metric[field], &metric[field][side.holder()]);
        let (value, average) = values(field, side);
        let mut old = Map::new();
        carry(source, "name", &mut old, "name");
        carry(source, "container", &mut old, "container");
        carry(source, "describedObject", &mut old, "target");
        carry(&source["metric"], "name", &mut old, "metricName");
        let selector = if field == "external" { "metricSelector" } else { "selector" };
        carry(&source["metric"], "selector", &mut old, selector);
        carry(numbers, "value", &mut old, &value);
        carry(numbers, "averageValue", &mut old, &average);
        carry(numbers, "averageUtilization", &mut old, &side.named("AverageUtilization"));
        json!({"type": metric["type"], field: old})
    })
    .collect()
}

pub fn from_old(metrics: &Value, side: Side) -> Value {
    let each = metrics.as_array().into_iter().flatten();
    each.map(|metric| {
        let Some(field) = source_of(metric) else { return metric.clone() };
        let old = &metric[field];
        let (value, average) = values(field, side);
        let mut numbers = Map::new();
        carry(old, &value, &mut numbers, "value");
        carry(old, &average, &mut numbers, "averageValue");
        carry(old, &side.named("AverageUtilization"), &mut numbers, "averageUtilization");
        if matches!(side, Side::Target) {
            let kind =
                match (numbers.contains_key("averageUtilization"), numbers.contains_key("averageValue")) {
                    (true, _) => "Utilization",
                    (false, true) => "AverageValue",
                    (false, false) => "Value",
                };
            numbers.insert("type".to_owned(), kind.into());
        }
        let mut source = Map::new();
        carry(old, "name", &mut source, "name");
        carry(old, "container", &mut source, "container");
        carry(old, "target", &mut source, "describedObject");
        if old.get("metricName").is_some() {
            let mut named = Map::new();
            carry(old, "metricName", &mut named, "name");
            let selector = if field == "external" { "metricSelector" } else { "selector" };
            carry(old, selector, &mut named, "selector");
            source.insert("metric".to_owned(), named.into());
        }
        source.insert(side.holder().to_owned(), numbers.into());
        json!({"type": metric["type"], field: source})
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let check = |side: Side, new: Value, old: Value| {
            let (new, old) = (json!([new]), json!([old]));
            assert_eq!(to_old(&new, side), old);
            assert_eq!(from_old(&old, side), new);
        };
        check(
            Side::Target,
            json!({"type": "Pods", "pods": {"metric": {"name": "qps", "selector": {"matchLabels": {"a": "b"}}},
                "target": {"type": "AverageValue", "averageValue": "10"}}}),
            json!({"type": "Pods", "pods": {"metricName": "qps", "selector": {"matchLabels": {"a": "b"}},
                "targetAverageValue": "10"}}),
        );
        check(
            Side::Target,
            json!({"type": "Object", "object": {"describedObject": {"kind": "Ingress", "name": "i"},
                "metric": {"name": "hits"}, "target": {"type": "Value", "value": "5"}}}),
            json!({"type": "Object", "object": {"target": {"kind": "Ingress", "name": "i"}, "metricName": "hits",
                "targetValue": "5"}}),
        );
        check(
            Side::Target,
            json!({"type": "External", "external": {"metric": {"name": "queue", "selector": {}},
                "target": {"type": "AverageValue", "averageValue": "30"}}}),
            json!({"type": "External", "external": {"metricName": "queue", "metricSelector": {},
                "targetAverageValue": "30"}}),
        );
        check(
            Side::Current,
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                "current": {"averageUtilization": 50, "averageValue": "1"}}}),
            json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                "currentAverageUtilization": 50, "currentAverageValue": "1"}}),
        );
    }
}
