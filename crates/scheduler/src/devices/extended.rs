//! Extended resources that a device class stands for: a pod asks for `example.com/gpu: 2` as it would of a device plugin,
//! and on nodes without such a plugin gets devices of the class, by a claim that is made for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerExtendedResourceRequest, Pod};
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceClass, DeviceRequest, ExactDeviceRequest, ResourceClaim, ResourceClaimSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::Devices;
use crate::cluster::NodeState;
use crate::pod::PodInfo;
use crate::resources::is_extended;
use crate::storage::Key;
use api::quantity::Quantity;

/// Says of a claim that it is one of these.
pub const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// Before the name of any class: the resource that it stands for without being told to.
const IMPLICIT: &str = "deviceclass.resource.kubernetes.io/";
/// The claim's name until it is made, before the pod's UID: no object has such a name.
const UNMADE: &str = "<extended-resources>/";

/// Which class stands for which resource.
#[derive(Default)]
pub struct Names {
    classes: HashMap<String, String>,
    /// Counts changes.
    pub version: u64,
}

impl Names {
    /// Of several classes with one name the youngest counts, of those made at once the first by name.
    pub fn refresh(&mut self, classes: &HashMap<String, Arc<DeviceClass>>) {
        let mut chosen: HashMap<&str, &DeviceClass> = HashMap::new();
        let rank = |class: &DeviceClass| {
            let made = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (made, std::cmp::Reverse(class.metadata.name.clone()))
        };
        for class in classes.values() {
            let Some(resource) = &class.spec.extended_resource_name else { continue };
            let best = chosen.entry(resource).or_insert(class);
            if rank(class) > rank(best) {
                *best = class;
            }
        }
        let name = |class: &DeviceClass| class.metadata.name.clone().unwrap_or_default();
        self.classes =
            chosen.into_iter().map(|(resource, class)| (resource.to_owned(), name(class))).collect();
        self.version += 1;
    }
}

/// The claim that is made for a pod on some node.
#[derive(Clone, Debug, PartialEq)]
pub struct Extended {
    pub claim: ResourceClaim,
    /// Which container's resource each request is for.
    pub mappings: Vec<ContainerExtendedResourceRequest>,
}

/// A pod's extended resources that classes stand for, with these.
#[derive(Clone, Debug, Default)]
pub struct Backed {
    classes: BTreeMap<String, String>,
    pod: Option<Arc<Pod>>,
}

impl Devices {
    pub fn class_behind<'a>(&'a self, resource: &'a str) -> Option<&'a str> {
        let named = self.names.classes.get(resource).map(String::as_str);
        named.or_else(|| resource.strip_prefix(IMPLICIT).filter(|class| self.classes.contains_key(*class)))
    }

    pub fn names_version(&self) -> u64 {
        self.names.version
    }

    pub fn backed(&self, pod: &PodInfo) -> Backed {
        let wanted = pod.requests.others.keys().filter(|name| is_extended(name));
        let classes: BTreeMap<_, _> =
            wanted.filter_map(|name| Some((name.clone(), self.class_behind(name)?.to_owned()))).collect();
        let pod = (!classes.is_empty()).then(|| pod.pod.clone());
        Backed { classes, pod }
    }

    /// The claim that was made for the pod when it was tried before.
    pub fn left_over(&self, pod: &Pod) -> Option<&Key> {
        self.made.get(pod.metadata.uid.as_deref()?)
    }
}

/// The pod that such a claim was made for.
pub fn made_for(claim: &ResourceClaim) -> Option<&str> {
    let annotations = claim.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION).filter(|value| *value == "true")?;
    let mut owners = claim.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true) && owner.kind == "Pod")?;
    Some(&owner.uid)
}

/// How a claim is known that is decided on and not made yet.
pub fn unmade(namespace: &str, uid: &str) -> Key {
    (namespace.to_owned(), format!("{UNMADE}{uid}"))
}

impl Backed {
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.classes.keys()
    }

    /// What the pod needs a claim for on this node: what no device plugin there has.
    pub fn on(&self, node: &NodeState) -> Option<Extended> {
        let pod = self.pod.as_ref()?;
        claim(pod, |resource| {
            self.classes.get(resource).filter(|_| node.allocatable.amount(resource) == 0).map(String::as_str)
        })
    }
}

