//! What names mean, as Services and EndpointSlices say it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use client::Delta;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A port; its name may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub name: String,
    /// `tcp`, `udp`, `sctp`
    pub protocol: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has addresses of its own.
    Addresses(Vec<IpAddr>),
    /// Its addresses are those of its endpoints.
    Headless,
    /// It is another name.
    External(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub kind: Kind,
    pub ports: Vec<Port>,
}

/// An endpoint that may be told to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub ip: IpAddr,
    /// Its own name, or one made from its address.
    pub hostname: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

/// Namespace and name of a Service.
pub(crate) type Key = (String, String);

pub(crate) struct Index {
    pub domain: String,
    /// Until then names that are missing may exist.
    pub complete: bool,
    services: HashMap<Key, Entry>,
    /// How many Services each namespace has.
    namespaces: HashMap<String, usize>,
    /// By name. Most Services have one, and most addresses belong to one, which a tree would keep in room for eleven.
    slices: HashMap<Key, Vec<(Box<str>, Slice)>>,
    /// For addresses of Services and of endpoints: to whom they belong, and the endpoint's hostname; in order.
    reverse: HashMap<IpAddr, Vec<(Key, String)>>,
}

impl Index {
    pub fn new(domain: &str) -> Self {
        Self {
            domain: domain.trim_matches('.').to_ascii_lowercase(),
            complete: false,
            services: HashMap::new(),
            namespaces: HashMap::new(),
            slices: HashMap::new(),
            reverse: HashMap::new(),
        }
    }

    pub fn set_complete(&mut self) {
        self.complete = true;
    }

    pub fn service(&mut self, delta: Delta<Service>) {
        let Some(service) = delta.object() else { return };
        let key = key(&service.metadata, service.metadata.name.as_deref());
        let entry = match delta {
            Delta::Deleted(_) => None,
            _ => parse_service(service),
        };
        self.set_service(key, entry);
    }

    pub fn slice(&mut self, delta: Delta<EndpointSlice>) {
        let owner = |slice: &EndpointSlice| {
            let labels = slice.metadata.labels.as_ref()?;
            Some(key(&slice.metadata, Some(labels.get(SERVICE_NAME)?)))
        };
        let name = |slice: &EndpointSlice| slice.metadata.name.clone().unwrap_or_default();
        match delta {
            Delta::Added(new) => {
                if let Some(key) = owner(&new) {
                    self.set_slice(key, name(&new), Some(parse_slice(&new)));
                }
            }
            Delta::Updated { old, new } => {
                if let Some(key) = owner(&old).filter(|key| Some(key) != owner(&new).as_ref()) {
                    self.set_slice(key, name(&old), None);
                }
                if let Some(key) = owner(&new) {
                    self.set_slice(key, name(&new), Some(parse_slice(&new)));
                }
            }
            Delta::Deleted(old) => {
                if let Some(key) = owner(&old) {
                    self.set_slice(key, name(&old), None);
                }
            }
            Delta::Synced => {}
        }
    }

    pub fn set_service(&mut self, key: Key, entry: Option<Entry>) {
        let old = self.services.remove(&key);
        self.change_reverse(&key, &own_addresses(old.as_ref()), &own_addresses(entry.as_ref()));
        match (old.is_some(), entry.is_some()) {
            (false, true) => *self.namespaces.entry(key.0.clone()).or_default() += 1,
            (true, false) => {
                if let Some(count) = self.namespaces.get_mut(&key.0) {
                    *count -= 1;
                    if *count == 0 {
                        self.namespaces.remove(&key.0);
                    }
                }
            }
            _ => {}
        }
        if let Some(entry) = entry {
            self.services.insert(key, entry);
        }
    }

    pub fn set_slice(&mut self, key: Key, name: String, slice: Option<Slice>) {
        let before = self.endpoint_addresses(&key);
        if let Some(slices) = self.slices.get_mut(&key) {
            slices.retain(|(known, _)| **known != *name);
            if slices.is_empty() {
                self.slices.remove(&key);
            }
        }
        if let Some(slice) = slice {
            insert(self.slices.entry(key.clone()).or_default(), (Box::from(name), slice), |a, b| a.0 < b.0);
        }
        let after = self.endpoint_addresses(&key);
        self.change_reverse(&key, &before, &after);
    }

