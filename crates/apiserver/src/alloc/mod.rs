//! Cluster IPs and node ports of Services.
//!
//! [`ServiceAllocator::allocate`] runs before a Service is written: it fills in what the Service needs and
//! reserves it until the [`Allocation`] is dropped. When the write has succeeded by then, the watch cache knows what
//! the Service holds; when it has failed, everything is free again.

pub mod cidr;
mod claims;
pub mod families;
mod ranges;
pub mod records;
pub mod taken;

use std::net::IpAddr;
use std::sync::Arc;

use api::field::{FieldErrors, Path};
use api::status::Status;
use parking_lot::{Mutex, MutexGuard, RwLockReadGuard};
use rand::RngExt;
use serde_json::{Value, json};
use store::Store;

use crate::admission::objects::{self, SERVICES, at, items};
use crate::authz::follow::Followed;
use crate::cache::Caches;
use crate::config::Config;
use crate::state::store_failed;
use cidr::Cidr;
use claims::Claims;
use families::NONE;
use ranges::{Ranges, SERVICE_CIDRS};
use records::IP_ADDRESSES;
use taken::{Held, Item, Pending};

/// Hands out what Services need and no two may share.
pub struct ServiceAllocator {
    /// One range per family, the default one first.
    ranges: Vec<Cidr>,
    /// More of them, which users have added.
    added: Followed<Ranges>,
    ports: (u16, u16),
    held: Followed<Held>,
    pending: Arc<Mutex<Pending>>,
}

/// What one write has chosen; reserved until dropped, which is after the write.
#[must_use]
pub struct Allocation {
    pending: Arc<Mutex<Pending>>,
    items: Vec<Item>,
    /// The same, as other servers see it.
    claims: Option<Claims>,
}

impl Allocation {
    /// The Service has been stored, and is in the watch cache.
    pub fn commit(self) {}
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.pending.lock().give_back(&self.items);
    }
}

impl ServiceAllocator {
    pub fn new(config: &Config, caches: Arc<Caches>) -> Result<Self, Status> {
        let ranges: Vec<Cidr> = config
            .service_cidr
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(Status::internal)?;
        let (first, last) = config.node_port_range;
        if ranges.len() > 2 || (ranges.len() == 2 && ranges[0].is_v4() == ranges[1].is_v4()) {
            let text = &config.service_cidr;
            return Err(Status::internal(format!(
                "service CIDR {text:?}: at most one range of each IP family"
            )));
        }
        if first == 0 || first > last {
            return Err(Status::internal(format!("node port range {first}-{last} is empty")));
        }
        Ok(Self {
            ranges,
            ports: (first, last),
            added: Followed::new(Ranges::default(), &caches, &[SERVICE_CIDRS]),
            held: Followed::new(Held::default(), &caches, &[SERVICES, IP_ADDRESSES]),
            pending: Arc::default(),
        })
    }

    /// The address of the `kubernetes` Service: the first one of the default range.
    pub fn first_address(&self) -> Option<IpAddr> {
        self.ranges.first().map(|range| range.nth(0))
    }

    /// Fills in `spec.clusterIP(s)`, `ipFamilies`, `nodePort`s and the like of a Service that is created or (with
    /// `old`) updated.
    pub fn allocate(&self, service: &mut Value, old: Option<&Value>) -> Result<Allocation, Status> {
        let mut work = Work {
            service_key: service_key(service),
            // The lock on what is pending comes first and is held to the end: two writes never choose at once.
            pending: self.pending.lock(),
            held: self.held.read(),
            added: self.added.read(),
            chosen: Vec::new(),
            errors: FieldErrors::new(),
            ranges: &self.ranges,
            ports: self.ports,
        };
        if let Some(old) = old {
            drop_what_the_type_lacks(service, old);
            keep_what_old_clients_drop(service, old);
        }
        let done = work.fill(service, old);
        let Work { chosen, errors, mut pending, .. } = work;
        if done.is_ok() && errors.is_empty() {
            let pending = self.pending.clone();
            return Ok(Allocation { pending, items: chosen, claims: None });
        }
        pending.give_back(&chosen);
        done?;
        Err(Status::invalid("", "Service", objects::name(service), &errors))
    }

