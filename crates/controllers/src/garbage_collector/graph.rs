//! Who owns whom, over all kinds. Free of IO.

use std::collections::{HashMap, HashSet, VecDeque};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::kit::meta;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";
/// UIDs that are known to be gone, kept so that their dependents need no question.
const REMEMBERED: usize = 10_000;

pub type Uid = String;

/// The name of a resource as the registry of the collector knows it: `plural.group`.
pub type ResourceName = String;

#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    pub uid: Uid,
    pub api_version: String,
    pub kind: String,
    pub name: String,
    /// Whether the owner's foreground deletion waits for the dependent.
    pub blocks: bool,
}

impl From<&OwnerReference> for Owner {
    fn from(reference: &OwnerReference) -> Self {
        Self {
            uid: reference.uid.clone(),
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
            blocks: reference.block_owner_deletion == Some(true),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub resource: ResourceName,
    pub namespace: String,
    pub name: String,
    pub owners: Vec<Owner>,
    pub deletion: Deletion,
}

/// How far the deletion of an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    No,
    /// Under way, without any of the collector's finalizers.
    Plain,
    /// It waits for its dependents.
    Foreground,
    /// Its dependents are to be let go first.
    Orphaning,
}

impl Object {
    pub fn new(resource: ResourceName, meta: &ObjectMeta) -> Self {
        Self {
            resource,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            owners: meta.owner_references.iter().flatten().map(Owner::from).collect(),
            deletion: Deletion::of(meta),
        }
    }
}

impl Deletion {
    pub fn of(meta: &ObjectMeta) -> Self {
        if meta.deletion_timestamp.is_none() {
            Self::No
        } else if meta::has_finalizer(meta, ORPHAN) {
            Self::Orphaning
        } else if meta::has_finalizer(meta, FOREGROUND) {
            Self::Foreground
        } else {
            Self::Plain
        }
    }
}

/// Objects that a change makes due.
#[derive(Debug, Default, PartialEq)]
pub struct Due {
    pub now: Vec<Uid>,
    /// Not at once: the watch of the owner's kind may only be late.
    pub later: Vec<Uid>,
}

/// What is known about an owner without asking the API server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Presence {
    Present,
    /// Present, but waiting for its dependents to go.
    Waiting,
    /// The UID is that of an object in another namespace: as an owner it does not count.
    Elsewhere,
    Absent,
    Unknown,
}

#[derive(Default)]
pub struct Graph {
    objects: HashMap<Uid, Object>,
    dependents: HashMap<Uid, HashSet<Uid>>,
    /// How many objects there are of a resource in a namespace.
    counts: HashMap<(ResourceName, String), i64>,
    absent: HashSet<Uid>,
    absent_order: VecDeque<Uid>,
}

impl Graph {
    pub fn get(&self, uid: &str) -> Option<&Object> {
        self.objects.get(uid)
    }

    pub fn count(&self, resource: &str, namespace: &str) -> i64 {
        self.counts.get(&(resource.to_owned(), namespace.to_owned())).copied().unwrap_or(0)
    }

    fn add_count(&mut self, object: &Object, change: i64) {
        let key = (object.resource.clone(), object.namespace.clone());
        let count = self.counts.entry(key.clone()).or_default();
        *count += change;
        if *count == 0 {
            self.counts.remove(&key);
        }
    }

    pub fn presence(&self, uid: &str) -> Presence {
        match self.objects.get(uid).map(|object| object.deletion) {
            Some(Deletion::Foreground) => Presence::Waiting,
            Some(_) => Presence::Present,
            None if self.absent.contains(uid) => Presence::Absent,
            None => Presence::Unknown,
        }
    }

    /// The presence of an owner, as the object with this metadata may have it.
    pub fn presence_for(&self, owner: &str, dependent: &ObjectMeta) -> Presence {
        let namespace = dependent.namespace.as_deref().unwrap_or_default();
        match self.objects.get(owner) {
            Some(found) if !found.namespace.is_empty() && found.namespace != namespace => Presence::Elsewhere,
            _ => self.presence(owner),
        }
    }