/// Requests being put together.
#[derive(Default)]
struct Requests {
    all: Vec<DeviceRequest>,
    mappings: Vec<ContainerExtendedResourceRequest>,
    /// By resource: requests that a container that has ended, or has not begun, leaves to others, and how many devices each
    /// has. With the place of the container, or none if it ends before the others begin.
    free: HashMap<String, Vec<(Option<usize>, String, i64)>>,
}

/// Containers that run together each have requests of their own; an init container, which runs before them, uses theirs,
/// and what is missing is asked for once for all init containers.
fn claim<'a>(pod: &Arc<Pod>, class: impl Fn(&str) -> Option<&'a str>) -> Option<Extended> {
    let spec = pod.spec.as_ref()?;
    let inits = spec.init_containers.as_deref().unwrap_or_default();
    let all: Vec<&Container> = inits.iter().chain(&spec.containers).collect();
    let lasts =
        |at: usize, one: &Container| at >= inits.len() || one.restart_policy.as_deref() == Some("Always");
    let mut requests = Requests::default();
    for lasting in [true, false] {
        for (at, container) in all.iter().enumerate().filter(|(at, one)| lasts(*at, one) == lasting) {
            let amounts = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            for (index, (resource, amount)) in amounts.into_iter().flatten().enumerate() {
                let amount = Quantity::parse(&amount.0).map_or(0, |amount| amount.value());
                let Some(class) = class(resource).filter(|_| amount > 0) else { continue };
                let place = Place { at, index, container: &container.name, resource };
                if lasting {
                    requests.own(&place, class, amount, Some(at));
                } else {
                    requests.borrow(&place, class, amount);
                }
            }
        }
    }
    let meta = &pod.metadata;
    let claim = ResourceClaim {
        metadata: ObjectMeta {
            namespace: meta.namespace.clone(),
            generate_name: Some(format!("{}-extended-resources-", meta.name.as_deref().unwrap_or_default())),
            annotations: Some([(ANNOTATION.to_owned(), "true".to_owned())].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: meta.name.clone().unwrap_or_default(),
                uid: meta.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..Default::default()
        },
        spec: ResourceClaimSpec {
            devices: Some(DeviceClaim { requests: Some(requests.all), ..Default::default() }),
        },
        status: None,
    };
    (!requests.mappings.is_empty()).then_some(Extended { claim, mappings: requests.mappings })
}

/// A container's resource, by numbers and by names.
struct Place<'a> {
    at: usize,
    index: usize,
    container: &'a str,
    resource: &'a str,
}

impl Requests {
    fn own(&mut self, place: &Place<'_>, class: &str, count: i64, until: Option<usize>) {
        let name = format!("container-{}-request-{}", place.at, place.index);
        self.all.push(DeviceRequest {
            name: name.clone(),
            exactly: Some(ExactDeviceRequest {
                device_class_name: class.to_owned(),
                allocation_mode: Some("ExactCount".to_owned()),
                count: Some(count),
                ..Default::default()
            }),
            first_available: None,
        });
        self.map(place, name.clone());
        self.free.entry(place.resource.to_owned()).or_default().push((until, name, count));
    }

    fn map(&mut self, place: &Place<'_>, request_name: String) {
        self.mappings.push(ContainerExtendedResourceRequest {
            container_name: place.container.to_owned(),
            resource_name: place.resource.to_owned(),
            request_name,
        });
    }

    /// An init container has what begins after it, or has ended before it; the rest is asked for.
    fn borrow(&mut self, place: &Place<'_>, class: &str, count: i64) {
        let free = self.free.get(place.resource).into_iter().flatten();
        let mut usable: Vec<_> = free
            .filter(|(of, ..)| of.is_none_or(|of| of > place.at))
            .map(|(_, name, count)| (name.clone(), *count))
            .collect();
        // Rather the one that is just right than several, or one that is too large.
        usable.sort_by_key(|(_, has)| (*has != count, *has < count, has.abs_diff(count)));
        let mut missing = count;
        for (name, has) in usable {
            if missing > 0 {
                self.map(place, name);
                missing -= has;
            }
        }
        if missing > 0 {
            self.own(place, class, missing, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(spec: Value) -> Extended {
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec});
        let pod: Arc<Pod> = Arc::new(serde_json::from_value(pod).unwrap());
        claim(&pod, |resource| (resource == "example.com/gpu").then_some("gpu")).unwrap()
    }

    fn wanting(name: &str, count: i64) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": "1", "example.com/gpu": count.to_string()}}})
    }