    /// As [`Self::allocate`], also where other servers of the same store choose at the same time.
    pub async fn reserve(
        &self,
        store: &Store,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Allocation, Status> {
        /// Others choose at random too: to meet that often is no chance.
        const ATTEMPTS: usize = 16;
        let failed = |error: store::Error| store_failed("reserved", &error);
        if !store.is_shared() {
            return self.allocate(service, old);
        }
        for _ in 0..ATTEMPTS {
            let mut filled = service.clone();
            let mut allocation = self.allocate(&mut filled, old)?;
            if !allocation.items.is_empty() {
                let claims = Claims::take(store, &allocation.items).await.map_err(failed)?;
                store.settle().await.map_err(failed)?;
                if claims.is_none() || self.is_taken(&allocation.items, &filled) {
                    continue;
                }
                allocation.claims = claims;
            }
            *service = filled;
            return Ok(allocation);
        }
        let name = objects::name(service);
        Err(Status::conflict(
            ("", "services"),
            name,
            "others are taking the same addresses or ports; please try again".to_owned(),
        ))
    }

    /// Whether another Service has one of the items.
    fn is_taken(&self, items: &[Item], service: &Value) -> bool {
        let key = service_key(service);
        let held = self.held.read();
        items.iter().any(|item| held.owner(*item).is_some_and(|owner| owner != key))
    }
}

fn service_key(service: &Value) -> String {
    format!("{}/{}", objects::namespace(service), objects::name(service))
}

/// One allocation under way.
struct Work<'a> {
    service_key: String,
    pending: MutexGuard<'a, Pending>,
    held: RwLockReadGuard<'a, Held>,
    added: RwLockReadGuard<'a, Ranges>,
    chosen: Vec<Item>,
    errors: FieldErrors,
    ranges: &'a [Cidr],
    ports: (u16, u16),
}

