//! Horizontal pod autoscalers. The two versions say the same in different fields; both are shown alike.

use serde_json::Value;

use super::cells::{NONE, age, int, list, name, plain, text};
use super::{AGE, NAME, Printer, column};

const COLUMNS: &[super::Column] = &[
    NAME,
    column("Reference", "scaleTargetRef points to the target resource to scale."),
    column(
        "Targets",
        "metrics contains the specifications for which to use to calculate the desired replica count.",
    ),
    column(
        "MinPods",
        "minReplicas is the lower limit for the number of replicas to which the autoscaler can scale down.",
    ),
    column(
        "MaxPods",
        "maxReplicas is the upper limit for the number of replicas to which the autoscaler can scale up.",
    ),
    column("Replicas", "currentReplicas is current number of replicas of pods managed by this autoscaler."),
    AGE,
];

static V2: Printer = Printer { columns: COLUMNS, cells: |object, now| cells(object, now, metrics(object)) };

static V1: Printer = Printer { columns: COLUMNS, cells: |object, now| cells(object, now, cpu(object)) };

pub(super) fn printer(kind: &str, version: &str) -> Option<&'static Printer> {
    match (kind, version) {
        ("HorizontalPodAutoscaler", "v1") => Some(&V1),
        ("HorizontalPodAutoscaler", _) => Some(&V2),
        _ => None,
    }
}

fn cells(object: &Value, now: jiff::Timestamp, targets: String) -> Vec<Value> {
    let minimum = object.pointer("/spec/minReplicas").map_or(UNSET.to_owned(), plain);
    let target = format!(
        "{}/{}",
        text(object, "/spec/scaleTargetRef/kind"),
        text(object, "/spec/scaleTargetRef/name")
    );
    vec![
        name(object),
        target.into(),
        targets.into(),
        minimum.into(),
        int(object, "/spec/maxReplicas").to_string().into(),
        int(object, "/status/currentReplicas").to_string().into(),
        age(object, now),
    ]
}

const UNSET: &str = super::cells::UNSET;
const UNKNOWN: &str = "<unknown>";
/// Metrics beyond these are counted only.
const MAX: usize = 2;

fn cpu(object: &Value) -> String {
    let percent = |pointer| object.pointer(pointer).map(|value| format!("{value}%"));
    match percent("/spec/targetCPUUtilizationPercentage") {
        None => NONE.to_owned(),
        Some(target) => {
            let current = percent("/status/currentCPUUtilizationPercentage");
            format!("cpu: {}/{target}", current.unwrap_or_else(|| UNKNOWN.to_owned()))
        }
    }
}

fn metrics(object: &Value) -> String {
    let wanted = list(object, "/spec/metrics");
    if wanted.is_empty() {
        return NONE.to_owned();
    }
    let current = list(object, "/status/currentMetrics");
    let all: Vec<String> = wanted
        .iter()
        .enumerate()
        .map(|(index, spec)| metric(spec, current.get(index).unwrap_or(&Value::Null)))
        .collect();
    let shown = all.iter().take(MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} + {more} more..."),
    }
}

fn metric(spec: &Value, status: &Value) -> String {
    let (source, label) = match text(spec, "/type") {
        "Resource" => ("resource", format!("{}: ", text(spec, "/resource/name"))),
        "ContainerResource" => ("containerResource", format!("{}: ", text(spec, "/containerResource/name"))),
        "Pods" => ("pods", String::new()),
        "Object" => ("object", String::new()),
        "External" => ("external", String::new()),
        _ => return "<unknown type>".to_owned(),
    };
    let target = spec.get(source).and_then(|spec| spec.get("target")).unwrap_or(&Value::Null);
    let current = status.get(source).and_then(|status| status.get("current")).unwrap_or(&Value::Null);
    let (key, unit, suffix) = match text(target, "/type") {
        "Utilization" => ("averageUtilization", "%", ""),
        "AverageValue" if matches!(source, "object" | "external") => ("averageValue", "", " (avg)"),
        "AverageValue" => ("averageValue", "", ""),
        _ => ("value", "", ""),
    };
    let show = |values: &Value| values.get(key).map(|value| format!("{}{unit}", plain(value)));
    let current = show(current).unwrap_or_else(|| UNKNOWN.to_owned());
    format!("{label}{current}/{}{suffix}", show(target).unwrap_or_else(|| "<auto>".to_owned()))
}
