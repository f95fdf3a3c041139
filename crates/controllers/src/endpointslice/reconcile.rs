//! What to change in the EndpointSlices of a Service so that they hold its endpoints: as few slices as possible
//! are touched, for each change goes to every node. Free of IO.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::build::{self, Group, Ports};
use super::trigger;
use crate::kit::meta::{self, Labels};

pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints that a slice holds at most.
const FULL: usize = 100;

#[derive(Debug, Default)]
pub struct Changes {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// What the slices of a Service have in common.
pub struct Kept<'a> {
    pub service: &'a Service,
    /// The controller that keeps them.
    pub manager: &'a str,
    /// The labels of what they are made from.
    pub labels: Option<&'a Labels>,
    /// The time of the change that this follows.
    pub trigger: Option<&'a str>,
}

pub fn reconcile(kept: &Kept<'_>, groups: Vec<Group>, existing: &[Arc<EndpointSlice>]) -> Changes {
    let Kept { service, trigger, .. } = *kept;
    let mut changes = Changes::default();
    let labels = labels(kept);
    let mut groups: BTreeMap<_, Group> =
        groups.into_iter().map(|group| ((group.address_type, group.ports.key()), group)).collect();
    for address_type in build::address_types(service) {
        if !groups.keys().any(|(of, _)| *of == address_type) {
            // One without endpoints tells that there are none, rather than that nobody has looked.
            let placeholder = existing.iter().find(|slice| slice.address_type == address_type);
            let ports = Ports(placeholder.and_then(|slice| slice.ports.clone()).unwrap_or_default());
            let endpoints = Vec::new();
            groups.insert((address_type, ports.key()), Group { address_type, ports, endpoints });
        }
    }

    let mut slices: BTreeMap<_, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing.iter().filter(|slice| !meta::is_terminating(&***slice)) {
        let ports = Ports(slice.ports.clone().unwrap_or_default());
        slices.entry((slice.address_type.as_str(), ports.key())).or_default().push(slice);
    }
    for (key, group) in groups {
        let have = slices.remove(&(key.0, key.1)).unwrap_or_default();
        fill(service, &labels, group, have, &mut changes);
    }
    changes.delete.extend(slices.into_values().flatten().cloned());
    recycle(service, &mut changes);
    for slice in changes.create.iter_mut().chain(&mut changes.update) {
        let annotations = slice.metadata.annotations.get_or_insert_default();
        match trigger {
            Some(time) => drop(annotations.insert(trigger::ANNOTATION.to_owned(), time.to_owned())),
            None => drop(annotations.remove(trigger::ANNOTATION)),
        }
    }
    changes
}

/// Where one slice would be made and another deleted, the one becomes the other: fewer writes, and never a moment in
/// which there are both.
fn recycle(service: &Service, changes: &mut Changes) {
    let (create, update) = (&mut changes.create, &mut changes.update);
    changes.delete.retain(|old| {
        let fits = |new: &EndpointSlice| new.address_type == old.address_type;
        let ours = meta::is_controlled_by(&old.metadata, meta::uid(service)) && !meta::is_terminating(&**old);
        let Some(at) = create.iter().position(fits).filter(|_| ours) else { return true };
        let mut new = create.remove(at);
        let labels = new.metadata.labels.take();
        new.metadata = ObjectMeta { labels, ..old.metadata.clone() };
        update.push(new);
        false
    });
}

/// An endpoint is the same if it leads to the same pod, or else to the same address.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    uid.unwrap_or_default() + "/" + &endpoint.addresses.join(",")
}

fn fill(
    service: &Service,
    labels: &Labels,
    group: Group,
    have: Vec<&Arc<EndpointSlice>>,
    changes: &mut Changes,
) {
    let order: Vec<String> = group.endpoints.iter().map(identity).collect();
    let mut wanted: HashMap<String, Endpoint> = order.iter().cloned().zip(group.endpoints).collect();

    // What is in a slice already stays there.
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in have {
        let stay = slice.endpoints.iter().flatten().filter_map(|endpoint| wanted.remove(&identity(endpoint)));
        kept.push((slice, stay.collect()));
    }
    let mut rest = order.into_iter().filter_map(|id| wanted.remove(&id)).peekable();

    // The rest goes where something changes anyway, then wherever there is room.
    let changed = |slice: &EndpointSlice, endpoints: &[Endpoint]| {
        slice.endpoints.as_deref().unwrap_or_default() != endpoints
    };
    kept.sort_by_key(|(slice, endpoints)| (!changed(slice, endpoints), std::cmp::Reverse(endpoints.len())));
    for (_, endpoints) in &mut kept {
        while endpoints.len() < FULL {
            let Some(endpoint) = rest.next() else { break };
            endpoints.push(endpoint);
        }
    }
    let mut new: Vec<Vec<Endpoint>> = Vec::new();
    while rest.peek().is_some() {
        new.push(rest.by_ref().take(FULL).collect());
    }
    let filled = kept.iter().any(|(_, endpoints)| !endpoints.is_empty()) || !new.is_empty();
    if !filled && kept.is_empty() {
        new.push(Vec::new());
    }

    let mut placeholder = !filled;
    for (slice, endpoints) in kept {
        if endpoints.is_empty() && !std::mem::take(&mut placeholder) {
            changes.delete.push(slice.clone());
        } else if changed(slice, &endpoints) || slice.metadata.labels.as_ref() != Some(labels) {
            let mut update = (**slice).clone();
            update.endpoints = Some(endpoints);
            update.metadata.labels = Some(labels.clone());
            changes.update.push(update);
        }
    }
    for endpoints in new {
        changes.create.push(EndpointSlice {
            metadata: ObjectMeta {
                namespace: service.metadata.namespace.clone(),
                generate_name: Some(format!("{}-", meta::name(service))),
                labels: Some(labels.clone()),
                owner_references: Some(vec![meta::controller_reference(service)]),
                ..Default::default()
            },
            address_type: group.address_type.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(group.ports.0.clone()),
        });
    }
}

fn labels(kept: &Kept<'_>) -> Labels {
    let Kept { service, manager, .. } = *kept;
    let mut labels = kept.labels.cloned().unwrap_or_default();
    labels.retain(|label, _| label != SERVICE_NAME && label != MANAGED_BY && label != HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), meta::name(service).to_owned());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    if build::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}
