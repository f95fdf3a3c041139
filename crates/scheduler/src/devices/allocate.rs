//! Finding devices for claims on a node: depth first, in the order in which they are told of, giving up after a
//! bounded number of tries.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, Device, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceAttribute,
    DeviceConstraint, DeviceRequestAllocationResult, ResourceClaim,
};
use uuid::Uuid;

use super::capacity::{self, Amounts};
use super::request::{Alternative, is_repelled, names};
use super::{DeviceId, Devices, Offered};
use crate::cluster::NodeState;

/// Choices looked at before the search is given up.
const TRIES: u32 = 50_000;

/// Devices that a request could have, and what it would take of each.
type Eligible = Vec<(usize, Amounts)>;

/// A request's claim, that claim's place, and its alternatives.
type Wanted<'a> = (&'a ResourceClaim, usize, Vec<(Alternative<'a>, Eligible)>);

/// A device that a request is to have.
struct Choice {
    device: usize,
    takes: Amounts,
}

struct Search<'a> {
    devices: &'a Devices,
    offered: &'a [Offered<'a>],
    wanted: &'a [Wanted<'a>],
    /// By request: the alternative, and its devices so far.
    chosen: Vec<(usize, Vec<Choice>)>,
    tries: u32,
}

impl Devices {
    /// An allocation for each of the claims, from what is free on the node.
    pub fn allocate(
        &self,
        claims: &[&ResourceClaim],
        node: &NodeState,
    ) -> Result<Vec<AllocationResult>, String> {
        const NONE: &str = "cannot allocate all claims";
        let (offered, complete) = self.on_node(node);
        let mut wanted: Vec<Wanted<'_>> = Vec::new();
        for (at, claim) in claims.iter().enumerate() {
            for alternatives in self.requests(claim)? {
                let mut with_devices = Vec::new();
                for alternative in alternatives {
                    let eligible = self.eligible(&alternative, &offered)?;
                    with_devices.push((alternative, eligible));
                }
                wanted.push((claim, at, with_devices));
            }
        }
        let wants_all = wanted.iter().any(|(_, _, ways)| ways.iter().any(|(way, _)| way.count.is_none()));
        if wants_all && !complete {
            return Err("a resource pool is incomplete, all its devices cannot be allocated".to_owned());
        }
        let mut search =
            Search { devices: self, offered: &offered, wanted: &wanted, chosen: Vec::new(), tries: 0 };
        if !search.request(0) {
            return Err(NONE.to_owned());
        }
        let chosen = search.chosen;
        Ok(claims
            .iter()
            .enumerate()
            .map(|(at, claim)| result(at, claim, &wanted, &chosen, &offered, node))
            .collect())
    }

    fn eligible(&self, way: &Alternative<'_>, offered: &[Offered<'_>]) -> Result<Eligible, String> {
        let class = way.class.spec.selectors.as_deref().unwrap_or_default();
        let expressions: Vec<&str> = class
            .iter()
            .chain(way.selectors)
            .filter_map(|selector| selector.cel.as_ref())
            .map(|cel| cel.expression.as_str())
            .collect();
        let mut eligible = Vec::new();
        for (at, device) in offered.iter().enumerate() {
            let taints = device.device.taints.as_deref().unwrap_or_default();
            let mut selected = !is_repelled(taints, way.tolerations) || way.admin;
            for expression in &expressions {
                selected = selected && self.selectors.selects(expression, device)?;
            }
            if let Some(takes) = capacity::taken_by(device, way.capacity).filter(|_| selected) {
                eligible.push((at, takes));
            }
        }
        Ok(eligible)
    }

    /// Whether the pool's shared counters allow for the device beside those taken and chosen.
    fn has_counters(&self, offered: &Offered<'_>, chosen: &[DeviceId]) -> bool {
        let Some(wanted) = offered.device.consumes_counters.as_ref().filter(|wanted| !wanted.is_empty())
        else {
            return true;
        };
        let mut left: BTreeMap<(String, String), Quantity> = BTreeMap::new();
        // Who shares a device uses no more counters than who was there first.
        let own = offered.id();
        if self.taken.at_all(&own) || chosen.contains(&own) {
            return true;
        }
        let parse = |text: &str| Quantity::parse(text).unwrap_or(Quantity::ZERO);
        for slice in self.pool_of(offered) {
            for set in slice.spec.shared_counters.iter().flatten() {
                for (name, counter) in &set.counters {
                    left.insert((set.name.clone(), name.clone()), parse(&counter.value.0));
                }
            }
        }
        let mut consume = |device: &Device| {
            for consumption in device.consumes_counters.iter().flatten() {
                for (name, counter) in &consumption.counters {
                    let counter_left = left.entry((consumption.counter_set.clone(), name.clone()));
                    let rest = counter_left.or_insert(Quantity::ZERO);
                    *rest = rest.minus(parse(&counter.value.0));
                }
            }
        };
        for slice in self.pool_of(offered) {
            for (index, device) in slice.spec.devices.iter().flatten().enumerate() {
                let id = Offered { slice, index, device }.id();
                if self.taken.at_all(&id) || chosen.contains(&id) {
                    consume(device);
                }
            }
        }
        consume(offered.device);
        wanted.iter().all(|consumption| {
            consumption.counters.keys().all(|name| {
                let key = (consumption.counter_set.clone(), name.clone());
                left.get(&key).is_some_and(|left| !left.is_negative())
            })
        })
    }
}

