//! Devices that nodes offer, and the claims for them.
//!
//! What is taken is kept up to date claim by claim. An allocation that was just decided counts at once
//! ([`Devices::assume`]), long before the watch tells of it.

mod allocate;
mod capacity;
mod claims;
mod extended;
mod ready;
mod request;
mod select;
mod taken;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use client::Delta;
use k8s_openapi::api::resource::v1::{AllocationResult, Device, DeviceClass, ResourceClaim, ResourceSlice};

pub use claims::{PodClaims, awaits_claims, has_claims};
pub use extended::{Backed, Extended, unmade};
pub use ready::has_conditions;

use crate::cluster::NodeState;
use crate::labels;
use crate::storage::Key;
use select::Selectors;
use taken::Taken;

/// One device: of a driver, in a pool, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    pub driver: String,
    pub pool: String,
    pub name: String,
}

/// A device, and the slice that it is told of in.
#[derive(Clone, Copy)]
pub struct Offered<'a> {
    pub slice: &'a ResourceSlice,
    pub index: usize,
    pub device: &'a Device,
}

impl Offered<'_> {
    pub fn id(&self) -> DeviceId {
        DeviceId {
            driver: self.slice.spec.driver.clone(),
            pool: self.slice.spec.pool.name.clone(),
            name: self.device.name.clone(),
        }
    }

    /// Whether only pods on that node can use it, from now on or always.
    pub fn is_local(&self) -> bool {
        self.slice.spec.node_name.is_some()
            || self.device.node_name.is_some()
            || self.device.binds_to_node == Some(true)
    }
}

/// A driver's pool: its newest generation counts, once it has been told of in full.
#[derive(Debug, Default)]
struct Pool {
    slices: BTreeSet<String>,
    generation: i64,
    complete: bool,
}

#[derive(Default)]
pub struct Devices {
    claims: HashMap<Key, Arc<ResourceClaim>>,
    classes: HashMap<String, Arc<DeviceClass>>,
    slices: BTreeMap<String, Arc<ResourceSlice>>,
    pools: HashMap<(String, String), Pool>,
    /// Slices of one node each, and those that may be for several.
    by_node: HashMap<String, BTreeSet<String>>,
    anywhere: BTreeSet<String>,
    /// Devices that are allocated.
    taken: Taken,
    assumed: HashMap<Key, AllocationResult>,
    selectors: Selectors,
    /// Extended resources that classes stand for.
    names: extended::Names,
    /// Claims that were made for these, by the UIDs of their pods.
    made: HashMap<String, Key>,
}

