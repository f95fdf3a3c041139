//! What of an EndpointSlice matters for routing.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::service::{Protocol, port_number};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// One endpoint, in the state in which it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<String>,
    /// Zones whose clients should come here.
    pub for_zones: Vec<String>,
    /// Nodes whose clients should come here.
    pub for_nodes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
}

/// A part of the endpoints of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

impl Slice {
    /// The name of the Service that the slice belongs to (`namespace/name`), unless it is for others.
    pub fn service(slice: &EndpointSlice) -> Option<String> {
        let labels = slice.metadata.labels.as_ref()?;
        if labels.contains_key(PROXY_NAME) || labels.contains_key(HEADLESS) {
            return None;
        }
        let name = labels.get(SERVICE_NAME)?;
        Some(format!("{}/{name}", slice.metadata.namespace.as_deref().unwrap_or_default()))
    }

    pub fn parse(slice: &EndpointSlice) -> Self {
        let ports = slice.ports.iter().flatten();
        Self {
            ports: ports
                .filter_map(|port| {
                    Some(SlicePort {
                        name: port.name.clone().unwrap_or_default(),
                        protocol: Protocol::parse(port.protocol.as_deref())?,
                        port: port_number(port.port?)?,
                    })
                })
                .collect(),
            endpoints: slice.endpoints.iter().flatten().filter_map(parse_endpoint).collect(),
        }
    }
}

fn parse_endpoint(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> Option<Endpoint> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_ref());
    let nodes = hints.and_then(|hints| hints.for_nodes.as_ref());
    Some(Endpoint {
        // The addresses of one endpoint are interchangeable; upstream takes the first.
        ip: endpoint.addresses.first()?.parse().ok()?,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: endpoint.node_name.clone(),
        for_zones: zones.into_iter().flatten().map(|zone| zone.name.clone()).collect(),
        for_nodes: nodes.into_iter().flatten().map(|node| node.name.clone()).collect(),
    })
}
