//! What a name of the cluster means: the Kubernetes DNS specification, as a function of the index.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::index::{Endpoint, Entry, Index, Kind, Port};
use crate::wire::{Data, kind};

/// The version of the specification.
const VERSION: &str = "1.1.0";
/// Short, because asking again costs nothing.
pub(crate) const TTL: u32 = 5;

/// What there is at a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The name is not the cluster's.
    Foreign,
    /// Nobody knows yet.
    Unknown,
    /// No such name.
    Nothing,
    /// The name exists, with these records (maybe none), and records about other names that help.
    Records { answers: Vec<Data>, additional: Vec<(String, Data)> },
    /// It is another name, which may be anybody's.
    Alias(String),
}

/// A name that exists and has no records: there are names below it.
fn empty() -> Found {
    records(Vec::new())
}

fn records(answers: Vec<Data>) -> Found {
    Found::Records { answers, additional: Vec::new() }
}

fn exists(yes: bool) -> Found {
    if yes { empty() } else { Found::Nothing }
}

/// What there is at the name made of `labels` (in lower case) of that kind; `servers` are the addresses that answer it.
pub(crate) fn find(index: &Index, labels: &[String], servers: &[IpAddr], kind: u16) -> Found {
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    if let Some(ip) = reverse_address(&labels) {
        let names = index.names_of(ip).into_iter();
        let names: Vec<Data> = names.map(|target| Data::Name { kind: kind::PTR, target }).collect();
        return if names.is_empty() { Found::Foreign } else { records(names) };
    }
    let domain: Vec<&str> = index.domain.split('.').collect();
    let Some(name) = labels.strip_suffix(domain.as_slice()) else {
        return Found::Foreign;
    };
    match name {
        [] => records(vec![soa(index), Data::Name { kind: kind::NS, target: server_name(index) }]),
        ["dns-version"] => records(vec![Data::Text(VERSION.to_owned())]),
        ["dns"] => empty(),
        ["ns", "dns"] => records(servers.iter().map(|ip| Data::Address(*ip)).collect()),
        _ if !index.complete => Found::Unknown,
        ["svc"] => empty(),
        [rest @ .., namespace, "svc"] => in_namespace(index, rest, namespace, kind),
        ["pod"] => empty(),
        [namespace, "pod"] => exists(index.has_namespace(namespace)),
        [dashed, _, "pod"] => match undashed(dashed) {
            Some(ip) => records(vec![Data::Address(ip)]),
            None => Found::Nothing,
        },
        _ => Found::Nothing,
    }
}

fn server_name(index: &Index) -> String {
    format!("ns.dns.{}", index.domain)
}

/// The start of authority, which tells for how long a missing name may be remembered.
pub(crate) fn soa(index: &Index) -> Data {
    Data::Soa {
        server: server_name(index),
        mailbox: format!("hostmaster.{}", index.domain),
        serial: 1,
        negative_ttl: TTL,
    }
}