impl Search<'_> {
    /// Satisfies this request and all after it.
    fn request(&mut self, at: usize) -> bool {
        let wanted = self.wanted;
        let Some((_, _, ways)) = wanted.get(at) else { return true };
        for (way, (alternative, eligible)) in ways.iter().enumerate() {
            self.chosen.push((way, Vec::new()));
            let found = match alternative.count {
                Some(count) => self.devices(at, eligible, 0, count),
                None => {
                    let all = !eligible.is_empty()
                        && eligible.iter().all(|(device, takes)| self.choose(at, *device, takes));
                    all && self.request(at + 1)
                }
            };
            if found {
                return true;
            }
            self.chosen.truncate(at);
        }
        false
    }

    fn devices(&mut self, at: usize, eligible: &[(usize, Amounts)], from: usize, missing: usize) -> bool {
        if missing == 0 {
            return self.request(at + 1);
        }
        for (next, (device, takes)) in eligible.iter().enumerate().skip(from) {
            if self.choose(at, *device, takes) {
                // What is shared can be had several times.
                let shared =
                    self.offered.get(*device).is_some_and(|offered| capacity::is_shared(offered.device));
                if self.devices(at, eligible, if shared { next } else { next + 1 }, missing - 1) {
                    return true;
                }
                self.chosen.truncate(at + 1);
                if let Some((_, devices)) = self.chosen.get_mut(at) {
                    devices.pop();
                }
            }
            if self.tries > TRIES {
                return false;
            }
        }
        false
    }

    /// Takes the device for the request, if it is free and the claim's constraints allow it.
    fn choose(&mut self, at: usize, device: usize, takes: &Amounts) -> bool {
        self.tries += 1;
        let (Some(offered), Some((claim, owner, ways))) = (self.offered.get(device), self.wanted.get(at))
        else {
            return false;
        };
        let Some((way, _)) = self.chosen.get(at) else { return false };
        let Some((alternative, _)) = ways.get(*way) else { return false };
        if !alternative.admin {
            let users = self.users();
            let id = offered.id();
            let free = if capacity::is_shared(offered.device) {
                !self.devices.taken.as_a_whole(&id) && self.is_left(device, &id, takes)
            } else {
                !self.devices.taken.at_all(&id) && !users.contains(&id)
            };
            if !free || !self.devices.has_counters(offered, &users) {
                return false;
            }
        }
        let constraints = claim.spec.devices.iter().flat_map(|devices| devices.constraints.iter().flatten());
        for constraint in
            constraints.filter(|constraint| names(constraint.requests.as_ref(), &alternative.name))
        {
            let others = self.in_constraint(*owner, constraint);
            if !allows(constraint, offered, &others) {
                return false;
            }
        }
        if let Some((_, devices)) = self.chosen.get_mut(at) {
            devices.push(Choice { device, takes: takes.clone() });
        }
        true
    }

    /// Whether a shared device has room for that too, beside its users and those chosen so far.
    fn is_left(&self, device: usize, id: &DeviceId, takes: &Amounts) -> bool {
        let mut taken: Vec<&Amounts> = self.devices.taken.shares(id).collect();
        for ((way, choices), (_, _, ways)) in self.chosen.iter().zip(self.wanted) {
            if ways.get(*way).is_some_and(|(alternative, _)| !alternative.admin) {
                let same = choices.iter().filter(|choice| choice.device == device);
                taken.extend(same.map(|choice| &choice.takes));
            }
        }
        self.offered.get(device).is_some_and(|offered| capacity::is_left(offered.device, &taken, takes))
    }

    /// Devices chosen so far that are thereby taken.
    fn users(&self) -> Vec<DeviceId> {
        let mut users = Vec::new();
        for ((way, devices), (_, _, ways)) in self.chosen.iter().zip(self.wanted) {
            if ways.get(*way).is_some_and(|(alternative, _)| !alternative.admin) {
                let offered = devices.iter().filter_map(|choice| self.offered.get(choice.device));
                users.extend(offered.map(Offered::id));
            }
        }
        users
    }

    fn in_constraint(&self, owner: usize, constraint: &DeviceConstraint) -> Vec<&Offered<'_>> {
        let mut found = Vec::new();
        for ((way, devices), (_, of, ways)) in self.chosen.iter().zip(self.wanted) {
            let named = ways
                .get(*way)
                .is_some_and(|(alternative, _)| names(constraint.requests.as_ref(), &alternative.name));
            if *of == owner && named {
                found.extend(devices.iter().filter_map(|choice| self.offered.get(choice.device)));
            }
        }
        found
    }
}

