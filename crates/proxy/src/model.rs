//! What all Services together need of the kernel, and how that differs from what they needed before.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use net::IpNet;

use crate::class::{Balance, Class, View};
use crate::render::{Backend, Desired, Frontend, Policy, To};
use crate::service::Protocol;
use ids::Ids;
use presence::Presence;

mod ids;
mod presence;

/// `namespace/name` of a Service.
pub(crate) type Key = Arc<str>;

/// One element of one of the kernel's maps or sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// Destination to backend set and class.
    Frontend { view: View, frontend: Frontend, id: u32, class: Class },
    /// Backend set and number to endpoint.
    Endpoint { id: u32, index: u32, address: SocketAddr },
    /// An endpoint to which clients of the set may stick.
    Sticky { id: u32, address: SocketAddr },
    /// Sources that may use the set.
    Range { id: u32, range: IpNet },
    /// An address of which every port is a Service's.
    Own { ip: IpAddr },
    /// An address that may be sent its own packets.
    Hairpin { ip: IpAddr },
}

impl Element {
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Frontend { frontend, .. } => frontend.ip.is_ipv6(),
            Self::Endpoint { address, .. } | Self::Sticky { address, .. } => address.is_ipv6(),
            Self::Range { range, .. } => range.addr().is_ipv6(),
            Self::Own { ip } | Self::Hairpin { ip } => ip.is_ipv6(),
        }
    }
}

/// Connections the kernel remembers and should not: those to `frontend`, or of those the ones that were sent to
/// `endpoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stale {
    pub frontend: Frontend,
    pub endpoint: Option<SocketAddr>,
}

/// A difference. Removals come before additions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub remove: Vec<Element>,
    pub add: Vec<Element>,
    /// Chains to be made, and those that nothing refers to any more; true for IPv6.
    pub add_classes: Vec<(bool, Class)>,
    pub remove_classes: Vec<(bool, Class)>,
    pub stale: Vec<Stale>,
}

/// What a running kernel tells of the ids that an earlier process gave out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    pub ids: HashMap<(View, Frontend), u32>,
    pub slots: HashMap<u32, Vec<SocketAddr>>,
}

/// A backend set as the kernel has it.
#[derive(Clone, Debug)]
struct Set {
    port: String,
    protocol: Protocol,
    policy: Policy,
    ipv6: bool,
    id: u32,
    /// In the order of their numbers.
    slots: Vec<SocketAddr>,
    affinity: u32,
    ranges: Vec<IpNet>,
}

impl Set {
    fn is(&self, backend: &Backend) -> bool {
        self.port == backend.port
            && self.protocol == backend.protocol
            && self.policy == backend.policy
            && self.ipv6 == backend.ipv6
    }
}

/// A destination as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    view: View,
    frontend: Frontend,
    id: u32,
    class: Class,
}

impl Route {
    fn place(&self) -> (View, Frontend) {
        (self.view, self.frontend)
    }

    fn element(&self) -> Element {
        let Route { view, frontend, id, class } = *self;
        Element::Frontend { view, frontend, id, class }
    }
}

/// What one Service holds.
#[derive(Clone, Debug, Default)]
struct Held {
    sets: Vec<Set>,
    /// Sorted by place.
    routes: Vec<Route>,
    own_ips: Vec<IpAddr>,
    local_ips: BTreeSet<IpAddr>,
    /// Destinations that another Service had first.
    waiting: Vec<(View, Frontend)>,
}

/// The state of all Services. Every Service is applied at most once between two [`Model::finish`].
#[derive(Default)]
pub(crate) struct Model {
    held: HashMap<Key, Held>,
    owners: HashMap<(View, Frontend), Key>,
    waiting: HashMap<(View, Frontend), BTreeSet<Key>>,
    ids: Ids,
    own_ips: Presence<IpAddr>,
    hairpins: Presence<IpAddr>,
    classes: Presence<(bool, Class)>,
    change: Change,
}

impl Model {
    /// Ids are given out as an earlier process did, so that clients stick to their endpoints.
    pub fn set_hints(&mut self, hints: Hints) {
        self.ids.hints = hints;
    }

    /// Makes a Service what it should be. Gives the Services that waited for a destination which it has left:
    /// they are due next.
    pub fn apply(&mut self, key: &Key, desired: Desired) -> Vec<Key> {
        let old = self.held.remove(key).unwrap_or_default();
        let sets = self.place_sets(&old, &desired);
        let (routes, waiting) = self.claim(key, &desired, &sets);
        for frontend in &old.waiting {
            if !waiting.contains(frontend) {
                self.stop_waiting(key, frontend);
            }
        }
        let released = self.change_routes(&old.routes, &routes);
        self.note_stale(&old, &routes, &sets);
        self.change_sets(&old.sets, &sets);
        let local_ips = if sets.is_empty() { BTreeSet::new() } else { desired.local_ips };
        self.own_ips.replace(&old.own_ips, &desired.own_ips);
        self.hairpins.replace(&old.local_ips, &local_ips);
        let held = Held { sets, routes, own_ips: desired.own_ips, local_ips, waiting };
        let nothing = held.routes.is_empty() && held.waiting.is_empty() && held.own_ips.is_empty();
        if !nothing {
            self.held.insert(key.clone(), held);
        }
        released
    }