    pub fn dependents(&self, uid: &str) -> Vec<Uid> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The dependents that the foreground deletion of an object waits for.
    pub fn blockers(&self, uid: &str) -> Vec<Uid> {
        let mut dependents = self.dependents(uid);
        dependents.retain(|dependent| {
            let owners =
                self.objects.get(dependent).map(|object| object.owners.as_slice()).unwrap_or_default();
            owners.iter().any(|owner| owner.uid == uid && owner.blocks)
        });
        dependents
    }

    /// An object exists as told.
    pub fn observe(&mut self, uid: &str, object: Object) -> Due {
        let mut due = Due::default();
        let old = self.objects.get(uid);
        if old == Some(&object) {
            return due;
        }
        let old_owners = old.map(|old| old.owners.clone()).unwrap_or_default();
        let old_deletion = old.map_or(Deletion::No, |old| old.deletion);
        for owner in &old_owners {
            self.unlink(&owner.uid, uid);
        }
        for owner in &object.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.to_owned());
        }
        // An owner that no longer has to wait may go.
        for owner in old_owners.iter().filter(|old| !object.owners.contains(old)) {
            if self.presence(&owner.uid) == Presence::Waiting {
                due.now.push(owner.uid.clone());
            }
        }
        if old_owners != object.owners {
            let presences: Vec<_> = object.owners.iter().map(|owner| self.presence(&owner.uid)).collect();
            let elsewhere = |owner: &Owner| {
                let found = self.objects.get(&owner.uid);
                found.is_some_and(|found| !found.namespace.is_empty() && found.namespace != object.namespace)
            };
            if presences.iter().any(|presence| matches!(presence, Presence::Absent | Presence::Waiting))
                || object.owners.iter().any(elsewhere)
            {
                due.now.push(uid.to_owned());
            } else if presences.contains(&Presence::Unknown) {
                due.later.push(uid.to_owned());
            }
        }
        if object.deletion != old_deletion {
            match object.deletion {
                Deletion::Foreground => {
                    due.now.push(uid.to_owned());
                    due.now.extend(self.dependents(uid));
                }
                Deletion::Orphaning => due.now.push(uid.to_owned()),
                Deletion::No | Deletion::Plain => {}
            }
        }
        if !self.objects.contains_key(uid) {
            self.add_count(&object, 1);
        }
        self.objects.insert(uid.to_owned(), object);
        due
    }

    /// An object is gone.
    pub fn remove(&mut self, uid: &str) -> Due {
        let mut due = Due::default();
        let Some(object) = self.objects.remove(uid) else { return due };
        self.add_count(&object, -1);
        self.remember_absent(uid);
        for owner in &object.owners {
            self.unlink(&owner.uid, uid);
            if self.presence(&owner.uid) == Presence::Waiting {
                due.now.push(owner.uid.clone());
            }
        }
        due.now.extend(self.dependents(uid));
        due
    }

    /// A whole resource has gone, with its CRD.
    pub fn remove_resource(&mut self, resource: &str) -> Due {
        let of_resource = self.objects.iter().filter(|(_, object)| object.resource == resource);
        let gone: Vec<Uid> = of_resource.map(|(uid, _)| uid.clone()).collect();
        let mut due = Due::default();
        for uid in gone {
            due.now.extend(self.remove(&uid).now);
        }
        due
    }

    /// The API server has no such object.
    pub fn remember_absent(&mut self, uid: &str) {
        if self.absent.insert(uid.to_owned()) {
            self.absent_order.push_back(uid.to_owned());
        }
        while self.absent_order.len() > REMEMBERED {
            if let Some(oldest) = self.absent_order.pop_front() {
                self.absent.remove(&oldest);
            }
        }
    }

    /// UIDs of a resource that a fresh list did not name.
    pub fn missing(&self, resource: &str, listed: &HashSet<Uid>) -> Vec<Uid> {
        let missing =
            self.objects.iter().filter(|(uid, object)| object.resource == resource && !listed.contains(*uid));
        missing.map(|(uid, _)| uid.clone()).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(owners: &[(&str, bool)], deleting: Option<&str>) -> Object {
        let owners: Vec<_> = owners
            .iter()
            .map(|(uid, blocks)| json!({"apiVersion": "v1", "kind": "K", "name": uid, "uid": uid, "blockOwnerDeletion": blocks}))
            .collect();
        let mut value = json!({"name": "x", "ownerReferences": owners});
        if let Some(finalizer) = deleting {
            value["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            value["finalizers"] = json!([finalizer]);
        }
        Object::new("ks.".to_owned(), &serde_json::from_value(value).unwrap())
    }

    fn due(now: &[&str], later: &[&str]) -> Due {
        let own = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect();
        Due { now: own(now), later: own(later) }
    }

    #[test]
    fn the_end_of_an_owner_makes_its_dependents_due() {
        let mut graph = Graph::default();
        assert_eq!(graph.observe("owner", object(&[], None)), due(&[], &[]));
        assert_eq!(graph.observe("a", object(&[("owner", true)], None)), due(&[], &[]));
        assert_eq!(graph.remove("owner"), due(&["a"], &[]));
        assert_eq!(graph.presence("owner"), Presence::Absent);
        assert_eq!(graph.observe("b", object(&[("owner", true)], None)), due(&["b"], &[]), "born too late");
        assert_eq!(
            graph.observe("c", object(&[("never", true)], None)),
            due(&[], &["c"]),
            "perhaps only not seen yet"
        );
        graph.remove("a");
        graph.remove("b");
        graph.remove("c");
        assert!(graph.dependents.is_empty() && graph.objects.is_empty() && graph.counts.is_empty());
    }

    #[test]
    fn foreground_deletion_waits_for_those_who_block() {
        let mut graph = Graph::default();
        graph.observe("owner", object(&[], None));
        graph.observe("blocks", object(&[("owner", true)], None));
        graph.observe("does-not", object(&[("owner", false)], None));
        let mut found = graph.observe("owner", object(&[], Some(FOREGROUND)));
        found.now.sort();
        assert_eq!(found, due(&["blocks", "does-not", "owner"], &[]));
        assert_eq!(graph.presence("owner"), Presence::Waiting);
        assert_eq!(graph.blockers("owner"), ["blocks"]);
        assert_eq!(graph.remove("blocks"), due(&["owner"], &[]));
        assert!(graph.blockers("owner").is_empty());
    }

    #[test]
    fn orphaning_and_released_dependents() {
        let mut graph = Graph::default();
        graph.observe("owner", object(&[], None));
        graph.observe("a", object(&[("owner", true)], None));
        assert_eq!(graph.observe("owner", object(&[], Some(ORPHAN))), due(&["owner"], &[]));
        graph.observe("owner", object(&[], Some(FOREGROUND)));
        assert_eq!(graph.observe("a", object(&[], None)), due(&["owner"], &[]));
        assert!(graph.dependents("owner").is_empty());
    }

    #[test]
    fn the_memory_of_the_absent_is_bounded() {
        let mut graph = Graph::default();
        for n in 0..2 * REMEMBERED {
            graph.remember_absent(&n.to_string());
        }
        assert_eq!((graph.absent.len(), graph.absent_order.len()), (REMEMBERED, REMEMBERED));
    }

    #[test]
    fn a_fresh_list_tells_who_is_missing() {
        let mut graph = Graph::default();
        graph.observe("a", object(&[], None));
        graph.observe("b", object(&[], None));
        assert_eq!((graph.count("ks.", ""), graph.count("ks.", "other")), (2, 0));
        assert_eq!(graph.missing("ks.", &HashSet::from(["a".to_owned()])), ["b"]);
        assert!(graph.missing("others.", &HashSet::new()).is_empty());
        graph.remove_resource("ks.");
        assert!(graph.objects.is_empty());
    }
}