    fn sidecar(name: &str, count: i64) -> Value {
        let mut container = wanting(name, count);
        container["restartPolicy"] = "Always".into();
        container
    }

    fn check(init: Value, containers: Value, requests: &[(&str, i64)], mappings: &[(&str, &str)]) {
        let made = made(json!({"initContainers": init, "containers": containers}));
        let devices = made.claim.spec.devices.unwrap().requests.unwrap();
        let found: Vec<_> = devices
            .iter()
            .map(|request| (request.name.as_str(), request.exactly.as_ref().unwrap().count.unwrap()))
            .collect();
        assert_eq!(found, requests, "{init} {containers}");
        let found: Vec<_> = made
            .mappings
            .iter()
            .map(|mapping| (mapping.container_name.as_str(), mapping.request_name.as_str()))
            .collect();
        assert_eq!(found, mappings, "{init} {containers}");
    }

    #[test]
    fn each_container_has_a_request_and_init_containers_share_them() {
        let plain = json!({"name": "plain"});
        check(
            json!([]),
            json!([wanting("a", 2)]),
            &[("container-0-request-1", 2)],
            &[("a", "container-0-request-1")],
        );
        check(
            json!([]),
            json!([plain, wanting("a", 1), wanting("b", 3)]),
            &[("container-1-request-1", 1), ("container-2-request-1", 3)],
            &[("a", "container-1-request-1"), ("b", "container-2-request-1")],
        );
        check(
            json!([wanting("i", 1)]),
            json!([wanting("a", 2), wanting("b", 1)]),
            &[("container-1-request-1", 2), ("container-2-request-1", 1)],
            &[("a", "container-1-request-1"), ("b", "container-2-request-1"), ("i", "container-2-request-1")],
        );
        // The sidecar keeps its own; the second init container cannot have them.
        check(
            json!([wanting("i", 1), sidecar("s", 1), wanting("j", 2)]),
            json!([plain]),
            &[("container-1-request-1", 1), ("container-2-request-1", 2)],
            &[("s", "container-1-request-1"), ("i", "container-1-request-1"), ("j", "container-2-request-1")],
        );
        check(
            json!([wanting("i", 3), wanting("j", 4)]),
            json!([wanting("a", 1)]),
            &[("container-2-request-1", 1), ("container-0-request-1", 2), ("container-1-request-1", 1)],
            &[
                ("a", "container-2-request-1"),
                ("i", "container-2-request-1"),
                ("i", "container-0-request-1"),
                ("j", "container-0-request-1"),
                ("j", "container-2-request-1"),
                ("j", "container-1-request-1"),
            ],
        );
    }

    #[test]
    fn the_youngest_class_of_a_name_counts() {
        let check = |classes: &[(&str, &str)], expected: &str| {
            let classes = classes.iter().map(|(name, made)| {
                let class = json!({"metadata": {"name": name, "creationTimestamp": made},
                    "spec": {"extendedResourceName": "example.com/gpu"}});
                ((*name).to_owned(), Arc::new(serde_json::from_value(class).unwrap()))
            });
            let mut names = Names::default();
            names.refresh(&classes.collect());
            assert_eq!(names.classes["example.com/gpu"], expected);
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        check(&[("b", early)], "b");
        check(&[("a", early), ("b", late)], "b");
        check(&[("a", late), ("b", early)], "a");
        check(&[("b", late), ("a", late)], "a");
    }

    #[test]
    fn only_the_claim_of_the_owner_is_one() {
        let check = |annotation: &str, owners: Value, expected: Option<&str>| {
            let claim = json!({"metadata": {"annotations": {ANNOTATION: annotation}, "ownerReferences": owners}, "spec": {}});
            let claim: ResourceClaim = serde_json::from_value(claim).unwrap();
            assert_eq!(made_for(&claim), expected, "{claim:?}");
        };
        let owner = |controller: bool| json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": controller}]);
        check("true", owner(true), Some("u"));
        check("true", owner(false), None);
        check("no", owner(true), None);
        check("true", json!([]), None);
        assert_eq!(
            made(json!({"containers": [wanting("a", 1)]})).claim.metadata.owner_references.unwrap()[0].uid,
            "u"
        );
    }
}
