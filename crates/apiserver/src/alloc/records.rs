//! IPAddresses: one for each cluster IP, saying whose it is.
//!
//! They are made before the Service is written, so that nobody else takes the address, be it another API server or a
//! user with an IPAddress of his own. A task keeps them in step from then on: it removes those of addresses that have
//! been given up, and makes those that are missing. It also keeps the ServiceCIDR of the configured ranges.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::AHashMap;
use api::status::{GroupResource, Status};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::ranges::SERVICE_CIDRS;
use super::taken::{Item, items_of, parent};
use crate::admission::objects::{self, SERVICES};
use crate::authz::follow::{Derived, Followed};
use crate::bootstrap;
use crate::options::{DeleteOptions, Query};
use crate::state::State;

pub const IP_ADDRESSES: GroupResource<'static> = GroupResource::new("networking.k8s.io", "ipaddresses");
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// The ServiceCIDR of the configured ranges.
const DEFAULT_RANGE: &str = "kubernetes";
/// A Service may still be on its way for so long after its IPAddress was made; as upstream.
const GRACE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);

/// Makes the IPAddresses of a Service that is about to be written.
pub fn record<'a>(state: &'a Arc<State>, service: &'a Value) -> BoxFuture<'a, Result<(), Status>> {
    async move {
        for item in items_of(service) {
            let Item::Address(address) = item else { continue };
            make(state, address, objects::namespace(service), objects::name(service)).await?;
        }
        Ok(())
    }
    .boxed()
}

/// Removes the IPAddresses of addresses that a Service has had, and (by its state `now`) has no more.
pub fn release<'a>(state: &'a Arc<State>, before: &'a Value, now: Option<&'a Value>) -> BoxFuture<'a, ()> {
    async move {
        let kept = now.map(items_of).unwrap_or_default();
        let service = format!("{}/{}", objects::namespace(before), objects::name(before));
        for item in items_of(before).difference(&kept) {
            let Item::Address(address) = item else { continue };
            let cache = state.caches.resource(IP_ADDRESSES.group, IP_ADDRESSES.resource);
            let Some(record) = cache.get(&address.to_string()).map(|record| record.value()) else { continue };
            if !is_ours(&record) || parent(&record).as_deref() != Some(&service) {
                continue;
            }
            let revision = record["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            if let Err(error) = remove(state, *address, revision).await {
                // The task that keeps them in step will.
                debug!(%address, %error, "the IPAddress of an address that was given up is still there");
            }
        }
    }
    .boxed()
}

/// Whether it was made here, and is not a user's own.
fn is_ours(record: &Value) -> bool {
    objects::label(record, MANAGED_BY) == Some(ALLOCATOR)
}

async fn make(state: &Arc<State>, address: IpAddr, namespace: &str, name: &str) -> Result<(), Status> {
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "labels": {FAMILY: if address.is_ipv4() { "IPv4" } else { "IPv6" }, MANAGED_BY: ALLOCATOR},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": name}},
    });
    bootstrap::ensure_quietly(state, IP_ADDRESSES, object).await
}

/// Makes the ServiceCIDR of the configured ranges.
pub async fn default_range(state: &Arc<State>) -> Result<(), Status> {
    let cidrs: Vec<&str> = state.config.service_cidr.split(',').collect();
    let range = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": DEFAULT_RANGE},
        "spec": {"cidrs": cidrs},
    });
    bootstrap::ensure_quietly(state, SERVICE_CIDRS, range).await?;
    let conditions =
        |range: &Value| range["status"]["conditions"].as_array().is_some_and(|list| !list.is_empty());
    let live = state.caches.resource(SERVICE_CIDRS.group, SERVICE_CIDRS.resource).get(DEFAULT_RANGE);
    if live.is_some_and(|live| conditions(&live.value())) {
        return Ok(());
    }
    bootstrap::update_status(state, SERVICE_CIDRS, DEFAULT_RANGE, "kube-apiserver", &|live| {
        let mut range = live.clone();
        if !conditions(live) {
            range["status"] = json!({"conditions": [{
                "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": crate::write::meta::now(),
                "message": "Kubernetes default Service CIDR is ready",
            }]});
        }
        Ok(range)
    })
    .await
}

/// Whose addresses are, by the Services and by the IPAddresses, and which of them have to be looked at.
#[derive(Default)]
struct Records {
    /// `namespace/name` of the Service that has an address.
    wanted: AHashMap<IpAddr, String>,
    of_service: AHashMap<String, Vec<IpAddr>>,
    /// Addresses with an IPAddress of this allocator, for a Service.
    made: AHashMap<IpAddr, Made>,
    known: HashSet<IpAddr>,
    due: Mutex<HashSet<IpAddr>>,
    /// Of which it is known that their Service has given them up.
    released: Mutex<HashSet<IpAddr>>,
}

#[derive(Clone)]
struct Made {
    revision: String,
    since: Timestamp,
}

