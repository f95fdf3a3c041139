//! Mirrors Endpoints that users keep themselves into EndpointSlices, which is where Services are routed by.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use kube::api::DeleteParams;

use crate::Loops;
use crate::endpointslice::build::{Group, Ports};
use crate::endpointslice::reconcile::{self, Kept, reconcile};
use crate::endpointslice::{apply, slices_of, trigger};
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of a subset that are mirrored at most.
const MOST: usize = 1000;

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.endpoints.on(move |change| {
        if let Some(endpoints) = change.object() {
            due.add(Key::of(&**endpoints));
        }
    });
    let due = queue.clone();
    world.services.on(move |change| {
        if let Some(service) = change.object() {
            due.add(Key::of(&**service));
        }
    });
    let due = queue.clone();
    world.endpoint_slices.on(move |change| {
        let Some(slice) = change.object() else { return };
        let label = |label: &str| slice.metadata.labels.as_ref().and_then(|labels| labels.get(label));
        if let Some(service) = label(reconcile::SERVICE_NAME)
            .filter(|_| label(reconcile::MANAGED_BY).is_some_and(|by| by == MANAGER))
        {
            due.add_lazily(Key::new(meta::namespace(&**slice), service));
        }
    });
    loops.add(Mirroring { world: world.clone() }, queue);
}

struct Mirroring {
    world: Arc<World>,
}

impl Controller for Mirroring {
    const NAME: &'static str = "endpoint-slice-mirroring-controller";
    const QUEUE: &'static str = "endpoint_slice_mirroring";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let existing = slices_of(&self.world, key, MANAGER);
        let service = self.world.services.by_key(key).filter(|service| {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            selector.is_none_or(|selector| selector.is_empty()) && !meta::is_terminating(&**service)
        });
        let endpoints = self.world.endpoints.by_key(key).filter(|endpoints| is_mirrored(endpoints));
        let (Some(service), Some(endpoints)) = (service, endpoints) else {
            for slice in existing {
                self.world.endpoint_slices.delete(&*slice, DeleteParams::default()).await?;
            }
            return Ok(None);
        };
        let groups: Vec<Group> = endpoints.subsets.iter().flatten().flat_map(groups).collect();
        let kept = Kept {
            service: &service,
            manager: MANAGER,
            labels: endpoints.metadata.labels.as_ref(),
            trigger: meta::annotation(&*endpoints, trigger::ANNOTATION),
        };
        let mut changes = reconcile(&kept, groups, &existing);
        for slice in &mut changes.create {
            slice.metadata.owner_references = Some(vec![meta::controller_reference(&*endpoints)]);
        }
        apply(&self.world, changes).await?;
        Ok(None)
    }
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let label = |label: &str| endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(label));
    label(SKIP).is_none_or(|skip| skip != "true")
        && meta::annotation(endpoints, LEADER).is_none()
        && !meta::is_terminating(endpoints)
}

fn groups(subset: &EndpointSubset) -> Vec<Group> {
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    });
    let ports = Ports(ports.collect());
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let rest = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let mut groups: Vec<Group> = Vec::new();
    for (address, ready) in ready.chain(rest).take(MOST) {
        let Ok(ip) = address.ip.parse::<std::net::IpAddr>() else { continue };
        let address_type = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        let at = groups.iter().position(|group| group.address_type == address_type).unwrap_or_else(|| {
            groups.push(Group { address_type, ports: ports.clone(), endpoints: Vec::new() });
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.endpoints.push(endpoint(address, ready));
        }
    }
    groups
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..Default::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subsets_become_groups_by_family() {
        let subset: EndpointSubset = serde_json::from_value(json!({
            "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "nonsense"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
            "ports": [{"port": 80, "protocol": "TCP"}]}))
        .unwrap();
        let told: Vec<_> = groups(&subset)
            .into_iter()
            .map(|group| {
                (
                    group.address_type,
                    group
                        .endpoints
                        .iter()
                        .map(|e| (e.addresses[0].clone(), e.conditions.clone().unwrap().ready.unwrap()))
                        .collect::<Vec<_>>(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("IPv4", vec![("10.0.0.1".to_owned(), true), ("10.0.0.2".to_owned(), false)]),
                ("IPv6", vec![("fd00::1".to_owned(), true)]),
            ]
        );
    }
}
