//! The endpoints that a Service has, from its pods. Free of IO.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::kit::{meta, pods};

pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Ports that pods of one Service have in common; named ports may differ from pod to pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ports(pub Vec<EndpointPort>);

impl Ports {
    /// A form to group and compare by, without regard to order.
    pub fn key(&self) -> Vec<(String, String, i32, String)> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let each = self.0.iter().map(|port| {
            (text(&port.name), text(&port.protocol), port.port.unwrap_or(0), text(&port.app_protocol))
        });
        let mut key: Vec<_> = each.collect();
        key.sort();
        key
    }
}

/// The endpoints of one address family and one set of ports.
#[derive(Debug)]
pub struct Group {
    pub address_type: &'static str,
    pub ports: Ports,
    pub endpoints: Vec<Endpoint>,
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The address families of a Service, as EndpointSlices name them.
pub fn address_types(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let named = families.into_iter().flatten().filter_map(|family| match family.as_str() {
        "IPv4" => Some("IPv4"),
        "IPv6" => Some("IPv6"),
        _ => None,
    });
    let named: Vec<_> = named.collect();
    if !named.is_empty() {
        return named;
    }
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    let is_v6 =
        address.and_then(|address| address.parse().ok()).is_some_and(|address: IpAddr| address.is_ipv6());
    vec![if is_v6 { "IPv6" } else { "IPv4" }]
}

pub fn groups(service: &Service, pods: &[Arc<Pod>], node: impl Fn(&str) -> Option<Arc<Node>>) -> Vec<Group> {
    let mut groups = BTreeMap::new();
    for address_type in address_types(service) {
        for pod in pods.iter().filter(|pod| !pods::is_finished(pod)) {
            let Some(address) = address(pod, address_type) else { continue };
            let ports = ports(service, pod);
            let node = pods::node_name(pod).and_then(&node);
            let endpoint = endpoint(service, pod, address, node.as_deref());
            let group = groups.entry((address_type, ports.key())).or_insert_with(|| Group {
                address_type,
                ports,
                endpoints: Vec::new(),
            });
            group.endpoints.push(endpoint);
        }
    }
    groups.into_values().collect()
}

fn address(pod: &Pod, address_type: &str) -> Option<String> {
    let ips = pod.status.as_ref()?.pod_ips.as_ref()?;
    let fits = |ip: &&k8s_openapi::api::core::v1::PodIP| {
        ip.ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == (address_type == "IPv4"))
    };
    ips.iter().find(fits).map(|ip| ip.ip.clone())
}

/// The ports of a Service at this pod. A name that none of its containers has is left out.
pub fn ports(service: &Service, pod: &Pod) -> Ports {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let each = ports.into_iter().flatten().filter_map(|port| {
        Some(EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            protocol: Some(protocol(port).to_owned()),
            port: Some(target(port, pod)?),
            app_protocol: port.app_protocol.clone(),
        })
    });
    Ports(each.collect())
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match port.target_port.as_ref() {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
            let mut ports =
                spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
            let fits = |candidate: &&ContainerPort| {
                candidate.name.as_ref() == Some(name)
                    && candidate.protocol.as_deref().unwrap_or("TCP") == protocol(port)
            };
            ports.find(fits).map(|port| port.container_port)
        }
    }
}

fn endpoint(service: &Service, pod: &Pod, address: String, node: Option<&Node>) -> Endpoint {
    let spec = service.spec.as_ref();
    let publish_not_ready = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let serving = pods::is_ready(pod);
    let terminating = meta::is_terminating(pod);
    let ready = publish_not_ready || (serving && !terminating);
    let zone = node
        .and_then(|node| node.metadata.labels.as_ref())
        .and_then(|labels| labels.get(ZONE_LABEL))
        .cloned();
    let node_name = pods::node_name(pod).map(str::to_owned);
    let distribution = spec.and_then(|spec| spec.traffic_distribution.as_deref());
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hints: hints(distribution, ready, zone.as_deref(), node_name.as_deref()),
        hostname: hostname(service, pod),
        node_name,
        target_ref: Some(pod_reference(pod)),
        zone,
        ..Default::default()
    }
}

pub fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..Default::default()
    }
}

/// The name under which cluster DNS finds a single pod of a headless Service.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let ours = spec.subdomain.is_some() && spec.subdomain == service.metadata.name;
    spec.hostname.clone().filter(|hostname| ours && !hostname.is_empty())
}

fn hints(
    distribution: Option<&str>,
    ready: bool,
    zone: Option<&str>,
    node: Option<&str>,
) -> Option<EndpointHints> {
    let distribution = distribution.filter(|_| ready)?;
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    match distribution {
        "PreferClose" | "PreferSameZone" => {
            for_zones.map(|zones| EndpointHints { for_zones: Some(zones), ..Default::default() })
        }
        "PreferSameNode" => Some(EndpointHints {
            for_nodes: node.map(|node| vec![ForNode { name: node.to_owned() }]),
            for_zones,
        }),
        _ => None,
    }
}
