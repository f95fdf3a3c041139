//! What a pod has been given, while its spec asks for something else: in-place resize, the deciding half.
//!
//! A new wish of a running pod (through its `resize` subresource) is granted, put off, or refused for good by what the
//! node has. Until it is granted, everything on the node goes by the pod as it was allocated.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};
use serde::Serialize;

use super::admission::Allocatable;
use super::ext::PodExt;
use crate::container::qos;
use crate::static_pods::is_static;

/// Why a resize has not been granted: the `PodResizePending` condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// `Deferred` or `Infeasible`.
    pub reason: &'static str,
    pub message: String,
    /// The resources that it was about, for the event.
    pub wanted: String,
}

/// What events of resizes tell of a pod's resources, as JSON.
pub fn summary(pod: &Pod, error: Option<&str>) -> String {
    #[derive(Serialize)]
    struct Of<'a> {
        name: &'a str,
        resources: ResourceRequirements,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Summary<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        init_containers: Vec<Of<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        containers: Vec<Of<'a>>,
        generation: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    fn all<'a>(containers: impl Iterator<Item = &'a Container>) -> Vec<Of<'a>> {
        let of = |container: &'a Container| Of {
            name: &container.name,
            resources: container.resources.clone().unwrap_or_default(),
        };
        containers.map(of).collect()
    }
    let spec = pod.pod_spec();
    let summary = Summary {
        init_containers: all(spec.init_containers.iter().flatten()),
        containers: all(spec.containers.iter()),
        generation: pod.metadata.generation.unwrap_or(0),
        error,
    };
    serde_json::to_string(&summary).unwrap_or_default()
}

pub fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.pod_spec();
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn resources_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ResourceRequirements> {
    containers(pod).find(|container| container.name == name)?.resources.as_ref()
}

/// Asking for nothing is written in two ways.
fn same(a: Option<&ResourceRequirements>, b: Option<&ResourceRequirements>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b,
        (Some(one), None) | (None, Some(one)) => *one == ResourceRequirements::default(),
        (None, None) => true,
    }
}

/// Whether two versions of a pod ask for different resources.
pub fn differ(a: &Pod, b: &Pod) -> bool {
    !same(a.pod_spec().resources.as_ref(), b.pod_spec().resources.as_ref())
        || containers(b).any(|container| {
            let other = containers(a).find(|other| other.name == container.name);
            other.is_some_and(|other| !same(other.resources.as_ref(), container.resources.as_ref()))
        })
}

/// `wanted`, with the resources of `allocated`.
pub fn with_resources_of(wanted: &Arc<Pod>, allocated: &Pod) -> Arc<Pod> {
    if !differ(allocated, wanted) {
        return wanted.clone();
    }
    replace(
        wanted,
        |name, own| resources_of(allocated, name).cloned().or(own),
        || allocated.pod_spec().resources.clone(),
    )
}

/// The pod with other resources: of its containers by name, and as a whole.
pub fn replace(
    pod: &Arc<Pod>,
    of: impl Fn(&str, Option<ResourceRequirements>) -> Option<ResourceRequirements>,
    whole: impl Fn() -> Option<ResourceRequirements>,
) -> Arc<Pod> {
    let mut copy = (**pod).clone();
    if let Some(spec) = copy.spec.as_mut() {
        spec.resources = whole();
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            container.resources = of(&container.name, container.resources.take());
        }
    }
    Arc::new(copy)
}

