//! What the kernel must hold for the policies, pods and namespaces that there are, kept by event.
//!
//! Nothing is computed but for what an event touches: a pod's selections are looked at when the pod, its namespace's
//! labels or those selections change; what a profile allows a class when either is new.

mod allowed;
mod blocks;
mod intern;
mod selections;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::pod::{Labels, Pod, Sandbox};
use crate::policy::{Block, Peer, Policy, Port, Rule};
pub(crate) use allowed::Allowance;
use allowed::{Class, Profile, Resolved};
use intern::Interner;
use selections::Selections;

/// `namespace/name`.
pub(crate) type Key = Arc<str>;

/// Something has changed. Pods and policies are named `namespace/name`.
#[derive(Clone, Debug)]
pub enum Update {
    Namespace {
        name: String,
        labels: Option<Labels>,
    },
    Policy {
        name: String,
        policy: Option<Policy>,
    },
    Pod {
        name: String,
        pod: Option<Pod>,
    },
    /// The runtime has made a pod of this node.
    Sandbox(Sandbox),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// The key of one element of one of the kernel's maps or sets. Those of maps have a number as their value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Element {
    /// A pod of this node that policies select, with its profile.
    Profile {
        direction: Direction,
        ip: IpAddr,
    },
    Isolated {
        direction: Direction,
        ip: IpAddr,
    },
    /// The same pod: it may speak to itself.
    Itself {
        ip: IpAddr,
    },
    /// A pod that rules mean, with its class.
    Pod {
        ip: IpAddr,
    },
    /// A piece of the address space, with its class.
    Piece {
        first: IpAddr,
        last: IpAddr,
    },
    /// A profile may speak to a class: about everything, or to these ports of a protocol.
    Allowed {
        ipv6: bool,
        profile: u32,
        class: u32,
        what: Allowance,
    },
}

impl Element {
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Profile { ip, .. } | Self::Isolated { ip, .. } | Self::Itself { ip } | Self::Pod { ip } => {
                ip.is_ipv6()
            }
            Self::Piece { first, .. } => first.is_ipv6(),
            Self::Allowed { ipv6, .. } => *ipv6,
        }
    }
}

/// A difference, with the value of each element; removals come first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub remove: Vec<(Element, u32)>,
    pub add: Vec<(Element, u32)>,
}

#[derive(Default)]
struct Known {
    pod: Pod,
    /// Addresses that the runtime has told of before the API server.
    given: Vec<IpAddr>,
    class: Option<u32>,
    profiles: [Option<u32>; 2],
}

impl Known {
    fn ips(&self) -> BTreeSet<IpAddr> {
        self.pod.ips.iter().chain(&self.given).copied().collect()
    }
}

pub(crate) struct Model {
    node: String,
    pods: HashMap<Key, Known>,
    pods_of: HashMap<String, HashSet<Key>>,
    policies: HashMap<Key, Policy>,
    policies_of: HashMap<String, BTreeSet<Key>>,
    selections: Selections,
    blocks: Interner<Block>,
    /// Blocks have come or gone since the last time.
    cut: bool,
    pieces: Vec<(Element, u32)>,
    /// Names of ports that rules of outgoing traffic use.
    named: HashMap<(u8, String), usize>,
    classes: Interner<Class>,
    profiles: Interner<Profile>,
    /// Who says he has an address; the last one is believed.
    claims: HashMap<IpAddr, Vec<Key>>,
    due: HashSet<Key>,
    due_ips: HashSet<IpAddr>,
    held: HashMap<Element, u32>,
    pending: HashMap<Element, Option<u32>>,
}

