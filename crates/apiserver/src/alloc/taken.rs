//! Which addresses and ports Services hold.
//!
//! What is stored, Services and IPAddresses, is in the watch cache, so it is read there ([`Held`]): nothing has to be
//! given back when a Service goes, nothing can leak, and what another API server wrote is known. Only what a write has chosen and
//! not yet stored is kept beside it ([`Pending`]).

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ahash::AHashMap;
use api::status::GroupResource;
use serde_json::Value;

use crate::admission::objects::{SERVICES, items};
use crate::authz::follow::Derived;

/// Something that no two Services share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    Address(IpAddr),
    /// A node port. One Service may use it for several protocols.
    Port(u16),
}

/// What stored Services hold, by item, with the Service's `namespace/name`.
#[derive(Default)]
pub struct Held {
    owners: AHashMap<Item, Box<str>>,
    services: AHashMap<Box<str>, Vec<Item>>,
    /// Whose addresses are by IPAddresses.
    recorded: AHashMap<IpAddr, Box<str>>,
}

/// What writes under way have chosen.
#[derive(Default)]
pub struct Pending(HashMap<Item, String>);

impl Held {
    pub fn owner(&self, item: Item) -> Option<&str> {
        let recorded = || match item {
            Item::Address(address) => self.recorded.get(&address),
            Item::Port(_) => None,
        };
        self.owners.get(&item).or_else(recorded).map(|owner| &**owner)
    }

    fn record(&mut self, name: &str, object: Option<&Value>) {
        let Ok(address) = name.parse() else { return };
        match object {
            None => self.recorded.remove(&address),
            Some(object) => {
                // Nobody's, by that name: then no Service's either.
                let owner = parent(object).unwrap_or_else(|| format!("ipaddresses//{name}"));
                self.recorded.insert(address, owner.into())
            }
        };
    }
}

/// `namespace/name` of the Service that an IPAddress belongs to.
pub fn parent(object: &Value) -> Option<String> {
    let parent = &object["spec"]["parentRef"];
    let text = |field: &str| parent[field].as_str().unwrap_or_default();
    let of_service = text("group").is_empty() && text("resource") == "services";
    of_service.then(|| format!("{}/{}", text("namespace"), text("name")))
}

impl Derived for Held {
    fn apply(
        &mut self,
        resource: GroupResource<'static>,
        namespace: &str,
        name: &str,
        object: Option<&Value>,
    ) {
        if resource.resource != SERVICES.resource {
            return self.record(name, object);
        }
        let service: Box<str> = format!("{namespace}/{name}").into();
        for item in self.services.remove(&service).into_iter().flatten() {
            if self.owners.get(&item) == Some(&service) {
                self.owners.remove(&item);
            }
        }
        let held: Vec<Item> = object.map(items_of).unwrap_or_default().into_iter().collect();
        if held.is_empty() {
            return;
        }
        for item in &held {
            self.owners.insert(*item, service.clone());
        }
        self.services.insert(service, held);
    }

    fn forget(&mut self, resource: GroupResource<'static>) {
        if resource.resource == SERVICES.resource {
            self.owners.clear();
            self.services.clear();
        } else {
            self.recorded.clear();
        }
    }
}

impl Pending {
    pub fn owner(&self, item: Item) -> Option<&str> {
        self.0.get(&item).map(String::as_str)
    }

    pub fn take(&mut self, item: Item, service: &str) {
        self.0.insert(item, service.to_owned());
    }

    pub fn give_back(&mut self, items: &[Item]) {
        for item in items {
            self.0.remove(item);
        }
    }
}

/// What a Service holds.
pub fn items_of(service: &Value) -> HashSet<Item> {
    let spec = &service["spec"];
    let addresses = items(&spec["clusterIPs"])
        .chain([&spec["clusterIP"]])
        .filter_map(|address| address.as_str()?.parse().ok())
        .map(Item::Address);
    let ports = items(&spec["ports"])
        .map(|port| &port["nodePort"])
        .chain([&spec["healthCheckNodePort"]])
        .filter_map(|port| u16::try_from(port.as_u64()?).ok())
        .filter(|port| *port != 0)
        .map(Item::Port);
    addresses.chain(ports).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn follows_services() {
        let mut held = Held::default();
        let address = Item::Address([10, 96, 0, 5].into());
        let service = json!({"spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"],
                                      "ports": [{"nodePort": 30000}, {}], "healthCheckNodePort": 30001}});
        held.apply(SERVICES, "a", "x", Some(&service));
        assert_eq!(held.owner(address), Some("a/x"));
        assert_eq!(held.owner(Item::Port(30000)), Some("a/x"));
        assert_eq!(held.owner(Item::Port(30001)), Some("a/x"));
        held.apply(SERVICES, "a", "x", Some(&json!({"spec": {"clusterIP": "10.96.0.5"}})));
        assert_eq!(held.owner(address), Some("a/x"));
        assert_eq!(held.owner(Item::Port(30000)), None);
        held.apply(SERVICES, "a", "x", None);
        assert!(held.owners.is_empty() && held.services.is_empty());
        held.apply(SERVICES, "a", "x", Some(&json!({"spec": {"clusterIP": "None", "ports": 3}})));
        assert!(held.owners.is_empty() && held.services.is_empty());
    }
}
