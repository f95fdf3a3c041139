//! What all Services together need of the kernel, and how that differs from what they needed before.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use net::IpNet;

use crate::class::{Balance, Class, View};
use crate::render::{Desired, Frontend, To};
use crate::service::Protocol;
use backends::Set;
use classes::Classes;
use ids::Ids;
use presence::Presence;

mod backends;
mod classes;
mod ids;
mod presence;

/// `namespace/name` of a Service.
pub(crate) type Key = Arc<str>;

/// Where a destination leads: the number of its class above, the id of its backend set below these bits.
pub(crate) const ID_BITS: u32 = 20;
pub(crate) const ID_MASK: u32 = (1 << ID_BITS) - 1;

/// One element of one of the kernel's maps or sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    /// Destination to class number and backend set.
    Frontend {
        view: View,
        frontend: Frontend,
        target: u32,
    },
    /// Backend set and slot to endpoint.
    Endpoint {
        id: u32,
        slot: u32,
        address: SocketAddr,
    },
    /// The same in two steps, for sets with sticky clients: slots are filled up when endpoints go, the numbers that
    /// clients are remembered with stay.
    Number {
        id: u32,
        slot: u32,
        number: u32,
        ipv6: bool,
    },
    Numbered {
        id: u32,
        number: u32,
        address: SocketAddr,
    },
    /// Sources that may use the set.
    Range {
        id: u32,
        range: IpNet,
    },
    /// An address of which every port is a Service's.
    Own {
        ip: IpAddr,
    },
    /// An address that may be sent its own packets.
    Hairpin {
        ip: IpAddr,
    },
}

impl Element {
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Frontend { frontend, .. } => frontend.ip.is_ipv6(),
            Self::Endpoint { address, .. } | Self::Numbered { address, .. } => address.is_ipv6(),
            Self::Number { ipv6, .. } => *ipv6,
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
    /// Chains to be made, and those that nothing refers to any more.
    pub add_classes: Vec<NumberedClass>,
    pub remove_classes: Vec<NumberedClass>,
    pub stale: Vec<Stale>,
}

/// A class in one address family, with the number that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NumberedClass {
    pub ipv6: bool,
    pub class: Class,
    pub number: u32,
}

/// What a running kernel tells of the numbers that an earlier process gave out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hints {
    pub ids: HashMap<(View, Frontend), u32>,
    pub slots: HashMap<u32, Vec<SocketAddr>>,
    pub numbers: HashMap<(u32, SocketAddr), u32>,
    pub classes: HashMap<Class, u32>,
}

/// A destination as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    view: View,
    frontend: Frontend,
    target: u32,
    class: Class,
}

impl Route {
    /// The id of its backend set; 0 when it leads to none.
    fn id(&self) -> u32 {
        self.target & ID_MASK
    }

    fn place(&self) -> (View, Frontend) {
        (self.view, self.frontend)
    }

