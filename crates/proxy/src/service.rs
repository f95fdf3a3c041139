//! What of a Service matters for routing.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use net::IpNet;

/// A Service with this label belongs to another proxy.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;
const MAX_AFFINITY_SECONDS: u32 = 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The protocol of that name; TCP where none is given.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP" | "") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        let number = match self {
            Self::Tcp => libc::IPPROTO_TCP,
            Self::Udp => libc::IPPROTO_UDP,
            Self::Sctp => libc::IPPROTO_SCTP,
        };
        number as u8
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// A Service that has addresses of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    pub cluster_ips: Vec<IpAddr>,
    pub external_ips: Vec<IpAddr>,
    /// Addresses of load balancers that send packets here unchanged.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Who may use the load-balancer addresses; everybody when empty.
    pub source_ranges: Vec<IpNet>,
    pub ports: Vec<ServicePort>,
    /// For how many seconds a client stays with its endpoint.
    pub affinity: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
    pub health_check_port: Option<u16>,
}

impl ServiceSpec {
    /// What to do for `service`; nothing when it is headless, an ExternalName, or another proxy's.
    pub fn parse(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let labels = service.metadata.labels.as_ref();
        let foreign = |name| labels.is_some_and(|labels| labels.contains_key(name));
        if foreign(PROXY_NAME) || foreign(HEADLESS) || spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let mut cluster_ips = addresses(spec.cluster_ips.iter().flatten());
        if cluster_ips.is_empty() {
            cluster_ips = addresses(spec.cluster_ip.iter());
        }
        if cluster_ips.is_empty() {
            return None;
        }
        let load_balancer = spec.type_.as_deref() == Some("LoadBalancer");
        let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref());
        let ingress = status.and_then(|status| status.ingress.as_ref());
        let transparent = ingress
            .into_iter()
            .flatten()
            .filter(|ingress| load_balancer && ingress.ip_mode.as_deref() != Some("Proxy"));
        let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let config = spec.session_affinity_config.as_ref();
            let seconds = config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
            let seconds = seconds.and_then(|s| u32::try_from(s).ok());
            seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS).clamp(1, MAX_AFFINITY_SECONDS)
        });
        let ranges = spec.load_balancer_source_ranges.iter().flatten();
        let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
        Some(Self {
            cluster_ips,
            external_ips: addresses(spec.external_ips.iter().flatten()),
            load_balancer_ips: addresses(transparent.filter_map(|ingress| ingress.ip.as_ref())),
            source_ranges: if load_balancer {
                ranges.filter_map(|range| range.trim().parse().ok()).collect()
            } else {
                Vec::new()
            },
            ports: spec.ports.iter().flatten().filter_map(parse_port).collect(),
            affinity,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local,
            health_check_port: spec
                .health_check_node_port
                .filter(|_| load_balancer && external_local)
                .and_then(port_number),
        })
    }
}

/// Objects come from an API server that has checked them; from one that has not, what makes no sense is left out.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.filter_map(|text| text.parse().ok()).collect()
}

fn parse_port(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref())?,
        port: port_number(port.port)?,
        node_port: port.node_port.and_then(port_number),
    })
}

pub(crate) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