impl Model {
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            pods: HashMap::new(),
            pods_of: HashMap::new(),
            policies: HashMap::new(),
            policies_of: HashMap::new(),
            selections: Selections::default(),
            blocks: Interner::default(),
            cut: true,
            pieces: Vec::new(),
            named: HashMap::new(),
            classes: Interner::default(),
            profiles: Interner::default(),
            claims: HashMap::new(),
            due: HashSet::new(),
            due_ips: HashSet::new(),
            held: HashMap::new(),
            pending: HashMap::new(),
        }
    }

    /// Takes note of a change; [`Model::finish`] works it out.
    pub fn update(&mut self, update: Update) {
        match update {
            Update::Namespace { name, labels } => {
                if self.selections.set_namespace(&name, labels) {
                    self.due.extend(self.pods_of.get(&name).into_iter().flatten().cloned());
                }
            }
            Update::Policy { name, policy } => self.set_policy(name.into(), policy),
            Update::Pod { name, pod } => self.set_pod(name.into(), pod),
            Update::Sandbox(sandbox) => self.set_sandbox(sandbox),
        }
    }

    fn set_pod(&mut self, key: Key, pod: Option<Pod>) {
        let Some(pod) = pod else {
            if let Some(known) = self.pods.remove(&key) {
                self.forget(&key, known);
            }
            return;
        };
        let namespace = namespace_of(&key).to_owned();
        let known = self.pods.entry(key.clone()).or_default();
        if known.pod == pod && !pod.ended {
            return;
        }
        let before = known.ips();
        if pod.ended {
            known.given.clear();
        }
        known.pod = pod;
        let after = known.ips();
        self.pods_of.entry(namespace).or_default().insert(key.clone());
        self.claim(&key, &before, &after);
        self.due.insert(key);
    }

    fn set_sandbox(&mut self, sandbox: Sandbox) {
        let key: Key = format!("{}/{}", sandbox.namespace, sandbox.name).into();
        let known = self.pods.entry(key.clone()).or_default();
        let before = known.ips();
        if known.pod.node.is_empty() {
            // The API server has not told of it yet; the runtime knows its labels from the kubelet.
            known.pod.node.clone_from(&self.node);
            known.pod.labels = sandbox.labels;
        }
        known.given = sandbox.ips;
        let after = known.ips();
        // Said again: it has them now, whoever had them before.
        for ip in &known.given {
            if let Some(claims) = self.claims.get_mut(ip) {
                claims.retain(|claim| *claim != key);
            }
        }
        let kept: BTreeSet<IpAddr> = before.iter().copied().filter(|ip| !known.given.contains(ip)).collect();
        self.pods_of.entry(sandbox.namespace).or_default().insert(key.clone());
        self.claim(&key, &kept, &after);
        self.due_ips.extend(before);
        self.due.insert(key);
    }

    fn claim(&mut self, key: &Key, before: &BTreeSet<IpAddr>, after: &BTreeSet<IpAddr>) {
        for gone in before.difference(after) {
            if let Some(claims) = self.claims.get_mut(gone) {
                claims.retain(|claim| claim != key);
                if claims.is_empty() {
                    self.claims.remove(gone);
                }
            }
            self.due_ips.insert(*gone);
        }
        for new in after.difference(before) {
            self.claims.entry(*new).or_default().push(key.clone());
            self.due_ips.insert(*new);
        }
    }

    fn forget(&mut self, key: &Key, known: Known) {
        self.claim(key, &known.ips(), &BTreeSet::new());
        known.class.into_iter().for_each(|class| self.classes.give_back(class));
        known.profiles.into_iter().flatten().for_each(|profile| self.profiles.give_back(profile));
        let namespace = namespace_of(key);
        if let Some(keys) = self.pods_of.get_mut(namespace) {
            keys.remove(key);
            if keys.is_empty() {
                self.pods_of.remove(namespace);
            }
        }
    }

    fn set_policy(&mut self, key: Key, policy: Option<Policy>) {
        let namespace = namespace_of(&key).to_owned();
        if self.policies.get(&key) == policy.as_ref() {
            return;
        }
        if let Some(policy) = &policy {
            self.use_parts(&namespace, policy, true);
        }
        let old = match policy {
            Some(policy) => {
                self.policies_of.entry(namespace.clone()).or_default().insert(key.clone());
                self.policies.insert(key, policy)
            }
            None => {
                if let Some(keys) = self.policies_of.get_mut(&namespace) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        self.policies_of.remove(&namespace);
                    }
                }
                self.policies.remove(&key)
            }
        };
        if let Some(old) = old {
            self.use_parts(&namespace, &old, false);
        }
        let pods = self.pods_of.get(&namespace).into_iter().flatten();
        let local = pods.filter(|key| self.pods.get(*key).is_some_and(|known| known.pod.node == self.node));
        self.due.extend(local.cloned());
    }

    /// Counts the policy as a user of its selections, blocks and names, or no longer.
    fn use_parts(&mut self, namespace: &str, policy: &Policy, used: bool) {
        let rules = || policy.ingress.iter().chain(&policy.egress).flatten();
        for peer in rules().flat_map(|rule| rule.peers.iter().flatten()) {
            match peer {
                Peer::Pods(selection) => {
                    let touched = if used {
                        self.selections.take(namespace, selection)
                    } else {
                        self.selections.give_back(namespace, selection)
                    };
                    for namespace in touched {
                        self.due.extend(self.pods_of.get(&namespace).into_iter().flatten().cloned());
                    }
                }
                Peer::Block(block) => {
                    if used {
                        self.blocks.take(block.clone());
                    } else if let Some(number) = self.blocks.number(block) {
                        self.blocks.give_back(number);
                    }
                    self.cut = true;
                }
            }
        }
        for port in policy.egress.iter().flatten().flat_map(|rule| rule.ports.iter().flatten()) {
            if let Port::Named { protocol, name } = port {
                self.use_name(*protocol, name, used);
            }
        }
    }

    fn use_name(&mut self, protocol: u8, name: &str, used: bool) {
        let key = (protocol, name.to_owned());
        let users = self.named.entry(key.clone()).or_default();
        let before = *users;
        *users = if used { before + 1 } else { before.saturating_sub(1) };
        let after = *users;
        if after == 0 {
            self.named.remove(&key);
        }
        if (before == 0) != (after == 0) {
            let has = |known: &Known| known.pod.ports.iter().any(|(p, n, _)| *p == protocol && n == name);
            self.due.extend(self.pods.iter().filter(|(_, known)| has(known)).map(|(key, _)| key.clone()));
        }
    }

    /// The difference since the last call.
    pub fn finish(&mut self) -> Change {
        for key in std::mem::take(&mut self.due) {
            self.judge(&key);
        }
        if std::mem::take(&mut self.cut) {
            self.cut_blocks();
        }
        for ip in std::mem::take(&mut self.due_ips) {
            self.place(ip);
        }
        self.pair();
        self.selections.finish();
        let mut change = Change::default();
        for (element, value) in std::mem::take(&mut self.pending) {
            let held = self.held.get(&element).copied();
            if held == value {
                continue;
            }
            if let Some(held) = held {
                change.remove.push((element.clone(), held));
                self.held.remove(&element);
            }
            if let Some(value) = value {
                change.add.push((element.clone(), value));
                self.held.insert(element, value);
            }
        }
        change
    }

    /// Everything, as if the kernel had nothing.
    pub fn everything(&self) -> Change {
        let add = self.held.iter().map(|(element, value)| (element.clone(), *value)).collect();
        Change { add, ..Change::default() }
    }

    /// Works out a pod's class and profiles.
    fn judge(&mut self, key: &Key) {
        let Some(known) = self.pods.get(key) else { return };
        let namespace = namespace_of(key);
        let named =
            |(protocol, name, _): &&(u8, String, u16)| self.named.contains_key(&(*protocol, name.clone()));
        let mut class = Class {
            selections: self.selections.of(namespace, &known.pod.labels),
            ports: known.pod.ports.iter().filter(named).cloned().collect(),
            ..Class::default()
        };
        class.ports.sort_unstable();
        let local = known.pod.node == self.node;
        let profiles = [Direction::Ingress, Direction::Egress]
            .map(|direction| local.then(|| self.profile(namespace, &known.pod, direction)).flatten());
        let class = (class != Class::default()).then(|| self.classes.take(class));
        let profiles = profiles.map(|profile| profile.map(|profile| self.profiles.take(profile)));
        let Some(known) = self.pods.get_mut(key) else { return };
        let old =
            (std::mem::replace(&mut known.class, class), std::mem::replace(&mut known.profiles, profiles));
        if old != (class, profiles) {
            self.due_ips.extend(known.ips());
        }
        old.0.into_iter().for_each(|class| self.classes.give_back(class));
        old.1.into_iter().flatten().for_each(|profile| self.profiles.give_back(profile));
    }

    /// What the policies that select a pod come to; nothing when none is about that direction.
    fn profile(&self, namespace: &str, pod: &Pod, direction: Direction) -> Option<Profile> {
        let policies = self.policies_of.get(namespace)?.iter().filter_map(|key| self.policies.get(key));
        let mut rules = Vec::new();
        let mut isolated = false;
        for policy in policies.filter(|policy| policy.pods.matches(&pod.labels)) {
            let about = match direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            let Some(about) = about else { continue };
            isolated = true;
            rules.extend(about.iter().filter_map(|rule| self.resolve(namespace, pod, rule, direction)));
        }
        rules.sort_unstable();
        rules.dedup();
        isolated.then_some(Profile { rules })
    }

    fn resolve(&self, namespace: &str, pod: &Pod, rule: &Rule, direction: Direction) -> Option<Resolved> {
        let (mut selections, mut blocks) = (Vec::new(), Vec::new());
        for peer in rule.peers.iter().flatten() {
            match peer {
                Peer::Pods(selection) => selections.extend(self.selections.number(namespace, selection)),
                Peer::Block(block) => blocks.extend(self.blocks.number(block)),
            }
        }
        selections.sort_unstable();
        blocks.sort_unstable();
        // Coming in, a name is one of this pod's own ports; going out, one of whoever is spoken to.
        let port = |port: &Port| match port {
            Port::Named { protocol, name } if direction == Direction::Ingress => {
                let own = pod.ports.iter().find(|(p, n, _)| p == protocol && n == name)?;
                Some(Port::Range { protocol: *protocol, first: own.2, last: own.2 })
            }
            port => Some(port.clone()),
        };
        let ports = rule.ports.as_ref().map(|ports| ports.iter().filter_map(port).collect::<Vec<Port>>());
        let everybody = rule.peers.is_none();
        let somebody = everybody || !selections.is_empty() || !blocks.is_empty();
        let something = ports.as_ref().is_none_or(|ports| !ports.is_empty());
        (somebody && something).then_some(Resolved { everybody, selections, blocks, ports })
    }

    fn cut_blocks(&mut self) {
        for (element, class) in std::mem::take(&mut self.pieces) {
            self.pending.insert(element, None);
            self.classes.give_back(class);
        }
        for ipv6 in [false, true] {
            let used = self.blocks.iter_used().map(|(number, block)| (number, &**block));
            for (first, last, blocks) in blocks::pieces(ipv6, used) {
                let class = self.classes.take(Class { everybody: true, blocks, ..Class::default() });
                let element = Element::Piece { first, last };
                self.pending.insert(element.clone(), Some(class));
                self.pieces.push((element, class));
            }
        }
        self.blocks.finish();
    }

    /// Works out what the kernel must know of an address.
    fn place(&mut self, ip: IpAddr) {
        let owner = self.claims.get(&ip).and_then(|claims| self.pods.get(claims.last()?));
        let class = owner.and_then(|owner| owner.class);
        let profiles = owner.map(|owner| owner.profiles).unwrap_or_default();
        self.pending.insert(Element::Pod { ip }, class);
        for (direction, profile) in [Direction::Ingress, Direction::Egress].into_iter().zip(profiles) {
            self.pending.insert(Element::Profile { direction, ip }, profile);
            self.pending.insert(Element::Isolated { direction, ip }, profile.map(|_| 0));
        }
        let isolated = profiles.iter().any(Option::is_some);
        self.pending.insert(Element::Itself { ip }, isolated.then_some(0));
    }

    /// What new profiles allow all classes, and all profiles new classes; and away with what is gone.
    fn pair(&mut self) {
        let (new_profiles, old_profiles) = self.profiles.finish();
        let (new_classes, old_classes) = self.classes.finish();
        // Numbers of those that are gone may be given again, so they go first.
        for (profile, rules) in &old_profiles {
            let live = self.classes.iter().map(|(number, class)| (number, class.clone()));
            let gone = old_classes.iter().cloned();
            for (class, members) in live.chain(gone).collect::<Vec<_>>() {
                self.allow((*profile, rules), (class, &members), false);
            }
        }
        if !(old_classes.is_empty() && new_classes.is_empty()) {
            let profiles: Vec<(u32, Arc<Profile>)> =
                self.profiles.iter().map(|(number, profile)| (number, profile.clone())).collect();
            for (profile, rules) in profiles.iter().filter(|(number, _)| !new_profiles.contains(number)) {
                for (class, members) in &old_classes {
                    self.allow((*profile, rules), (*class, members), false);
                }
                for class in &new_classes {
                    let Some(members) = self.classes.get(*class).cloned() else { continue };
                    self.allow((*profile, rules), (*class, &members), true);
                }
            }
        }
        if new_profiles.is_empty() {
            return;
        }
        let classes: Vec<(u32, Arc<Class>)> =
            self.classes.iter().map(|(number, class)| (number, class.clone())).collect();
        for profile in new_profiles {
            let Some(rules) = self.profiles.get(profile).cloned() else { continue };
            for (class, members) in &classes {
                self.allow((profile, &rules), (*class, members), true);
            }
        }
    }

    fn allow(&mut self, (profile, rules): (u32, &Profile), (class, members): (u32, &Class), allowed: bool) {
        for what in rules.allows(members) {
            for ipv6 in [false, true] {
                let element = Element::Allowed { ipv6, profile, class, what };
                self.pending.insert(element, allowed.then_some(0));
            }
        }
    }
}

fn namespace_of(key: &str) -> &str {
    key.split_once('/').map_or("", |(namespace, _)| namespace)
}

#[cfg(test)]
mod tests;