    fn element(&self) -> Element {
        let Route { view, frontend, target, .. } = *self;
        Element::Frontend { view, frontend, target }
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

impl Held {
    /// Held for as long as the Service is there: no room for more than there is.
    fn shrink(&mut self) {
        self.sets.shrink_to_fit();
        self.routes.shrink_to_fit();
        self.own_ips.shrink_to_fit();
        self.waiting.shrink_to_fit();
    }
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
    classes: Classes,
    change: Change,
}

impl Model {
    /// Ids are given out as an earlier process did, so that clients stick to their endpoints.
    pub fn set_hints(&mut self, mut hints: Hints) {
        self.classes.hints = std::mem::take(&mut hints.classes);
        self.ids.hints = hints;
    }

    /// Gives a class a chain before anything leads there.
    pub fn prepare(&mut self, class: Class) {
        self.classes.prepare(class);
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
        let mut held = Held { sets, routes, own_ips: desired.own_ips, local_ips, waiting };
        held.shrink();
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
            held.sets.iter().for_each(|set| all.add.extend(set.elements()));
        }
        all.add.extend(self.own_ips.iter().map(|ip| Element::Own { ip: *ip }));
        all.add.extend(self.hairpins.iter().map(|ip| Element::Hairpin { ip: *ip }));
        all.add_classes = self.classes.all();
        all
    }

    /// The backend sets that `desired` asks for, as like the old ones as can be.
    fn place_sets(&mut self, old: &Held, desired: &Desired) -> Vec<Set> {
        let mut sets = Vec::with_capacity(desired.backends.len());
        for (index, backend) in desired.backends.iter().enumerate() {
            if let Some(before) = old.sets.iter().find(|set| set.is(backend)) {
                sets.push(before.changed(backend));
                continue;
            }
            let leads_here = desired
                .frontends
                .iter()
                .filter(|(_, _, to)| matches!(to, To::Backend { index: i, .. } if *i == index));
            let places = leads_here.map(|(view, frontend, _)| (*view, *frontend));
            let (id, slots) = self.ids.allocate(places);
            sets.push(Set::new(id, backend, &slots, &self.ids.hints.numbers));
        }
        sets
    }

    /// The routes that the Service gets, and the destinations that others have.
    fn claim(&mut self, key: &Key, desired: &Desired, sets: &[Set]) -> (Vec<Route>, Vec<(View, Frontend)>) {
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
                To::Drop => (0, Class::Drop),
                To::Backend { index, masquerade, ranges } if sets[index].id != 0 => {
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
                To::Reject | To::Backend { .. } => (0, Class::Reject),
            };
            let (id, class, number) = match self.classes.number(class) {
                Some(number) => (id, class, number),
                None => (0, Class::Reject, classes::REJECT),
            };
            routes.push(Route { view, frontend, target: number << ID_BITS | id, class });
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
        new.iter().for_each(|route| self.classes.add(route.frontend.ip.is_ipv6(), route.class));
        old.iter().for_each(|route| self.classes.remove(route.frontend.ip.is_ipv6(), route.class));
        released
    }

    /// A datagram socket's connection lives in the kernel for as long as it is used: it must forget endpoints that
    /// are gone, and destinations that led nowhere.
    fn note_stale(&mut self, old: &Held, routes: &[Route], sets: &[Set]) {
        let slots = |sets: &[Set], route: &Route| -> Option<Vec<SocketAddr>> {
            Some(sets.iter().find(|set| set.id == route.id())?.slots.clone())
        };
        let udp = |route: &&Route| route.frontend.protocol == Protocol::Udp && route.view == View::Services;
        for route in old.routes.iter().filter(udp) {
            let Some(before) = slots(&old.sets, route) else { continue };
            let frontend = route.frontend;
            match find(routes, route) {
                None => self.change.stale.push(Stale { frontend, endpoint: None }),
                Some(now) => {
                    let mut after = slots(sets, now).unwrap_or_default();
                    after.sort_unstable();
                    let gone = before.into_iter().filter(|a| after.binary_search(a).is_err());
                    let stale = gone.map(|endpoint| Stale { frontend, endpoint: Some(endpoint) });
                    self.change.stale.extend(stale);
                }
            }
        }
        for route in routes.iter().filter(udp).filter(|route| route.id() != 0) {
            if find(&old.routes, route).is_none_or(|before| before.id() == 0) {
                self.change.stale.push(Stale { frontend: route.frontend, endpoint: None });
            }
        }
    }

    fn change_sets(&mut self, old: &[Set], new: &[Set]) {
        for set in new {
            match old.iter().find(|before| before.id == set.id) {
                None => self.change.add.extend(set.elements()),
                Some(before) => set.differ(before, &mut self.change),
            }
        }
        for set in old {
            if !new.iter().any(|after| after.id == set.id) {
                self.change.remove.extend(set.elements());
                self.ids.free(set.id);
            }
        }
    }
}

fn find<'a>(routes: &'a [Route], like: &Route) -> Option<&'a Route> {
    let index = routes.binary_search_by_key(&like.place(), Route::place).ok()?;
    routes.get(index)
}

#[cfg(test)]
mod tests;
