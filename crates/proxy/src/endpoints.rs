//! What of an EndpointSlice matters for routing.

use std::net::IpAddr;
use std::sync::Arc;

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
    pub node: Option<Arc<str>>,
    /// Whose clients should come here; few endpoints have any.
    pub hints: Option<Box<Hints>>,
}

/// For whom an endpoint is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    pub zones: Vec<String>,
    pub nodes: Vec<String>,
}

impl Endpoint {
    pub(crate) fn for_zones(&self) -> &[String] {
        self.hints.as_ref().map_or(&[], |hints| &hints.zones)
    }

    pub(crate) fn for_nodes(&self) -> &[String] {
        self.hints.as_ref().map_or(&[], |hints| &hints.nodes)
    }
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
        let mut parsed = Self {
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
        };
        // They are kept as long as the slice is.
        parsed.ports.shrink_to_fit();
        parsed.endpoints.shrink_to_fit();
        parsed
    }
}

fn parse_endpoint(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> Option<Endpoint> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref().map(|hints| Hints {
        zones: hints.for_zones.iter().flatten().map(|zone| zone.name.clone()).collect(),
        nodes: hints.for_nodes.iter().flatten().map(|node| node.name.clone()).collect(),
    });
    Some(Endpoint {
        // The addresses of one endpoint are interchangeable; upstream takes the first.
        ip: endpoint.addresses.first()?.parse().ok()?,
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        node: endpoint.node_name.as_deref().map(Arc::from),
        hints: hints.filter(|hints| *hints != Hints::default()).map(Box::new),
    })
}
