//! NodeMetrics and PodMetrics.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::quantity::Quantity;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::discovery::API_VERSION;
use crate::routes::Kind;
use crate::summary::{PodSummary, Summary, Usage};

/// Kubelets take the rate of the CPU's use over about so long.
const WINDOW: &str = "10s";

pub fn node(node: &Node, summary: &Summary) -> Option<Value> {
    let usage = summary.node.usage()?;
    let mut object = begin(Kind::Nodes, &node.metadata, &usage.time);
    object["usage"] = amounts(&usage);
    Some(object)
}

/// The pods of all summaries by namespace and name: the UID that a kubelet knows of a static pod is not that of the API.
pub type Index<'a> = HashMap<(&'a str, &'a str), &'a PodSummary>;

pub fn index(summaries: &HashMap<String, Arc<Summary>>) -> Index<'_> {
    let pods = summaries.values().flat_map(|summary| &summary.pods);
    pods.map(|pod| ((&*pod.pod_ref.namespace, &*pod.pod_ref.name), pod)).collect()
}

/// Nothing for a pod of which nothing is known yet.
pub fn pod(pod: &Pod, known: &Index<'_>) -> Option<Value> {
    let name = pod.metadata.name.as_deref()?;
    let summary = known.get(&(pod.metadata.namespace.as_deref()?, name))?;
    let of_container = |container: &crate::summary::ContainerSummary| {
        Some((container.name.clone(), container.sample.usage()?))
    };
    // By name, so that two answers differ only where the figures do.
    let usages: BTreeMap<String, Usage> = summary.containers.iter().filter_map(of_container).collect();
    // The oldest of the samples: from then on it is true.
    let time = usages.values().map(|usage| &usage.time).min()?;
    let mut object = begin(Kind::Pods, &pod.metadata, time);
    object["containers"] =
        usages.iter().map(|(name, usage)| json!({"name": name, "usage": amounts(usage)})).collect();
    Some(object)
}

fn begin(kind: Kind, meta: &ObjectMeta, time: &str) -> Value {
    let mut metadata = json!({"name": meta.name, "creationTimestamp": seconds(Timestamp::now())});
    if let Some(namespace) = &meta.namespace {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(labels) = meta.labels.as_ref().filter(|labels| !labels.is_empty()) {
        metadata["labels"] = json!(labels);
    }
    json!({
        "kind": kind.name(),
        "apiVersion": API_VERSION,
        "metadata": metadata,
        "timestamp": time,
        "window": WINDOW,
    })
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn amounts(usage: &Usage) -> Value {
    let bytes = Quantity::bytes(i64::try_from(usage.bytes).unwrap_or(i64::MAX));
    json!({"cpu": format!("{}n", usage.nano_cores), "memory": bytes.to_string()})
}

/// What an object's containers, or the node, use together: for people to read.
pub fn total(object: &Value) -> (Quantity, Quantity) {
    let amount = |usage: &Value, of: &str| Quantity::from_value(&usage[of]).unwrap_or(Quantity::ZERO);
    let containers = object["containers"].as_array().into_iter().flatten().map(|one| &one["usage"]);
    let node = std::iter::once(&object["usage"]).filter(|usage| usage.is_object());
    containers.chain(node).fold((Quantity::ZERO, Quantity::bytes(0)), |(cpu, memory), usage| {
        (cpu + amount(usage, "cpu"), memory + amount(usage, "memory"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summaries(text: &str) -> HashMap<String, Arc<Summary>> {
        [("n".to_owned(), Arc::new(serde_json::from_str(text).unwrap()))].into()
    }

    const ONE: &str = r#"{"node": {"cpu": {"time": "2026-01-01T00:00:00Z", "usageNanoCores": 1500000}, "memory": {"workingSetBytes": 2048}},
        "pods": [{"podRef": {"name": "p", "namespace": "ns"}, "containers": [
            {"name": "b", "cpu": {"time": "2026-01-01T00:00:02Z", "usageNanoCores": 1000001}, "memory": {"workingSetBytes": 1048576}},
            {"name": "a", "cpu": {"time": "2026-01-01T00:00:01Z", "usageNanoCores": 999999}, "memory": {"workingSetBytes": 1048576}},
            {"name": "new", "cpu": {"time": "2026-01-01T00:00:02Z"}}]}]}"#;

    fn of(name: &str) -> ObjectMeta {
        let labels = [("app".to_owned(), "x".to_owned())].into();
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some("ns".to_owned()),
            labels: Some(labels),
            ..Default::default()
        }
    }

    #[test]
    fn pods() {
        let known = summaries(ONE);
        let known = index(&known);
        let found = pod(&Pod { metadata: of("p"), ..Default::default() }, &known).unwrap();
        assert_eq!(found["timestamp"], "2026-01-01T00:00:01Z");
        assert_eq!(found["metadata"]["labels"]["app"], "x");
        assert_eq!(
            found["containers"],
            json!([{"name": "a", "usage": {"cpu": "999999n", "memory": "1Mi"}},
                   {"name": "b", "usage": {"cpu": "1000001n", "memory": "1Mi"}}])
        );
        let (cpu, memory) = total(&found);
        assert_eq!((cpu.to_string().as_str(), memory.to_string().as_str()), ("2m", "2Mi"));
        assert!(pod(&Pod { metadata: of("other"), ..Default::default() }, &known).is_none());
    }

    #[test]
    fn nodes() {
        let known = summaries(ONE);
        let found = node(&Node { metadata: of("n"), ..Default::default() }, &known["n"]).unwrap();
        assert_eq!(found["usage"], json!({"cpu": "1500000n", "memory": "2Ki"}));
        assert!(node(&Node::default(), &Summary::default()).is_none());
    }
}
