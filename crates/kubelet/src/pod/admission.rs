//! Whether the node takes a pod that was bound to it. The scheduler has asked the same, with older news.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::ext::PodExt;
use super::machine::Input;
use crate::claims::is_claimed;
use crate::container::qos;
use crate::context::Context;
use crate::meters;
use crate::static_pods::is_static;

#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    pub reason: String,
    pub message: String,
}

impl Rejection {
    /// Told as an event; what ends the pod.
    pub fn told(self, ctx: &Context, pod: &Pod) -> Input {
        ctx.events.warning(pod, None, &self.reason, &self.message);
        meters::count("kubelet_admission_rejections_total", &[("reason", &self.reason)]);
        Input::Kill {
            reason: self.reason,
            message: format!("Pod was rejected: {}", self.message),
            grace: None,
        }
    }
}

/// What the node has for pods: CPU in thousandths, the rest in units.
pub type Allocatable = std::collections::BTreeMap<String, i64>;

pub fn admit(
    pod: &Pod,
    others: &[Arc<Pod>],
    node: Option<&Node>,
    allocatable: &Allocatable,
    max_pods: u32,
) -> Result<(), Rejection> {
    let reject = |reason: &str, message: String| Err(Rejection { reason: reason.to_owned(), message });
    let predicate = |name: &str, why: &str| reject(name, format!("Predicate {name} failed: {why}"));
    let os = pod.pod_spec().os.as_ref().map(|os| os.name.as_str());
    if os.is_some_and(|os| os != "linux") {
        return reject(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS".to_owned(),
        );
    }
    if let Some(Shortage { name, requested, used, capacity }) = shortage(pod, others, allocatable, max_pods) {
        return reject(
            &format!("OutOf{name}"),
            format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            ),
        );
    }
    if let Some(node) = node
        && !selected(pod, node)
    {
        return predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector");
    }
    if others.iter().any(|other| ports_clash(pod, other)) {
        return predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports");
    }
    // The agents of a node that is being drained are to go on.
    if !is_static(pod)
        && let Some(node) = node
        && banned(pod, node)
    {
        return predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate");
    }
    Ok(())
}

/// What the node has too little of.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortage {
    pub name: String,
    pub requested: i64,
    pub used: i64,
    pub capacity: i64,
}

/// What the node has too little of for the pod beside `others`, if anything.
pub fn shortage(
    pod: &Pod,
    others: &[Arc<Pod>],
    allocatable: &Allocatable,
    max_pods: u32,
) -> Option<Shortage> {
    let (count, most) = (i64::try_from(others.len()).unwrap_or(i64::MAX), i64::from(max_pods));
    if count >= most {
        return Some(Shortage { name: "pods".into(), requested: 1, used: count, capacity: most });
    }
    let wanted = qos::requests(pod.pod_spec());
    // Devices of claims are none of the node's amounts.
    let amounts = wanted.amounts.iter().filter(|(name, _)| !is_claimed(pod, name));
    amounts.into_iter().find_map(|(name, requested)| {
        let capacity = *allocatable.get(name)?;
        let used: i64 = others.iter().map(|other| qos::requests(other.pod_spec()).get(name)).sum();
        (*requested > 0 && used.saturating_add(*requested) > capacity).then(|| Shortage {
            name: name.clone(),
            requested: *requested,
            used,
            capacity,
        })
    })
}

/// Whether a taint of the node is against the pod's running there, and not only against its being scheduled.
fn banned(pod: &Pod, node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut taints = taints.filter(|taint| taint.effect == "NoExecute");
    taints.any(|taint| {
        !pod.pod_spec().tolerations.iter().flatten().any(|toleration| {
            let key = toleration.key.as_deref().unwrap_or_default();
            let effect = toleration.effect.as_deref().unwrap_or_default();
            let exists = toleration.operator.as_deref() == Some("Exists");
            (effect.is_empty() || effect == taint.effect)
                && (key == taint.key || (key.is_empty() && exists))
                && (exists
                    || toleration.value.as_deref().unwrap_or_default()
                        == taint.value.as_deref().unwrap_or_default())
        })
    })
}

/// `allowed` are those that the node's configuration adds; `net.ipv4.*` stands for all below.
pub fn sysctls_allowed(pod: &Pod, allowed: &[String]) -> Result<(), Rejection> {
    let context = pod.pod_spec().security_context.as_ref();
    for sysctl in context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *pattern == name,
        };
        if !api::sysctl::SAFE.contains(&name.as_str()) && !allowed.iter().any(named) {
            return Err(Rejection {
                reason: "SysctlForbidden".into(),
                message: format!("forbidden sysctl: {name:?} not allowlisted"),
            });
        }
    }
    Ok(())
}