fn allocation(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

impl Devices {
    pub fn claim_changed(&mut self, delta: &Delta<ResourceClaim>) {
        let Some(claim) = delta.object() else { return };
        let meta = &claim.metadata;
        let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let gone = matches!(delta, Delta::Deleted(_));
        let new = allocation(claim).filter(|_| !gone);
        if new.is_some() || gone {
            self.forget(&key);
        }
        if let Some(pod) = extended::made_for(claim) {
            if new.is_some() || gone {
                self.forget(&unmade(&key.0, pod));
            }
            if gone {
                self.made.remove(pod);
            } else {
                self.made.insert(pod.to_owned(), key.clone());
            }
        }
        if let Some(new) = new {
            self.taken.take(new);
        }
        let old = if gone { self.claims.remove(&key) } else { self.claims.insert(key, claim.clone()) };
        let old = old.as_deref().and_then(allocation);
        if let Some(old) = old {
            self.taken.give_back(old);
        }
    }

    pub fn class_changed(&mut self, delta: &Delta<DeviceClass>) {
        let Some(class) = delta.object() else { return };
        let name = class.metadata.name.clone().unwrap_or_default();
        match delta {
            Delta::Deleted(_) => drop(self.classes.remove(&name)),
            _ => drop(self.classes.insert(name, class.clone())),
        }
        self.names.refresh(&self.classes);
    }

    pub fn slice_changed(&mut self, delta: &Delta<ResourceSlice>) {
        let Some(slice) = delta.object() else { return };
        let name = slice.metadata.name.clone().unwrap_or_default();
        self.selectors.forget(&name);
        if let Some(old) = self.slices.remove(&name) {
            self.index(&name, &old, false);
        }
        if !matches!(delta, Delta::Deleted(_)) {
            self.slices.insert(name.clone(), slice.clone());
            self.index(&name, slice, true);
        }
    }

    fn index(&mut self, name: &str, slice: &ResourceSlice, add: bool) {
        let spec = &slice.spec;
        let place = match &spec.node_name {
            Some(node) => self.by_node.entry(node.clone()).or_default(),
            None => &mut self.anywhere,
        };
        let pool = self.pools.entry((spec.driver.clone(), spec.pool.name.clone())).or_default();
        if add {
            place.insert(name.to_owned());
            pool.slices.insert(name.to_owned());
        } else {
            place.remove(name);
            pool.slices.remove(name);
        }
        let told =
            || pool.slices.iter().filter_map(|name| self.slices.get(name)).map(|slice| &slice.spec.pool);
        let generation = told().map(|told| told.generation).max().unwrap_or(0);
        let newest = told().filter(|told| told.generation == generation);
        let expected = newest.clone().map(|told| told.resource_slice_count).max().unwrap_or(0);
        let complete = i64::try_from(newest.count()).unwrap_or(i64::MAX) == expected;
        (pool.generation, pool.complete) = (generation, complete);
        if pool.slices.is_empty() {
            self.pools.remove(&(spec.driver.clone(), spec.pool.name.clone()));
        }
        self.by_node.retain(|_, slices| !slices.is_empty());
    }

    /// Devices are taken for a claim from now on.
    pub fn assume(&mut self, claim: Key, allocation: AllocationResult) {
        self.taken.take(&allocation);
        self.assumed.insert(claim, allocation);
    }

    pub fn forget(&mut self, claim: &Key) {
        if let Some(allocation) = self.assumed.remove(claim) {
            self.taken.give_back(&allocation);
        }
    }

    pub fn claim(&self, key: &Key) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(key)
    }

    /// The devices that pods on a node can use, and whether every pool there has been told of in full.
    fn on_node<'a>(&'a self, node: &NodeState) -> (Vec<Offered<'a>>, bool) {
        let local = self.by_node.get(&node.name).into_iter().flatten();
        let mut complete = true;
        let mut devices = Vec::new();
        for slice in local.chain(&self.anywhere).filter_map(|name| self.slices.get(name)) {
            let spec = &slice.spec;
            let Some(pool) = self.pools.get(&(spec.driver.clone(), spec.pool.name.clone())) else { continue };
            let per_device = spec.per_device_node_selection == Some(true);
            if spec.pool.generation != pool.generation || !(per_device || reaches(slice, node)) {
                continue;
            }
            if !pool.complete {
                complete = false;
                continue;
            }
            let offered = spec.devices.iter().flatten().enumerate();
            let offered = offered.filter(|(_, device)| !per_device || device_reaches(device, node));
            devices.extend(offered.map(|(index, device)| Offered { slice, index, device }));
        }
        (devices, complete)
    }

    /// Slices of the pool that a device is in.
    fn pool_of(&self, offered: &Offered<'_>) -> impl Iterator<Item = &Arc<ResourceSlice>> {
        let spec = &offered.slice.spec;
        let pool = self.pools.get(&(spec.driver.clone(), spec.pool.name.clone()));
        let generation = spec.pool.generation;
        let slices = pool.into_iter().flat_map(|pool| &pool.slices).filter_map(|name| self.slices.get(name));
        slices.filter(move |slice| slice.spec.pool.generation == generation)
    }
}

fn selects(selector: Option<&k8s_openapi::api::core::v1::NodeSelector>, node: &NodeState) -> bool {
    selector.zip(node.node.as_ref()).is_some_and(|(selector, node)| labels::selects_node(selector, node))
}

fn reaches(slice: &ResourceSlice, node: &NodeState) -> bool {
    let spec = &slice.spec;
    spec.all_nodes == Some(true)
        || spec.node_name.as_deref() == Some(&node.name)
        || selects(spec.node_selector.as_ref(), node)
}

fn device_reaches(device: &Device, node: &NodeState) -> bool {
    device.all_nodes == Some(true)
        || device.node_name.as_deref() == Some(&node.name)
        || selects(device.node_selector.as_ref(), node)
}