fn in_namespace(index: &Index, name: &[&str], namespace: &str, kind: u16) -> Found {
    let [below @ .., service] = name else {
        return exists(index.has_namespace(namespace));
    };
    let Some(entry) = index.get(namespace, service) else {
        return Found::Nothing;
    };
    let base = format!("{service}.{namespace}.svc.{}", index.domain);
    let endpoints = || index.slices(namespace, service).flat_map(|slice| &slice.endpoints);
    let srv = |wanted: &dyn Fn(&Port) -> bool| srv(index, entry, (namespace, service), &base, wanted);
    // As CoreDNS has it, beyond the specification: the Service's own name has the records of all its ports.
    let with_ports = |mut answers: Vec<Data>| {
        if !matches!(kind, kind::SRV | kind::ANY) {
            return records(answers);
        }
        let (ports, additional) = srv(&|_| true);
        answers.extend(ports);
        Found::Records { answers, additional }
    };
    match (below, &entry.kind) {
        ([], Kind::External(target)) => Found::Alias(target.clone()),
        (_, Kind::External(_)) => Found::Nothing,
        ([], Kind::Addresses(ips)) => with_ports(ips.iter().map(|ip| Data::Address(*ip)).collect()),
        ([], Kind::Headless) => {
            let addresses = distinct(endpoints().map(|endpoint| Data::Address(endpoint.ip)));
            if addresses.is_empty() { Found::Nothing } else { with_ports(addresses) }
        }
        ([protocol], _) if protocol.starts_with('_') => {
            let has = |port: &Port| {
                !port.name.is_empty() && Some(port.protocol.as_str()) == protocol.strip_prefix('_')
            };
            exists(entry.ports.iter().any(has))
        }
        ([host], Kind::Headless) => {
            let named = endpoints().filter(|endpoint| endpoint.hostname == *host);
            let addresses = distinct(named.map(|endpoint| Data::Address(endpoint.ip)));
            if addresses.is_empty() { Found::Nothing } else { records(addresses) }
        }
        ([port, protocol], _) => match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
            (Some(port), Some(protocol)) if !port.is_empty() => {
                let (answers, additional) = srv(&|known| known.name == port && known.protocol == protocol);
                if answers.is_empty() { Found::Nothing } else { Found::Records { answers, additional } }
            }
            _ => Found::Nothing,
        },
        _ => Found::Nothing,
    }
}

/// The ports of a Service that are wanted, and the addresses behind them.
fn srv(
    index: &Index,
    entry: &Entry,
    (namespace, service): (&str, &str),
    base: &str,
    wanted: &dyn Fn(&Port) -> bool,
) -> (Vec<Data>, Vec<(String, Data)>) {
    let wanted = |port: &&Port| wanted(port);
    let (mut answers, mut additional) = (Vec::new(), Vec::new());
    match &entry.kind {
        Kind::Addresses(ips) => {
            for port in entry.ports.iter().filter(wanted) {
                answers.push(Data::Srv { port: port.port, target: base.to_owned() });
            }
            additional.extend(ips.iter().map(|ip| (base.to_owned(), Data::Address(*ip))));
        }
        Kind::Headless => {
            for slice in index.slices(namespace, service) {
                for port in slice.ports.iter().filter(wanted) {
                    for Endpoint { ip, hostname } in &slice.endpoints {
                        let target = format!("{hostname}.{base}");
                        additional.push((target.clone(), Data::Address(*ip)));
                        answers.push(Data::Srv { port: port.port, target });
                    }
                }
            }
            answers = distinct(answers.into_iter());
        }
        Kind::External(_) => {}
    }
    (answers, additional)
}

fn distinct(data: impl Iterator<Item = Data>) -> Vec<Data> {
    let mut seen = Vec::<Data>::new();
    let mut known = std::collections::HashSet::new();
    for data in data {
        let fresh = match &data {
            Data::Address(ip) => known.insert((Some(*ip), String::new(), 0)),
            Data::Srv { port, target } => known.insert((None, target.clone(), *port)),
            _ => true,
        };
        if fresh {
            seen.push(data);
        }
    }
    seen
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse_address(labels: &[&str]) -> Option<IpAddr> {
    match labels {
        [d, c, b, a, "in-addr", "arpa"] => {
            let mut octets = [0; 4];
            for (octet, label) in octets.iter_mut().zip([a, b, c, d]) {
                *octet = label.parse().ok()?;
            }
            Some(Ipv4Addr::from(octets).into())
        }
        [nibbles @ .., "ip6", "arpa"] if nibbles.len() == 32 => {
            let mut bits = 0u128;
            for nibble in nibbles.iter().rev() {
                if nibble.len() != 1 {
                    return None;
                }
                bits = bits << 4 | u128::from_str_radix(nibble, 16).ok()?;
            }
            Some(Ipv6Addr::from(bits).into())
        }
        _ => None,
    }
}

/// The address that a pod's name is made of.
fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>();
    let v6 = || label.replace('-', ":").parse::<Ipv6Addr>();
    v4.map(IpAddr::from).or_else(|_| v6().map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests;