/// An attribute by its full name; the driver's own may be told of without their domain.
fn attribute<'a>(offered: &Offered<'a>, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = offered.device.attributes.as_ref()?;
    let own = || name.strip_prefix(offered.slice.spec.driver.as_str())?.strip_prefix('/');
    attributes.get(name).or_else(|| attributes.get(own()?))
}

fn allows(constraint: &DeviceConstraint, new: &Offered<'_>, others: &[&Offered<'_>]) -> bool {
    if let Some(name) = &constraint.match_attribute {
        let Some(value) = attribute(new, name) else { return false };
        return others.iter().all(|other| attribute(other, name) == Some(value));
    }
    if let Some(name) = &constraint.distinct_attribute {
        let Some(value) = attribute(new, name) else { return false };
        return others.iter().all(|other| attribute(other, name) != Some(value));
    }
    true
}

fn result(
    at: usize,
    claim: &ResourceClaim,
    wanted: &[Wanted<'_>],
    chosen: &[(usize, Vec<Choice>)],
    offered: &[Offered<'_>],
    node: &NodeState,
) -> AllocationResult {
    let mut results = Vec::new();
    let mut config = Vec::new();
    let mut local = false;
    let mut terms: Vec<NodeSelectorRequirement> = Vec::new();
    for ((way, devices), (_, owner, ways)) in chosen.iter().zip(wanted) {
        let Some((alternative, _)) = ways.get(*way).filter(|_| *owner == at) else { continue };
        for choice in devices {
            let Some(device) = offered.get(choice.device) else { continue };
            // Told apart from what others have of the same device.
            let shared = capacity::is_shared(device.device) && !alternative.admin;
            local |= device.is_local();
            let selector = device.slice.spec.node_selector.as_ref().or(device.device.node_selector.as_ref());
            let first = selector.and_then(|selector| selector.node_selector_terms.first());
            terms.extend(first.iter().flat_map(|term| term.match_expressions.iter().flatten()).cloned());
            let id = device.id();
            results.push(DeviceRequestAllocationResult {
                request: alternative.name.clone(),
                driver: id.driver,
                pool: id.pool,
                device: id.name,
                admin_access: alternative.admin.then_some(true),
                tolerations: Some(alternative.tolerations.to_vec())
                    .filter(|tolerations| !tolerations.is_empty()),
                share_id: shared.then(|| Uuid::new_v4().to_string()),
                consumed_capacity: shared.then(|| capacity::text(&choice.takes)),
                binding_conditions: device.device.binding_conditions.clone(),
                binding_failure_conditions: device.device.binding_failure_conditions.clone(),
            });
        }
        for class in alternative.class.spec.config.iter().flatten() {
            config.push(DeviceAllocationConfiguration {
                source: "FromClass".to_owned(),
                requests: Some(vec![alternative.name.clone()]),
                opaque: class.opaque.clone(),
            });
        }
    }
    for own in claim.spec.devices.iter().flat_map(|devices| devices.config.iter().flatten()) {
        config.push(DeviceAllocationConfiguration {
            source: "FromClaim".to_owned(),
            requests: own.requests.clone(),
            opaque: own.opaque.clone(),
        });
    }
    let term = if local {
        Some(NodeSelectorTerm {
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.name.clone()]),
            }]),
            match_expressions: None,
        })
    } else {
        terms.dedup();
        (!terms.is_empty()).then_some(NodeSelectorTerm { match_fields: None, match_expressions: Some(terms) })
    };
    AllocationResult {
        devices: Some(DeviceAllocationResult {
            results: Some(results),
            config: Some(config).filter(|config| !config.is_empty()),
        }),
        node_selector: term.map(|term| NodeSelector { node_selector_terms: vec![term] }),
        allocation_timestamp: None,
    }
}