impl Work<'_> {
    fn fill(&mut self, service: &mut Value, old: Option<&Value>) -> Result<(), Status> {
        families::join_addresses(service, old);
        families::give_up_second(service, old);
        if kind(service) != "ExternalName" {
            let families = families::settle(service, self.ranges, &mut self.errors);
            if self.errors.is_empty() && !is_headless(service) {
                self.addresses(service, &families)?;
            }
        }
        if needs_node_ports(service) {
            self.node_ports(service)?;
        }
        if needs_health_check_port(service) {
            self.health_check_port(service)?;
        }
        Ok(())
    }

    fn addresses(&mut self, service: &mut Value, families: &[String]) -> Result<(), Status> {
        let given: Vec<String> = items(&service["spec"]["clusterIPs"])
            .filter_map(|address| address.as_str().map(str::to_owned))
            .collect();
        let mut addresses = Vec::new();
        for (index, family) in families.iter().enumerate() {
            let of_family = |range: &&Cidr| range.family() == *family;
            let ranges: Vec<Cidr> =
                self.ranges.iter().chain(self.added.iter()).filter(of_family).copied().collect();
            if ranges.is_empty() {
                continue;
            }
            match given.get(index) {
                Some(text) => {
                    if let Err(problem) = self.take_address(&ranges, text) {
                        let field = Path::new("spec");
                        let detail = format!("failed to allocate IP {text}: {problem}");
                        self.errors.invalid(&field.child("clusterIPs"), json!(given), detail);
                        return Ok(());
                    }
                    addresses.push(text.clone());
                }
                None => addresses.push(self.choose_address(&ranges)?.to_string()),
            }
        }
        families::write_addresses(service, &addresses);
        Ok(())
    }

    fn take_address(&mut self, ranges: &[Cidr], text: &str) -> Result<(), String> {
        let address: IpAddr = text.parse().map_err(|_| "it is not an IP address".to_owned())?;
        // What the Service has had may lie in a range of the past.
        if self.held.owner(Item::Address(address)) == Some(&self.service_key) {
            return Ok(());
        }
        if !ranges.iter().any(|range| range.contains(address)) {
            let valid = ranges.first().map(ToString::to_string).unwrap_or_default();
            return Err(format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {valid}"
            ));
        }
        if self.take(Item::Address(address)) {
            return Ok(());
        }
        Err("provided IP is already allocated".to_owned())
    }

    fn choose_address(&mut self, ranges: &[Cidr]) -> Result<IpAddr, Status> {
        for range in ranges {
            let (start, usable) = (range.dynamic_start(), range.usable());
            // Huge IPv6 ranges are never full; probing stops long before.
            let bounded = usable.min(1 << 20);
            if let Some(index) = probe(start, bounded, |index| self.take(Item::Address(range.nth(index)))) {
                return Ok(range.nth(index));
            }
        }
        Err(Status::internal("failed to allocate a serviceIP: range is full"))
    }

    fn node_ports(&mut self, service: &mut Value) -> Result<(), Status> {
        let ports: Vec<(u64, u64)> = items(&service["spec"]["ports"])
            .map(|port| (port["port"].as_u64().unwrap_or(0), port["nodePort"].as_u64().unwrap_or(0)))
            .collect();
        let path = Path::new("spec");
        let path = path.child("ports");
        let mut settled: Vec<u64> = Vec::with_capacity(ports.len());
        // First what was asked for, so that nothing else is given its port.
        for (index, (_, wanted)) in ports.iter().enumerate() {
            settled.push(*wanted);
            if *wanted != 0
                && let Err(problem) = self.take_port(*wanted)
            {
                let field = path.index(index);
                self.errors.invalid(&field.child("nodePort"), *wanted, problem);
            }
        }
        if !self.errors.is_empty() {
            return Ok(());
        }
        for index in 0..ports.len() {
            if settled[index] != 0 {
                continue;
            }
            // The same port for another protocol gets the same node port.
            let twin =
                (0..ports.len()).find(|other| ports[*other].0 == ports[index].0 && settled[*other] != 0);
            settled[index] = match twin {
                Some(twin) => settled[twin],
                None => self.choose_port()?.into(),
            };
        }
        if let Some(ports) = at(service, &["spec", "ports"]).as_array_mut() {
            for (port, node_port) in ports.iter_mut().zip(settled) {
                *at(port, &["nodePort"]) = json!(node_port);
            }
        }
        Ok(())
    }

    fn health_check_port(&mut self, service: &mut Value) -> Result<(), Status> {
        let wanted = service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0);
        if wanted == 0 {
            let port = self.choose_port()?;
            *at(service, &["spec", "healthCheckNodePort"]) = json!(port);
        } else if let Err(problem) = self.take_port(wanted) {
            let path = Path::new("spec");
            self.errors.invalid(&path.child("healthCheckNodePort"), wanted, problem);
        }
        Ok(())
    }

    fn take_port(&mut self, wanted: u64) -> Result<(), String> {
        let (first, last) = self.ports;
        let port = u16::try_from(wanted).ok();
        if port.is_some_and(|port| self.held.owner(Item::Port(port)) == Some(&self.service_key)) {
            return Ok(());
        }
        match port.filter(|port| (first..=last).contains(port)) {
            None => Err(format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            )),
            Some(port) if self.take(Item::Port(port)) => Ok(()),
            Some(_) => Err("provided port is already allocated".to_owned()),
        }
    }

    fn choose_port(&mut self) -> Result<u16, Status> {
        let (first, last) = self.ports;
        let size = u128::from(last - first) + 1;
        let start = (size / 32).clamp(16, 128).min(size - 1);
        // Indices are below the size of the range.
        let port = |index: u128| first + index as u16;
        match probe(start, size, |index| self.choose(Item::Port(port(index)))) {
            Some(index) => Ok(port(index)),
            None => Err(Status::internal("failed to allocate a nodePort: range is full")),
        }
    }

    /// Reserves an item that the Service wants by name; one that it has already is fine.
    fn take(&mut self, item: Item) -> bool {
        let free = |owner: Option<&str>| owner.is_none_or(|owner| owner == self.service_key);
        if !free(self.held.owner(item)) || !free(self.pending.owner(item)) {
            return false;
        }
        if self.pending.owner(item).is_none() {
            self.pending.take(item, &self.service_key);
            self.chosen.push(item);
        } else if !self.chosen.contains(&item) {
            // Another write of the same Service is under way with it.
            return false;
        }
        true
    }

    /// Reserves an item that nobody has, this Service included.
    fn choose(&mut self, item: Item) -> bool {
        self.held.owner(item).is_none() && self.pending.owner(item).is_none() && self.take(item)
    }
}

/// Tries the indices `start..size` from a random one on, then those below `start`.
fn probe(start: u128, size: u128, mut take: impl FnMut(u128) -> bool) -> Option<u128> {
    let dynamic = size - start;
    let offset = rand::rng().random_range(0..dynamic);
    let upper = (0..dynamic).map(|step| start + (offset + step) % dynamic);
    upper.chain(0..start).find(|index| take(*index))
}