impl Derived for Records {
    fn apply(
        &mut self,
        resource: GroupResource<'static>,
        namespace: &str,
        name: &str,
        object: Option<&Value>,
    ) {
        if resource.resource == SERVICES.resource {
            let service = format!("{namespace}/{name}");
            for address in self.of_service.remove(&service).unwrap_or_default() {
                if self.wanted.get(&address) == Some(&service) {
                    self.wanted.remove(&address);
                    self.released.lock().insert(address);
                    self.due.lock().insert(address);
                }
            }
            let held = object.map(items_of).unwrap_or_default().into_iter();
            let held: Vec<IpAddr> = held
                .filter_map(|item| match item {
                    Item::Address(address) => Some(address),
                    Item::Port(_) => None,
                })
                .collect();
            for address in &held {
                self.wanted.insert(*address, service.clone());
                self.released.lock().remove(address);
                self.due.lock().insert(*address);
            }
            if !held.is_empty() {
                self.of_service.insert(service, held);
            }
            return;
        }
        let Ok(address) = name.parse() else { return };
        self.made.remove(&address);
        self.known.remove(&address);
        if let Some(object) = object {
            self.known.insert(address);
            if is_ours(object) && parent(object).is_some() {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
                let since = text("creationTimestamp").parse().unwrap_or(Timestamp::UNIX_EPOCH);
                let revision = text("resourceVersion").to_owned();
                self.made.insert(address, Made { revision, since });
            }
        }
        self.due.lock().insert(address);
    }

    fn forget(&mut self, resource: GroupResource<'static>) {
        if resource.resource == SERVICES.resource {
            self.wanted.clear();
            self.of_service.clear();
        } else {
            self.made.clear();
            self.known.clear();
        }
    }
}

/// What is to be done about an address.
enum Step {
    Make { namespace: String, name: String },
    Remove { revision: String },
    Wait(Duration),
}

impl Records {
    fn step(&self, address: IpAddr, now: Timestamp) -> Option<Step> {
        if let Some(service) = self.wanted.get(&address) {
            let (namespace, name) = service.split_once('/')?;
            let missing = !self.known.contains(&address);
            return missing.then(|| Step::Make { namespace: namespace.to_owned(), name: name.to_owned() });
        }
        let made = self.made.get(&address)?;
        let age = Duration::try_from(now.duration_since(made.since)).unwrap_or_default();
        if self.released.lock().remove(&address) || age >= GRACE {
            return Some(Step::Remove { revision: made.revision.clone() });
        }
        Some(Step::Wait(GRACE - age))
    }
}

pub fn start(state: &Arc<State>) {
    tokio::spawn(keep(Arc::downgrade(state)));
}

async fn keep(state: Weak<State>) {
    let Some(strong) = state.upgrade() else { return };
    let changes = |resource: GroupResource<'static>| {
        strong.caches.resource(resource.group, resource.resource).changes()
    };
    let (mut services, mut addresses, mut ranges) =
        (changes(SERVICES), changes(IP_ADDRESSES), changes(SERVICE_CIDRS));
    let records = Followed::new(Records::default(), &strong.caches, &[SERVICES, IP_ADDRESSES]);
    drop(strong);
    loop {
        for changes in [&mut services, &mut addresses, &mut ranges] {
            changes.mark_unchanged();
        }
        let Some(strong) = state.upgrade() else { return };
        let again = look(&strong, &records).await;
        drop(strong);
        tokio::select! {
            changed = services.changed() => if changed.is_err() { return },
            changed = addresses.changed() => if changed.is_err() { return },
            changed = ranges.changed() => if changed.is_err() { return },
            () = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// Does what is due, and says when to look again although nothing has changed.
async fn look(state: &Arc<State>, records: &Followed<Records>) -> Option<Instant> {
    let mut again: Option<Duration> = None;
    if let Err(error) = default_range(state).await {
        warn!(%error, "the ServiceCIDR of the configured ranges is not as it should be");
        again = Some(RETRY);
    }
    let now = Timestamp::now();
    let steps: Vec<(IpAddr, Step)> = {
        let records = records.read();
        let due = std::mem::take(&mut *records.due.lock());
        due.into_iter().filter_map(|address| Some((address, records.step(address, now)?))).collect()
    };
    for (address, step) in steps {
        let done = match step {
            Step::Wait(left) => {
                again = Some(again.map_or(left, |again| again.min(left)));
                records.read().due.lock().insert(address);
                continue;
            }
            Step::Make { namespace, name } => make(state, address, &namespace, &name).await,
            Step::Remove { revision } => remove(state, address, &revision).await,
        };
        if let Err(error) = done {
            warn!(%address, %error, "the IPAddress of a cluster IP is not as it should be");
            records.read().due.lock().insert(address);
            again = Some(RETRY);
        }
    }
    again.map(|left| Instant::now() + left)
}

/// Removes the IPAddress, unless it is another one by now.
async fn remove(state: &Arc<State>, address: IpAddr, revision: &str) -> Result<(), Status> {
    let options = DeleteOptions {
        resource_version: Some(revision.to_owned()),
        ..DeleteOptions::parse(&Query::default(), None)?
    };
    match bootstrap::delete_quietly(state, IP_ADDRESSES, &address.to_string(), &options).await {
        Err(status) if status.is("NotFound") || status.is("Conflict") => Ok(()),
        done => done,
    }
}