    fn endpoint_addresses(&self, key: &Key) -> BTreeSet<(IpAddr, String)> {
        let slices = self.slices.get(key).into_iter().flatten();
        let endpoints = slices.flat_map(|(_, slice)| &slice.endpoints);
        endpoints.map(|endpoint| (endpoint.ip, endpoint.hostname.clone())).collect()
    }

    fn change_reverse(
        &mut self,
        key: &Key,
        old: &BTreeSet<(IpAddr, String)>,
        new: &BTreeSet<(IpAddr, String)>,
    ) {
        for (ip, hostname) in old.difference(new) {
            if let Some(names) = self.reverse.get_mut(ip) {
                names.retain(|(owner, known)| owner != key || known != hostname);
                if names.is_empty() {
                    self.reverse.remove(ip);
                }
            }
        }
        for (ip, hostname) in new.difference(old) {
            let names = self.reverse.entry(*ip).or_default();
            insert(names, (key.clone(), hostname.clone()), |a, b| a < b);
        }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// The slices of a Service.
    pub fn slices(&self, namespace: &str, name: &str) -> impl Iterator<Item = &Slice> {
        let slices = self.slices.get(&(namespace.to_owned(), name.to_owned()));
        slices.into_iter().flatten().map(|(_, slice)| slice)
    }

    /// The names of an address: of a Service, or of an endpoint of a headless one.
    pub fn names_of(&self, ip: IpAddr) -> Vec<String> {
        let names = self.reverse.get(&ip).into_iter().flatten();
        let ours = names.filter(|(key, hostname)| {
            let kind = self.services.get(key).map(|entry| &entry.kind);
            hostname.is_empty() || kind == Some(&Kind::Headless)
        });
        let domain = &self.domain;
        ours.map(|((namespace, name), hostname)| match hostname.as_str() {
            "" => format!("{name}.{namespace}.svc.{domain}"),
            hostname => format!("{hostname}.{name}.{namespace}.svc.{domain}"),
        })
        .collect()
    }
}

type Meta = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

fn key(meta: &Meta, name: Option<&str>) -> Key {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    (namespace.to_owned(), name.unwrap_or_default().to_owned())
}

fn own_addresses(entry: Option<&Entry>) -> BTreeSet<(IpAddr, String)> {
    match entry.map(|entry| &entry.kind) {
        Some(Kind::Addresses(ips)) => ips.iter().map(|ip| (*ip, String::new())).collect(),
        _ => BTreeSet::new(),
    }
}

fn parse_service(service: &Service) -> Option<Entry> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|port| parse_port(&port.name, &port.protocol, Some(port.port)));
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref()?.trim_end_matches('.');
        Kind::External(target.to_ascii_lowercase())
    } else if spec.cluster_ip.as_deref() == Some("None") {
        Kind::Headless
    } else {
        let ips = spec.cluster_ips.iter().flatten().chain(spec.cluster_ip.iter());
        let ips: BTreeSet<IpAddr> = ips.filter_map(|ip| ip.parse().ok()).collect();
        Kind::Addresses(ips.into_iter().collect())
    };
    Some(Entry { kind, ports: ports.collect() })
}

fn parse_port(name: &Option<String>, protocol: &Option<String>, port: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.as_deref().unwrap_or_default().to_ascii_lowercase(),
        protocol: protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
        port: u16::try_from(port?).ok()?,
    })
}

fn parse_slice(slice: &EndpointSlice) -> Slice {
    let ports = slice.ports.iter().flatten();
    let mut parsed = Slice {
        ports: ports.filter_map(|port| parse_port(&port.name, &port.protocol, port.port)).collect(),
        endpoints: Vec::new(),
    };
    for endpoint in slice.endpoints.iter().flatten() {
        if endpoint.conditions.as_ref().and_then(|c| c.ready) == Some(false) {
            continue;
        }
        for ip in endpoint.addresses.iter().filter_map(|ip| ip.parse().ok()) {
            let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
            let hostname = hostname.map_or_else(|| dashed(ip), str::to_ascii_lowercase);
            parsed.endpoints.push(Endpoint { ip, hostname });
        }
    }
    parsed
}

/// Into a list in order that mostly stays short.
fn insert<T>(list: &mut Vec<T>, new: T, less: impl Fn(&T, &T) -> bool) {
    let at = list.partition_point(|known| less(known, &new));
    list.reserve_exact(1);
    list.insert(at, new);
}

/// A hostname for who has none.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}