fn kind(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

fn is_headless(service: &Value) -> bool {
    service["spec"]["clusterIPs"][0].as_str() == Some(NONE)
}

fn needs_node_ports(service: &Value) -> bool {
    match kind(service) {
        "NodePort" => true,
        "LoadBalancer" => service["spec"]["allocateLoadBalancerNodePorts"].as_bool() != Some(false),
        _ => false,
    }
}

fn needs_health_check_port(service: &Value) -> bool {
    kind(service) == "LoadBalancer" && service["spec"]["externalTrafficPolicy"].as_str() == Some("Local")
}

fn remove(service: &mut Value, field: &str) {
    if let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove(field);
    }
}

/// A Service that changes its type loses the fields that only the old type has, unless they were changed too:
/// then validation has its say.
fn drop_what_the_type_lacks(service: &mut Value, old: &Value) {
    let same = |service: &Value, field: &str| service["spec"][field] == old["spec"][field];
    if kind(service) == "ExternalName" && kind(old) != "ExternalName" {
        if same(service, "clusterIP") && same(service, "clusterIPs") {
            remove(service, "clusterIP");
            remove(service, "clusterIPs");
        }
        // Who takes the addresses away himself need not think of these.
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if same(service, field) {
                remove(service, field);
            }
        }
    }
    if kind(service) != "LoadBalancer" && !service["status"]["loadBalancer"].is_null() {
        *at(service, &["status", "loadBalancer"]) = json!({});
    }
    if needs_node_ports(old) && !needs_node_ports(service) && kind(service) != "LoadBalancer" {
        let had: Vec<Value> = items(&old["spec"]["ports"]).map(|port| port["nodePort"].clone()).collect();
        if let Some(ports) = service["spec"]["ports"].as_array().cloned() {
            let kept: Vec<Value> = ports
                .into_iter()
                .map(|mut port| {
                    if had.contains(&port["nodePort"])
                        && let Some(port) = port.as_object_mut()
                    {
                        port.remove("nodePort");
                    }
                    port
                })
                .collect();
            *at(service, &["spec", "ports"]) = Value::Array(kept);
        }
    }
    if needs_health_check_port(old)
        && !needs_health_check_port(service)
        && same(service, "healthCheckNodePort")
    {
        remove(service, "healthCheckNodePort");
    }
    if kind(old) == "LoadBalancer" && kind(service) != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if same(service, field) {
                remove(service, field);
            }
        }
    }
    let external = |service: &Value| {
        matches!(kind(service), "NodePort" | "LoadBalancer")
            || (kind(service) == "ClusterIP" && items(&service["spec"]["externalIPs"]).next().is_some())
    };
    if external(old) && !external(service) && same(service, "externalTrafficPolicy") {
        remove(service, "externalTrafficPolicy");
    }
}

/// A PUT by a client that has left allocated fields out keeps them.
fn keep_what_old_clients_drop(service: &mut Value, old: &Value) {
    let external = |service: &Value| kind(service) == "ExternalName";
    if !external(service) && !external(old) {
        let given = &service["spec"];
        let unset = |field: &str| given[field].as_str().unwrap_or_default().is_empty();
        if unset("clusterIP") && items(&given["clusterIPs"]).next().is_none() {
            for field in ["clusterIP", "clusterIPs"] {
                if !old["spec"][field].is_null() {
                    *at(service, &["spec", field]) = old["spec"][field].clone();
                }
            }
        }
    }
    if needs_node_ports(service) && needs_node_ports(old) {
        let key = |port: &Value| (port["port"].clone(), port["protocol"].clone());
        let had: Vec<((Value, Value), Value)> =
            items(&old["spec"]["ports"]).map(|port| (key(port), port["nodePort"].clone())).collect();
        let mut used: Vec<Value> =
            items(&service["spec"]["ports"]).map(|port| port["nodePort"].clone()).collect();
        if let Some(ports) = at(service, &["spec", "ports"]).as_array_mut() {
            for port in ports.iter_mut().filter(|port| port["nodePort"].as_u64().unwrap_or(0) == 0) {
                let kept = had.iter().find(|(of, node_port)| *of == key(port) && !used.contains(node_port));
                if let Some((_, node_port)) = kept.filter(|(_, node_port)| node_port.is_u64()) {
                    used.push(node_port.clone());
                    *at(port, &["nodePort"]) = node_port.clone();
                }
            }
        }
    }
    if needs_health_check_port(service)
        && needs_health_check_port(old)
        && service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0
    {
        *at(service, &["spec", "healthCheckNodePort"]) = old["spec"]["healthCheckNodePort"].clone();
    }
}

#[cfg(test)]
mod tests;