/// Host ports: same number and protocol, and an address in common.
fn ports_clash(a: &Pod, b: &Pod) -> bool {
    let ports = |pod: &Pod| -> Vec<(i32, String, String)> {
        let containers = pod.pod_spec().containers.iter();
        containers
            .flat_map(|container| container.ports.iter().flatten())
            .filter_map(|port| {
                let number = port.host_port.filter(|number| *number > 0)?;
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
                let ip = port.host_ip.clone().unwrap_or_default();
                Some((number, protocol, if ip == "0.0.0.0" { String::new() } else { ip }))
            })
            .collect()
    };
    let taken = ports(b);
    ports(a).iter().any(|(number, protocol, ip)| {
        taken.iter().any(|(other_number, other_protocol, other_ip)| {
            number == other_number
                && protocol == other_protocol
                && (ip == other_ip || ip.is_empty() || other_ip.is_empty())
        })
    })
}

fn selected(pod: &Pod, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let spec = pod.pod_spec();
    let by_labels = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let by_affinity = required.is_none_or(|required| {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        required.node_selector_terms.iter().any(|term| term_matches(term, &labels, name))
    });
    by_labels && by_affinity
}

fn term_matches(
    term: &NodeSelectorTerm,
    labels: &std::collections::BTreeMap<String, String>,
    node_name: &str,
) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term that says nothing matches nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|wanted| matches(wanted, labels.get(&wanted.key).map(String::as_str)))
        && fields.iter().all(|wanted| matches(wanted, (wanted.key == "metadata.name").then_some(node_name)))
}

fn matches(wanted: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = wanted.values.as_deref().unwrap_or_default();
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = values.first().and_then(|bound| number(bound));
    match wanted.operator.as_str() {
        "In" => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
        "NotIn" => !value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(bound).is_some_and(|(value, bound)| value > bound),
        "Lt" => value.and_then(number).zip(bound).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"spec": spec})).unwrap())
    }

    fn check(new: Value, others: &[Arc<Pod>], expected: Option<&str>) {
        let node: Node = serde_json::from_value(
            json!({"metadata": {"name": "n", "labels": {"disk": "ssd", "size": "5"}}, "spec": {"taints": [
                {"key": "down", "value": "yes", "effect": "NoExecute"}, {"key": "no", "effect": "NoSchedule"}]}}),
        )
        .unwrap();
        let allocatable = [("cpu".to_owned(), 2000), ("memory".to_owned(), 1 << 30)].into();
        let mut spec = new.clone();
        if spec.get("tolerations").is_none() {
            spec["tolerations"] = json!([{"key": "down", "operator": "Exists"}]);
        }
        let result = admit(&pod(spec), others, Some(&node), &allocatable, 3);
        assert_eq!(result.err().map(|rejection| rejection.reason).as_deref(), expected, "{new}");
    }

    #[test]
    fn sysctls() {
        let check = |name: &str, ok: bool| {
            let sysctls = json!([{"name": name, "value": "1"}]);
            let pod = pod(json!({"containers": [], "securityContext": {"sysctls": sysctls}}));
            assert_eq!(sysctls_allowed(&pod, &["net.core.*".into()]).is_ok(), ok, "{name}");
        };
        check("net.ipv4.tcp_syncookies", true);
        check("net/ipv4/tcp_syncookies", true);
        check("net.core.somaxconn", true);
        check("kernel.msgmax", false);
    }

    #[test]
    fn resources_ports_and_selectors() {
        let cpu =
            |amount: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]});
        let port = |ip: &str| json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80, "hostIP": ip}]}]});
        let term = |operator: &str, values: Value| {
            json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "size", "operator": operator, "values": values}]}]}}}})
        };
        check(cpu("2"), &[], None);
        check(cpu("2"), &[pod(cpu("1m"))], Some("OutOfcpu"));
        check(json!({"containers": []}), &vec![pod(cpu("0")); 3], Some("OutOfpods"));
        check(port(""), &[pod(port("10.0.0.1"))], Some("NodePorts"));
        check(port("10.0.0.2"), &[pod(port("10.0.0.1"))], None);
        check(json!({"containers": [], "nodeSelector": {"disk": "ssd"}}), &[], None);
        check(json!({"containers": [], "nodeSelector": {"disk": "hdd"}}), &[], Some("NodeAffinity"));
        check(term("Gt", json!(["4"])), &[], None);
        check(term("Lt", json!(["4"])), &[], Some("NodeAffinity"));
        check(term("NotIn", json!(["5"])), &[], Some("NodeAffinity"));
        check(json!({"containers": [], "os": {"name": "windows"}}), &[], Some("PodOSNotSupported"));
        let tolerating = |toleration: Value| json!({"containers": [], "tolerations": [toleration]});
        check(tolerating(json!({"key": "other", "operator": "Exists"})), &[], Some("TaintToleration"));
        check(tolerating(json!({"key": "down", "value": "no"})), &[], Some("TaintToleration"));
        check(tolerating(json!({"key": "down", "value": "yes", "effect": "NoExecute"})), &[], None);
        check(tolerating(json!({"operator": "Exists"})), &[], None);
    }
}
