//! The downward API: fields of a pod and resources of a container as text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::quantity;
use crate::pod::ext::PodExt;

/// A downward API reference that cannot be answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    Unsupported(String),
    #[error("unsupported container resource: {0}")]
    Resource(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("invalid divisor {0:?}")]
    Divisor(String),
}

/// What is known of a pod beyond its object.
pub struct Facts<'a> {
    pub pod: &'a Pod,
    pub node_name: &'a str,
    pub host_ips: &'a [String],
    pub pod_ips: &'a [String],
    /// For limits that are not set: CPU in thousandths, memory and ephemeral storage in bytes.
    pub allocatable: &'a BTreeMap<String, i64>,
}

/// The value of `fieldRef.fieldPath`.
pub fn field(facts: &Facts<'_>, path: &str) -> Result<String, FieldError> {
    let pod = facts.pod;
    let map = |map: &Option<BTreeMap<String, String>>| map.clone().unwrap_or_default();
    if let Some((base, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let values = match base {
            "metadata.labels" => map(&pod.metadata.labels),
            "metadata.annotations" => map(&pod.metadata.annotations),
            _ => return Err(FieldError::Unsupported(path.to_owned())),
        };
        return Ok(values.get(key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(&map(&pod.metadata.labels)),
        "metadata.annotations" => lines(&map(&pod.metadata.annotations)),
        "spec.nodeName" => facts.node_name.to_owned(),
        "spec.serviceAccountName" => pod.pod_spec().service_account_name.clone().unwrap_or_default(),
        "spec.restartPolicy" => pod.restart_policy().to_owned(),
        "status.phase" => pod.phase().to_owned(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(FieldError::Unsupported(path.to_owned())),
    })
}

/// `key="value"` lines, sorted, quoted as Go quotes.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map
        .iter()
        .map(|(key, value)| {
            let mut quoted = String::with_capacity(value.len() + 2);
            quoted.push('"');
            for c in value.chars() {
                match c {
                    '"' => quoted.push_str("\\\""),
                    '\\' => quoted.push_str("\\\\"),
                    '\n' => quoted.push_str("\\n"),
                    '\r' => quoted.push_str("\\r"),
                    '\t' => quoted.push_str("\\t"),
                    c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
                    c => quoted.push(c),
                }
            }
            quoted.push('"');
            format!("{key}={quoted}")
        })
        .collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`; `container` is the one that asks, unless the reference names another.
pub fn resource(
    facts: &Facts<'_>,
    container: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, FieldError> {
    let spec = facts.pod.pod_spec();
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
            let found = all.find(|container| container.name == name);
            found.ok_or_else(|| FieldError::Container(name.to_owned()))?
        }
        None => container.ok_or_else(|| FieldError::Container(String::new()))?,
    };
    let unknown = || FieldError::Resource(selector.resource.clone());
    let (which, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let map = match which {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(unknown()),
    };
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !known {
        return Err(unknown());
    }
    let divisor_text = selector.divisor.as_ref().map_or("", |divisor| divisor.0.as_str());
    let divisor_text = if matches!(divisor_text, "" | "0") { "1" } else { divisor_text };
    let bad_divisor = || FieldError::Divisor(divisor_text.to_owned());
    let (amount, divisor) = if name == "cpu" {
        let amount = quantity::milli_of(map, name);
        (amount, quantity::milli(divisor_text))
    } else {
        (quantity::value_of(map, name), quantity::value(divisor_text))
    };
    let divisor = divisor.filter(|divisor| *divisor > 0).ok_or_else(bad_divisor)?;
    let unlimited = || match which {
        // The pod's own bound comes before the node's.
        "limits" => {
            let pod = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
            let bound =
                if name == "cpu" { quantity::milli_of(pod, name) } else { quantity::value_of(pod, name) };
            bound.into_iter().chain(facts.allocatable.get(name).copied()).min()
        }
        _ => None,
    };
    let amount = amount.or_else(unlimited).unwrap_or(0);
    Ok((amount / divisor + i64::from(amount % divisor > 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(
        ask: impl Fn(&Facts<'_>, &Container) -> Result<String, FieldError>,
        expected: Result<&str, FieldError>,
    ) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "labels": {"b": "2", "a": "x\"y"}},
            "spec": {"containers": [{"name": "c", "resources": {
                "limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}]},
        }))
        .unwrap();
        let facts = Facts {
            pod: &pod,
            node_name: "node",
            host_ips: &["10.0.0.1".to_owned()],
            pod_ips: &["10.244.0.2".to_owned(), "fd00::2".to_owned()],
            allocatable: &[("memory".to_owned(), 1 << 30)].into(),
        };
        let container = &pod.pod_spec().containers[0];
        assert_eq!(ask(&facts, container), expected.map(str::to_owned));
    }

    #[test]
    fn fields() {
        let is = |path: &'static str, expected| check(move |facts, _| field(facts, path), expected);
        is("metadata.name", Ok("p"));
        is("metadata.labels['b']", Ok("2"));
        is("metadata.labels['none']", Ok(""));
        is("metadata.labels", Ok("a=\"x\\\"y\"\nb=\"2\""));
        is("status.podIPs", Ok("10.244.0.2,fd00::2"));
        is("status.hostIP", Ok("10.0.0.1"));
        is("spec.volumes", Err(FieldError::Unsupported("spec.volumes".into())));
    }

    #[test]
    fn a_pods_limit_is_its_containers() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}, "containers": [{"name": "c"}]}}))
        .unwrap();
        let allocatable =
            [("memory".to_owned(), 1 << 20), ("cpu".to_owned(), 4000), ("ephemeral-storage".to_owned(), 7)];
        let facts = Facts {
            pod: &pod,
            node_name: "node",
            host_ips: &[],
            pod_ips: &[],
            allocatable: &allocatable.into(),
        };
        for (name, expected) in
            [("limits.cpu", "2"), ("limits.memory", "1048576"), ("limits.ephemeral-storage", "7")]
        {
            let selector: ResourceFieldSelector = serde_json::from_value(json!({"resource": name})).unwrap();
            let got = resource(&facts, Some(&pod.pod_spec().containers[0]), &selector);
            assert_eq!(got.as_deref(), Ok(expected), "{name}");
        }
    }

    #[test]
    fn resources() {
        let is = |name: &str, divisor: &str, expected| {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": name, "divisor": divisor})).unwrap();
            check(move |facts, container| resource(facts, Some(container), &selector), expected);
        };
        is("limits.cpu", "", Ok("2"));
        is("limits.cpu", "1m", Ok("1500"));
        is("requests.memory", "1Mi", Ok("64"));
        is("limits.memory", "1Mi", Ok("1024"));
        is("requests.cpu", "", Ok("0"));
        is("limits.fancy", "", Err(FieldError::Resource("limits.fancy".into())));
    }
}
