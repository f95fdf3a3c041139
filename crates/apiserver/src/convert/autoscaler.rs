//! HorizontalPodAutoscalers: `autoscaling/v1` knows CPU utilization alone. What it cannot say travels in annotations,
//! so that a client of the old version that writes back what it has read loses nothing.

use serde_json::{Map, Value, json};

use super::metrics::{self, Side};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

/// To `autoscaling/v1`.
pub fn to_v1(autoscaler: &mut Map<String, Value>) {
    let mut carried = Vec::new();
    if let Some(spec) = autoscaler.get_mut("spec").and_then(Value::as_object_mut) {
        let metrics = spec.remove("metrics");
        let (cpu, others) =
            split(metrics, |metric| metric["resource"]["target"]["averageUtilization"].clone());
        if let Some(utilization) = cpu {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), utilization);
        }
        carried.push((METRICS, others.map(|metrics| metrics::to_old(&metrics, Side::Target))));
        carried.push((BEHAVIOR, spec.remove("behavior")));
    }
    if let Some(status) = autoscaler.get_mut("status").and_then(Value::as_object_mut) {
        let metrics = status.remove("currentMetrics");
        let (cpu, others) =
            split(metrics, |metric| metric["resource"]["current"]["averageUtilization"].clone());
        if let Some(utilization) = cpu {
            status.insert("currentCPUUtilizationPercentage".to_owned(), utilization);
        }
        carried.push((CURRENT_METRICS, others.map(|metrics| metrics::to_old(&metrics, Side::Current))));
        carried.push((CONDITIONS, status.remove("conditions")));
    }
    for (annotation, value) in carried {
        if let Some(value) = value {
            let annotations = &mut autoscaler.entry("metadata").or_insert_with(|| json!({}))["annotations"];
            if !annotations.is_object() {
                *annotations = json!({});
            }
            annotations[annotation] = json!(value.to_string());
        }
    }
}

/// From `autoscaling/v1` to `autoscaling/v2`.
pub fn from_v1(autoscaler: &mut Map<String, Value>) {
    let mut carried = |annotation: &str| -> Option<Value> {
        let annotations = autoscaler.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?;
        let value = annotations.remove(annotation)?;
        serde_json::from_str(value.as_str()?).ok()
    };
    let (others, behavior) = (carried(METRICS), carried(BEHAVIOR));
    let (current, conditions) = (carried(CURRENT_METRICS), carried(CONDITIONS));
    let others = others.map(|metrics| metrics::from_old(&metrics, Side::Target));
    let current = current.map(|metrics| metrics::from_old(&metrics, Side::Current));
    if let Some(spec) = autoscaler.get_mut("spec").and_then(Value::as_object_mut) {
        let cpu = spec.remove("targetCPUUtilizationPercentage");
        let cpu = cpu.map(|utilization| json!({"type": "Utilization", "averageUtilization": utilization}));
        join(spec, "metrics", cpu.map(|target| cpu_metric("target", target)), others);
        if let Some(behavior) = behavior {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = autoscaler.get_mut("status").and_then(Value::as_object_mut) {
        let cpu = status.remove("currentCPUUtilizationPercentage");
        let cpu = cpu.map(|utilization| json!({"averageUtilization": utilization}));
        join(status, "currentMetrics", cpu.map(|current| cpu_metric("current", current)), current);
        if let Some(conditions) = conditions {
            status.insert("conditions".to_owned(), conditions);
        }
    }
}

fn cpu_metric(field: &str, value: Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", field: value}})
}

/// The CPU utilization that `utilization` finds, and the metrics that are something else.
fn split(metrics: Option<Value>, utilization: impl Fn(&Value) -> Value) -> (Option<Value>, Option<Value>) {
    let Some(Value::Array(mut metrics)) = metrics else {
        return (None, None);
    };
    let is_cpu = |metric: &Value| {
        metric["type"] == "Resource" && metric["resource"]["name"] == "cpu" && !utilization(metric).is_null()
    };
    let cpu = metrics.iter().position(is_cpu).map(|index| utilization(&metrics.remove(index)));
    (cpu, (!metrics.is_empty()).then_some(Value::Array(metrics)))
}

fn join(fields: &mut Map<String, Value>, name: &str, cpu: Option<Value>, others: Option<Value>) {
    let others = match others {
        Some(Value::Array(others)) => others,
        _ => Vec::new(),
    };
    let metrics: Vec<Value> = cpu.into_iter().chain(others).collect();
    if !metrics.is_empty() {
        fields.insert(name.to_owned(), metrics.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_there_and_back() {
        #[track_caller]
        fn check(v2: Value, cpu: Value) {
            let Value::Object(mut object) = v2.clone() else { panic!("not an object") };
            to_v1(&mut object);
            assert_eq!(
                object["spec"].get("targetCPUUtilizationPercentage").cloned().unwrap_or_default(),
                cpu
            );
            from_v1(&mut object);
            assert_eq!(Value::Object(object), v2);
        }
        let cpu = cpu_metric("target", json!({"type": "Utilization", "averageUtilization": 60}));
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
        check(json!({"metadata": {}, "spec": {"maxReplicas": 3, "metrics": [cpu]}}), json!(60));
        check(
            json!({
                "metadata": {"annotations": {}}, "spec": {"metrics": [cpu, memory], "behavior": {"scaleUp": {}}},
                "status": {"currentMetrics": [cpu_metric("current", json!({"averageUtilization": 5}))], "conditions": []},
            }),
            json!(60),
        );
        check(json!({"metadata": {"annotations": {}}, "spec": {"metrics": [memory]}}), Value::Null);
    }
}
