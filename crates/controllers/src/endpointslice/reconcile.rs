//! What to change in the EndpointSlices of a Service so that they hold its endpoints: as few slices as possible
//! are touched, for each change goes to every node. Free of IO.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::build::{self, Group, Ports};
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

/// `manager` is the controller whose slices `existing` are.
pub fn reconcile(
    service: &Service,
    groups: Vec<Group>,
    existing: &[Arc<EndpointSlice>],
    manager: &str,
) -> Changes {
    let mut changes = Changes::default();
    let labels = labels(service, manager);
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
    changes
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

fn labels(service: &Service, manager: &str) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|label, _| label != SERVICE_NAME && label != MANAGED_BY && label != HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), meta::name(service).to_owned());
    labels.insert(MANAGED_BY.to_owned(), manager.to_owned());
    if build::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}