/// A pod that ran before this kubelet did: as its containers' statuses say that it was given.
pub fn restored(pod: &Arc<Pod>) -> Arc<Pod> {
    let status = pod.status.as_ref();
    let statuses: BTreeMap<&str, &ContainerStatus> = status
        .into_iter()
        .flat_map(|status| [&status.init_container_statuses, &status.container_statuses])
        .flatten()
        .flatten()
        .map(|status| (status.name.as_str(), status))
        .collect();
    let given = |name: &str, own: Option<ResourceRequirements>| {
        let status = statuses.get(name)?;
        let allocated = status.allocated_resources.as_ref()?;
        let limits = status.resources.as_ref().and_then(|resources| resources.limits.clone());
        let mut given = own.unwrap_or_default();
        if given.requests.as_ref() == Some(allocated) {
            return Some(given);
        }
        given.requests = Some(allocated.clone());
        given.limits = limits;
        Some(given)
    };
    let of = |name: &str, own: Option<ResourceRequirements>| given(name, own.clone()).or(own);
    replace(pod, of, || pod.pod_spec().resources.clone())
}

/// Whether the node can give the pod what it wants now, beside what `others` have. `fixed` names a manager that gives
/// containers of Guaranteed pods what they keep.
pub fn resize(
    wanted: &Pod,
    others: &[Arc<Pod>],
    allocatable: &Allocatable,
    fixed: Option<&str>,
) -> Result<(), Pending> {
    let pending =
        |reason, message: String| Err(Pending { reason, wanted: summary(wanted, Some(&message)), message });
    let infeasible = |message: String| pending("Infeasible", message);
    if is_static(wanted) {
        return infeasible("In-place resize of static-pods is not supported".into());
    }
    if let Some(manager) = fixed.filter(|_| qos::class(wanted.pod_spec()) == qos::Class::Guaranteed) {
        return infeasible(format!(
            "Resize is infeasible for Guaranteed Pods alongside {manager} Manager static policy"
        ));
    }
    let requests = qos::requests(wanted.pod_spec());
    for (name, what) in [("cpu", "cpu"), ("memory", "memory")] {
        let (requested, capacity) = (requests.get(name), allocatable.get(name).copied().unwrap_or(0));
        if requested > capacity {
            return infeasible(format!(
                "Node didn't have enough capacity: {what}, requested: {requested}, capacity: {capacity}"
            ));
        }
    }
    for name in ["cpu", "memory"] {
        let capacity = allocatable.get(name).copied().unwrap_or(0);
        let used: i64 = others.iter().map(|other| qos::requests(other.pod_spec()).get(name)).sum();
        let requested = requests.get(name);
        if used.saturating_add(requested) > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return pending("Deferred", message);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(cpu: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [
                {"name": "c", "resources": {"requests": {"cpu": cpu}}}, {"name": "d"}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn what_the_node_can_give() {
        let allocatable: Allocatable = [("cpu".to_owned(), 2000), ("memory".to_owned(), 1 << 30)].into();
        let check = |wanted: &str, other: &str, expected: Option<&str>| {
            let result = resize(&pod(wanted), &[pod(other)], &allocatable, None);
            assert_eq!(result.err().map(|pending| pending.reason), expected, "{wanted} beside {other}");
        };
        check("1", "1", None);
        check("1500m", "1", Some("Deferred"));
        check("2500m", "0", Some("Infeasible"));
        let guaranteed: Pod = serde_json::from_value(json!({"spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}}]}}))
        .unwrap();
        assert!(resize(&guaranteed, &[], &allocatable, None).is_ok());
        assert_eq!(resize(&guaranteed, &[], &allocatable, Some("CPU")).unwrap_err().reason, "Infeasible");
        assert!(resize(&pod("1"), &[], &allocatable, Some("CPU")).is_ok());
    }

    #[test]
    fn the_allocated_pod_is_the_wanted_one_with_the_old_resources() {
        let (old, new) = (pod("1"), pod("2"));
        assert!(differ(&old, &new));
        let kept = with_resources_of(&new, &old);
        assert!(!differ(&old, &kept));
        let mut known = (*new).clone();
        known.status = Some(
            serde_json::from_value(json!({"containerStatuses": [{
                "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}}}]}))
            .unwrap(),
        );
        assert!(!differ(&old, &restored(&Arc::new(known))));
        assert!(!differ(&new, &restored(&new)));
    }
}
