//! ResourceQuota: what a namespace may use in all.
//!
//! Usage is what the watch cache holds, summed up when somebody asks for more; so nothing that was deleted is
//! still counted, and nothing drifts. Requests that have been let through and are not stored yet are remembered
//! beside it ([`Admitted`]), and one request is judged at a time: two cannot both take the last place.
//! `status.used` of the quota is for people to read; a controller writes it. Where several API servers share a store,
//! what they have let through is in the store ([`shared`]).

mod devices;
mod shared;
pub mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use api::quantity::Quantity;
use api::status::{GroupResource, Status};
use api::validation::quota::COMPUTE;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::objects::{self, CLAIMS, DEVICE_CLAIMS, Objects, PODS, QUOTAS, SERVICES, items};
use super::{AdmissionRequest, Operation};
use crate::authz::follow::{Derived, Followed};
use crate::cache::{Caches, object_key};
use crate::state::State;
use shared::Turns;
use store::Revision;
use usage::{Amounts, Usage};

/// A write that has not reached the cache after so many milliseconds has failed.
const PATIENCE: i64 = 10_000;

/// The resources whose objects differ in what they use; of others only the number counts.
const MEASURED: [GroupResource<'static>; 4] = [PODS, SERVICES, CLAIMS, DEVICE_CLAIMS];

/// Resource and name, within a namespace.
type Key = (String, String);

/// What stored objects use, by namespace.
#[derive(Default)]
pub struct Stored {
    namespaces: AHashMap<Box<str>, BTreeMap<Key, Entry>>,
}

struct Entry {
    /// uid and resourceVersion: which state of which object this is.
    state: (String, String),
    usage: Usage,
}

/// A request that was let through.
#[derive(Serialize, Deserialize)]
struct Admitted {
    namespace: String,
    key: Key,
    /// The object that it changes, or the uid of the one that it makes.
    before: (String, String),
    usage: Usage,
    /// When, in milliseconds.
    at: i64,
    /// What had happened by then.
    revision: Revision,
}

/// Judges requests by the quotas of their namespaces.
pub struct Quotas {
    caches: Arc<Caches>,
    stored: Followed<Stored>,
    admitted: Mutex<Vec<Admitted>>,
    turns: Turns,
}

impl Derived for Stored {
    fn apply(
        &mut self,
        resource: GroupResource<'static>,
        namespace: &str,
        name: &str,
        object: Option<&Value>,
    ) {
        let key = (resource.to_string(), name.to_owned());
        let entries = self.namespaces.entry(namespace.into()).or_default();
        match object {
            Some(object) => {
                let usage = usage::of(resource, object);
                entries.insert(key, Entry { state: state(object), usage });
            }
            None => {
                entries.remove(&key);
                if entries.is_empty() {
                    self.namespaces.remove(namespace);
                }
            }
        }
    }

    fn forget(&mut self, resource: GroupResource<'static>) {
        let resource = resource.to_string();
        for entries in self.namespaces.values_mut() {
            entries.retain(|(of, _), _| *of != resource);
        }
    }
}

fn state(object: &Value) -> (String, String) {
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    (objects::uid(object).to_owned(), version.to_owned())
}

impl Quotas {
    pub fn new(caches: Arc<Caches>) -> Self {
        Self {
            stored: Followed::new(Stored::default(), &caches, &MEASURED),
            admitted: Mutex::default(),
            turns: Turns::default(),
            caches,
        }
    }

    pub async fn validate(&self, request: &AdmissionRequest<'_>, state: &State) -> Result<(), Status> {
        let resource = GroupResource::new(&request.resource.group, &request.resource.resource);
        let resizes = request.operation == Operation::Update && request.is_subresource("", "pods", "resize");
        if request.namespace.is_empty() || !(request.subresource.is_empty() || resizes) {
            return Ok(());
        }
        let judged = match request.operation {
            Operation::Update if resizes => true,
            Operation::Create => true,
            Operation::Update => resource == SERVICES || resource == CLAIMS,
            _ => false,
        };
        if !judged {
            return Ok(());
        }
        let quotas = self.caches.list(QUOTAS, request.namespace);
        let Some(any) = quotas.first() else { return Ok(()) };
        if !state.store.is_shared() {
            return self.judge(request, resource, &mut self.admitted.lock());
        }
        let _turn = self.turns.take(request.namespace).await;
        for _ in 0..shared::ATTEMPTS {
            let mut entry = shared::Entry::read(&state.store, request.namespace).await?;
            self.judge(request, resource, &mut entry.admitted)?;
            if request.dry_run || entry.write(&state.store).await? {
                return Ok(());
            }
        }
        Err(shared::busy(any))
    }

    /// Judges a request beside those that are under way, which it joins.
    fn judge(
        &self,
        request: &AdmissionRequest<'_>,
        resource: GroupResource<'_>,
        admitted: &mut Vec<Admitted>,
    ) -> Result<(), Status> {
        let quotas = self.caches.list(QUOTAS, request.namespace);
        let after = usage::of(resource, &request.object);
        let before = match request.operation {
            Operation::Update => usage::of(resource, request.old_object),
            _ => Usage::default(),
        };
        let now = Timestamp::now().as_millisecond();
        let stored = self.stored.read();
        let known = stored.namespaces.get(request.namespace);
        admitted.retain(|other| {
            let entry = known.and_then(|entries| entries.get(&other.key));
            let open = other.namespace != request.namespace || self.is_open(other, entry);
            open && now.saturating_sub(other.at) < PATIENCE
        });
        // What a pod leaves out is told before what it asks for.
        let judging = || quotas.iter().filter(|quota| usage::in_scope(quota, &after));
        judging().try_for_each(|quota| check_specified(request, resource, quota))?;
        for quota in judging() {
            let used = |name: &str| self.used(request.namespace, resource, quota, name, known, admitted);
            let more = |name: &str| {
                let amount = |usage| devices::amount(&*self.caches, request.namespace, usage, name);
                amount(&after).minus(amount(&before))
            };
            check_amounts(request, quota, more, used)?;
        }
        if !request.dry_run {
            let before = match request.operation {
                Operation::Update => state(request.old_object),
                _ => (objects::uid(&request.object).to_owned(), String::new()),
            };
            admitted.push(Admitted {
                namespace: request.namespace.to_owned(),
                key: (resource.to_string(), objects::name(&request.object).to_owned()),
                before,
                usage: after,
                at: now,
                revision: self.caches.applied(),
            });
        }
        Ok(())
    }

    /// Whether the write of an admitted request has not been seen yet.
    fn is_open(&self, admitted: &Admitted, entry: Option<&Entry>) -> bool {
        if !admitted.before.1.is_empty() {
            // Changed: stored by now if it is another state, or gone.
            return entry.is_some_and(|entry| entry.state == admitted.before);
        }
        // Made: stored by now if anything has become of the object, be it that it is gone again.
        let (plural, group) = admitted.key.0.split_once('.').unwrap_or((&admitted.key.0, ""));
        let key = object_key(&admitted.namespace, &admitted.key.1);
        !self.caches.resource(group, plural).has_changed(&key, admitted.revision)
    }

    /// How much is used of what a quota calls `name`, requests under way included.
    fn used(
        &self,
        namespace: &str,
        resource: GroupResource<'_>,
        quota: &Value,
        name: &str,
        known: Option<&BTreeMap<Key, Entry>>,
        admitted: &[Admitted],
    ) -> Quantity {
        let under_way =
            |key: &Key| admitted.iter().find(|other| other.namespace == namespace && other.key == *key);
        let amount = |usage: &Usage| match usage::in_scope(quota, usage) {
            true => devices::amount(&*self.caches, namespace, usage, name),
            false => Quantity::default(),
        };
        let pending: Quantity = admitted
            .iter()
            .filter(|other| other.namespace == namespace)
            .map(|other| amount(&other.usage))
            .sum();
        if MEASURED.contains(&resource) {
            let stored: Quantity = known
                .into_iter()
                .flatten()
                .filter(|(key, _)| under_way(key).is_none())
                .map(|(_, entry)| amount(&entry.usage))
                .sum();
            return stored + pending;
        }
        let mut count = 0_i64;
        self.caches.resource(resource.group, resource.resource).scan(namespace, "", |object| {
            let key = (resource.to_string(), object.name().to_owned());
            count += i64::from(under_way(&key).is_none());
            true
        });
        usage::one().times(count) + pending
    }
}

/// A quota on compute resources asks every container to say what it needs of them.
fn check_specified(
    request: &AdmissionRequest<'_>,
    resource: GroupResource<'_>,
    quota: &Value,
) -> Result<(), Status> {
    if resource != PODS {
        return Ok(());
    }
    let spec = &request.object["spec"];
    let of_pod = usage::compute(
        &usage::list(&spec["resources"]["requests"]),
        &usage::list(&spec["resources"]["limits"]),
    );
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in
        COMPUTE.iter().filter(|name| !quota["spec"]["hard"][**name].is_null() && !of_pod.contains_key(**name))
    {
        for container in items(&spec["containers"]).chain(items(&spec["initContainers"])) {
            let resources = &container["resources"];
            let told =
                usage::compute(&usage::list(&resources["requests"]), &usage::list(&resources["limits"]));
            if !told.contains_key(*name) {
                missing.entry(name).or_default().push(container["name"].as_str().unwrap_or_default());
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = missing
        .into_iter()
        .map(|(name, mut containers)| {
            containers.sort_unstable();
            format!("{name} for: {}", containers.join(","))
        })
        .collect();
    Err(request.forbidden(format!(
        "failed quota: {}: must specify {}",
        objects::name(quota),
        told.join("; ")
    )))
}

fn check_amounts(
    request: &AdmissionRequest<'_>,
    quota: &Value,
    more: impl Fn(&str) -> Quantity,
    used: impl Fn(&str) -> Quantity,
) -> Result<(), Status> {
    let (mut requested, mut in_use, mut limited) = (Amounts::new(), Amounts::new(), Amounts::new());
    for (name, hard) in usage::list(&quota["spec"]["hard"]) {
        let more = more(&name);
        if more <= Quantity::default() {
            continue;
        }
        let now = used(&name);
        if now + more > hard {
            requested.insert(name.clone(), more);
            in_use.insert(name.clone(), now);
            limited.insert(name, hard);
        }
    }
    if requested.is_empty() {
        return Ok(());
    }
    let show = |amounts: &Amounts| {
        let all: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        all.join(",")
    };
    Err(request.forbidden(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        objects::name(quota),
        show(&requested),
        show(&in_use),
        show(&limited)
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Case;
    use super::*;

    fn quota(hard: Value) -> Value {
        json!({"metadata": {"name": "q", "namespace": "ns"}, "spec": {"hard": hard}})
    }

    fn pod(name: &str, resources: Value) -> Value {
        json!({"metadata": {"namespace": "ns", "name": name, "uid": format!("uid-{name}")},
               "spec": {"containers": [{"name": "c", "resources": resources}]}})
    }

    #[test]
    fn amounts() {
        let check = |hard: Value, used: &str, expected: &str| {
            let object = pod("x", json!({"requests": {"cpu": "500m"}}));
            let case = Case::create("", "pods", object.clone());
            let after = usage::of(PODS, &object);
            let used: Quantity = used.parse().expect("a quantity");
            let more = |name: &str| after.amounts.get(name).copied().unwrap_or_default();
            let refusal = case.refusal(|request| check_amounts(request, &quota(hard), more, |_| used));
            assert_eq!(refusal, expected);
        };
        check(json!({"pods": "3"}), "2", "");
        check(
            json!({"pods": "3", "requests.cpu": "10"}),
            "3",
            r#"pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"#,
        );
        check(
            json!({"requests.cpu": "3"}),
            "3",
            r#"pods "x" is forbidden: exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=3, limited: requests.cpu=3"#,
        );
        check(json!({"secrets": "0"}), "5", "");
    }

    #[test]
    fn containers_have_to_say_what_they_need() {
        let check = |resources: Value, expected: &str| {
            let case = Case::create("", "pods", pod("x", resources));
            let quota = quota(json!({"requests.cpu": "3", "limits.memory": "1Gi", "pods": "5"}));
            assert_eq!(case.refusal(|request| check_specified(request, PODS, &quota)), expected);
        };
        check(json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Mi"}}), "");
        check(
            json!({}),
            r#"pods "x" is forbidden: failed quota: q: must specify limits.memory for: c; requests.cpu for: c"#,
        );
    }

    #[test]
    fn follows_objects() {
        let mut stored = Stored::default();
        stored.apply(PODS, "ns", "a", Some(&pod("a", json!({"requests": {"cpu": "1"}}))));
        stored.apply(SERVICES, "ns", "a", Some(&json!({})));
        stored.apply(PODS, "ns", "a", Some(&pod("a", json!({"requests": {"cpu": "2"}}))));
        let entry = &stored.namespaces["ns"][&("pods".to_owned(), "a".to_owned())];
        assert_eq!(entry.usage.amounts["cpu"].to_string(), "2");
        stored.forget(PODS);
        assert_eq!(stored.namespaces["ns"].len(), 1);
        stored.apply(SERVICES, "ns", "a", None);
        assert!(stored.namespaces.is_empty());
    }
}