    /// The difference since the last call.
    pub fn finish(&mut self) -> Change {
        let mut change = std::mem::take(&mut self.change);
        let (added, removed) = self.own_ips.finish();
        change.add.extend(added.into_iter().map(|ip| Element::Own { ip }));
        change.remove.extend(removed.into_iter().map(|ip| Element::Own { ip }));
        let (added, removed) = self.hairpins.finish();
        change.add.extend(added.into_iter().map(|ip| Element::Hairpin { ip }));
        change.remove.extend(removed.into_iter().map(|ip| Element::Hairpin { ip }));
        (change.add_classes, change.remove_classes) = self.classes.finish();
        self.ids.recycle();
        change
    }

    /// Everything, as if the kernel had nothing.
    pub fn everything(&self) -> Change {
        let mut all = Change::default();
        for held in self.held.values() {
            all.add.extend(held.routes.iter().map(Route::element));
            held.sets.iter().for_each(|set| all.add.extend(set_elements(set)));
        }
        all.add.extend(self.own_ips.iter().map(|ip| Element::Own { ip: *ip }));
        all.add.extend(self.hairpins.iter().map(|ip| Element::Hairpin { ip: *ip }));
        all.add_classes = self.classes.iter().copied().collect();
        all
    }

    /// The backend sets that `desired` asks for, as like the old ones as can be.
    fn place_sets(&mut self, old: &Held, desired: &Desired) -> Vec<Set> {
        let mut sets = Vec::with_capacity(desired.backends.len());
        for (index, backend) in desired.backends.iter().enumerate() {
            let before = old.sets.iter().find(|set| set.is(backend));
            let (id, slots) = match before {
                Some(before) => (before.id, reslot(&before.slots, &backend.endpoints)),
                None => {
                    let leads_here = desired.frontends.iter().filter(|(_, _, to)| {
                        matches!(to, To::Backend { index: i, .. } if *i == index)
                    });
                    let places = leads_here.map(|(view, frontend, _)| (*view, *frontend));
                    let (id, slots) = self.ids.allocate(places);
                    (id, reslot(&slots, &backend.endpoints))
                }
            };
            sets.push(Set {
                port: backend.port.clone(),
                protocol: backend.protocol,
                policy: backend.policy,
                ipv6: backend.ipv6,
                id,
                slots,
                affinity: backend.affinity,
                ranges: backend.ranges.clone(),
            });
        }
        sets
    }

    /// The routes that the Service gets, and the destinations that others have.
    fn claim(
        &mut self,
        key: &Key,
        desired: &Desired,
        sets: &[Set],
    ) -> (Vec<Route>, Vec<(View, Frontend)>) {
        let (mut routes, mut waiting) = (Vec::with_capacity(desired.frontends.len()), Vec::new());
        for (view, frontend, to) in &desired.frontends {
            let (view, frontend) = (*view, *frontend);
            let owner = self.owners.entry((view, frontend)).or_insert_with(|| key.clone());
            if owner != key {
                self.waiting.entry((view, frontend)).or_default().insert(key.clone());
                waiting.push((view, frontend));
                continue;
            }
            let (id, class) = match *to {
                To::Reject => (0, Class::Reject),
                To::Drop => (0, Class::Drop),
                To::Backend { index, masquerade, ranges } => {
                    let set = &sets[index];
                    let balance = Balance {
                        view,
                        count: set.slots.len() as u32,
                        masquerade,
                        ranges,
                        affinity: set.affinity,
                    };
                    (set.id, Class::Balance(balance))
                }
            };
            routes.push(Route { view, frontend, id, class });
        }
        routes.sort_unstable_by_key(Route::place);
        routes.dedup_by_key(|route| route.place());
        (routes, waiting)
    }

    fn stop_waiting(&mut self, key: &Key, frontend: &(View, Frontend)) {
        if let Some(keys) = self.waiting.get_mut(frontend) {
            keys.remove(key);
            if keys.is_empty() {
                self.waiting.remove(frontend);
            }
        }
    }

    fn change_routes(&mut self, old: &[Route], new: &[Route]) -> Vec<Key> {
        let class_of = |route: &Route| (route.frontend.ip.is_ipv6(), route.class);
        for route in new {
            match find(old, route) {
                Some(before) if before == route => continue,
                Some(before) => self.change.remove.push(before.element()),
                None => {}
            }
            self.change.add.push(route.element());
        }
        let mut released = Vec::new();
        for route in old {
            if find(new, route).is_some() {
                continue;
            }
            self.change.remove.push(route.element());
            self.owners.remove(&route.place());
            released.extend(self.waiting.get(&route.place()).into_iter().flatten().cloned());
        }
        new.iter().for_each(|route| self.classes.add(class_of(route)));
        old.iter().for_each(|route| self.classes.remove(&class_of(route)));
        released
    }

