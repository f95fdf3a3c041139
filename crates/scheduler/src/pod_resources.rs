//! `/metrics/resources`: what the pods of the cluster request, and what they may use at most, as the scheduler counts it.

use std::sync::Arc;

use exposition::Page;
use k8s_openapi::api::core::v1::Pod;

use crate::resources::{self, Resources};

/// Every pod that is not at its end, by upstream's names.
pub fn text(pods: &[Arc<Pod>]) -> String {
    let mut page = Page::default();
    family(
        &mut page,
        "kube_pod_resource_limit",
        "Resources limit for workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.",
        pods,
        resources::limits_of_pod,
    );
    family(
        &mut page,
        "kube_pod_resource_request",
        "Resources requested by workloads on the cluster, broken down by pod. This shows the resource usage the scheduler and kubelet expect per pod for resources along with the unit for the resource if any.",
        pods,
        resources::of_pod,
    );
    page.text()
}

fn family(page: &mut Page, name: &str, help: &str, pods: &[Arc<Pod>], of: fn(&Pod) -> Resources) {
    page.family(name, "gauge", help);
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            continue;
        }
        for (resource, unit, amount) in amounts(&of(pod)) {
            sample(page, name, pod, resource, unit, amount);
        }
    }
}

// Exact up to 2^53, which is what the text form's readers have, too.
#[allow(clippy::cast_precision_loss)]
fn amounts(resources: &Resources) -> Vec<(&str, &'static str, f64)> {
    let own = [
        (resources::CPU, "cores", resources.milli_cpu as f64 / 1000.0),
        (resources::EPHEMERAL, "bytes", resources.ephemeral as f64),
        (resources::MEMORY, "bytes", resources.memory as f64),
    ];
    let others = resources.others.iter().map(|(name, amount)| {
        let unit = if name.starts_with(resources::HUGE_PAGES) { "bytes" } else { "integer" };
        (name.as_str(), unit, *amount as f64)
    });
    own.into_iter().chain(others).filter(|(.., amount)| *amount != 0.0).collect()
}

fn sample(page: &mut Page, name: &str, pod: &Pod, resource: &str, unit: &str, amount: f64) {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let priority = spec.and_then(|spec| spec.priority).map(|priority| priority.to_string());
    let labels = [
        ("namespace", text(meta.namespace.as_ref())),
        ("pod", text(meta.name.as_ref())),
        ("node", text(spec.and_then(|spec| spec.node_name.as_ref()))),
        ("scheduler", text(spec.and_then(|spec| spec.scheduler_name.as_ref()))),
        ("priority", priority.unwrap_or_default()),
        ("resource", resource.to_owned()),
        ("unit", unit.to_owned()),
    ];
    page.sample(name, &labels.each_ref().map(|(key, value)| (*key, value.as_str())), amount);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_tell_what_they_want() {
        let pod = |name: &str, phase: &str| {
            let pod = json!({
                "metadata": {"namespace": "a", "name": name},
                "spec": {"nodeName": "n", "schedulerName": "s", "priority": 7, "overhead": {"cpu": "10m"},
                    "containers": [
                        {"name": "c", "resources": {"requests": {"cpu": "100m", "x.io/gpu": "2"}, "limits": {"memory": "1Ki"}}},
                        {"name": "d", "resources": {"limits": {"cpu": "1"}}},
                    ]},
                "status": {"phase": phase},
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let text = text(&[pod("p", "Running"), pod("done", "Succeeded")]);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let line = |name: &str, resource: &str, unit: &str, value: &str| {
            format!(
                "kube_pod_resource_{name}{{namespace=\"a\",pod=\"p\",node=\"n\",scheduler=\"s\",priority=\"7\",resource=\"{resource}\",unit=\"{unit}\"}} {value}"
            )
        };
        assert_eq!(
            lines,
            [
                line("limit", "cpu", "cores", "1.01"),
                line("limit", "memory", "bytes", "1024"),
                line("request", "cpu", "cores", "0.11"),
                line("request", "x.io/gpu", "integer", "2"),
            ]
        );
    }
}