    /// A datagram socket's connection lives in the kernel for as long as it is used: it must forget endpoints that
    /// are gone, and destinations that led nowhere.
    fn note_stale(&mut self, old: &Held, routes: &[Route], sets: &[Set]) {
        let slots = |sets: &[Set], route: &Route| -> Option<Vec<SocketAddr>> {
            Some(sets.iter().find(|set| set.id == route.id)?.slots.clone())
        };
        let udp = |route: &&Route| {
            route.frontend.protocol == Protocol::Udp && route.view == View::Services
        };
        for route in old.routes.iter().filter(udp) {
            let Some(before) = slots(&old.sets, route) else { continue };
            let frontend = route.frontend;
            match find(routes, route) {
                None => self.change.stale.push(Stale { frontend, endpoint: None }),
                Some(now) if now.id == route.id && now.class == route.class && sets.len() == old.sets.len()
                    && slots(sets, now).as_ref() == Some(&before) => {}
                Some(now) => {
                    let mut after = slots(sets, now).unwrap_or_default();
                    after.sort_unstable();
                    let gone = before.into_iter().filter(|a| after.binary_search(a).is_err());
                    let stale = gone.map(|endpoint| Stale { frontend, endpoint: Some(endpoint) });
                    self.change.stale.extend(stale);
                }
            }
        }
        for route in routes.iter().filter(udp).filter(|route| route.id != 0) {
            if find(&old.routes, route).is_none_or(|before| before.id == 0) {
                self.change.stale.push(Stale { frontend: route.frontend, endpoint: None });
            }
        }
    }

    fn change_sets(&mut self, old: &[Set], new: &[Set]) {
        for set in new {
            match old.iter().find(|before| before.id == set.id) {
                None => self.change.add.extend(set_elements(set)),
                Some(before) => change_set(&mut self.change, before, set),
            }
        }
        for set in old {
            if !new.iter().any(|after| after.id == set.id) {
                self.change.remove.extend(set_elements(set));
                self.ids.free(set.id);
            }
        }
    }
}

fn find<'a>(routes: &'a [Route], like: &Route) -> Option<&'a Route> {
    let index = routes.binary_search_by_key(&like.place(), Route::place).ok()?;
    routes.get(index)
}

fn set_elements(set: &Set) -> Vec<Element> {
    let id = set.id;
    let sticky = set.slots.iter().filter(|_| set.affinity > 0);
    let slots = set.slots.iter().enumerate();
    slots
        .map(|(index, address)| Element::Endpoint { id, index: index as u32, address: *address })
        .chain(sticky.map(|address| Element::Sticky { id, address: *address }))
        .chain(set.ranges.iter().map(|range| Element::Range { id, range: *range }))
        .collect()
}

fn change_set(change: &mut Change, old: &Set, new: &Set) {
    let id = new.id;
    let common = old.slots.len().min(new.slots.len());
    let differ = |index: &usize| old.slots.get(*index) != new.slots.get(*index);
    let at = |index: usize, slots: &[SocketAddr]| {
        let address = *slots.get(index)?;
        Some(Element::Endpoint { id, index: index as u32, address })
    };
    for index in (0..common).filter(differ).chain(common..old.slots.len().max(new.slots.len())) {
        change.remove.extend(at(index, &old.slots));
        change.add.extend(at(index, &new.slots));
    }
    let sticky = |set: &Set| -> BTreeSet<SocketAddr> {
        set.slots.iter().filter(|_| set.affinity > 0).copied().collect()
    };
    if old.affinity + new.affinity > 0 {
        let (before, after) = (sticky(old), sticky(new));
        let element = |address: &SocketAddr| Element::Sticky { id, address: *address };
        change.remove.extend(before.difference(&after).map(element));
        change.add.extend(after.difference(&before).map(element));
    }
    let range = |range: &IpNet| Element::Range { id, range: *range };
    change.remove.extend(old.ranges.iter().filter(|r| !new.ranges.contains(r)).map(range));
    change.add.extend(new.ranges.iter().filter(|r| !old.ranges.contains(r)).map(range));
}

/// Puts `wanted` (sorted) into numbered slots so that as few as can be change.
fn reslot(old: &[SocketAddr], wanted: &[SocketAddr]) -> Vec<SocketAddr> {
    if old.is_empty() {
        return wanted.to_vec();
    }
    let mut kept = vec![false; wanted.len()];
    let mut slots: Vec<Option<SocketAddr>> = vec![None; wanted.len()];
    for (slot, address) in slots.iter_mut().zip(old) {
        if let Ok(index) = wanted.binary_search(address)
            && !std::mem::replace(&mut kept[index], true)
        {
            *slot = Some(*address);
        }
    }
    let mut others = wanted.iter().zip(kept).filter(|(_, kept)| !kept).map(|(address, _)| *address);
    // As many are missing as are left over.
    slots.into_iter().filter_map(|slot| slot.or_else(|| others.next())).collect()
}
