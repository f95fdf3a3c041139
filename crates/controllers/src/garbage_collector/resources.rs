//! Which resources there are, and the watches that keep the graph current: one for each resource that this process
//! does not watch anyway, of metadata only.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use client::Watched;
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::graph::{Due, Graph, Object};
use crate::kit::{Key, Queue, View, World};

/// Changes of CRDs come in bursts, and what they define is served a moment later.
const SETTLE: Duration = Duration::from_millis(300);
const RETRY: Duration = Duration::from_secs(2);
/// An owner that is not in the graph is asked for after this, unless the watch tells of it first.
const LATE: Duration = Duration::from_secs(2);
/// What makes other resources come and go.
const DEFINITIONS: [&str; 2] =
    ["customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"];

/// The graph, and how to reach the objects in it.
pub struct Resources {
    client: kube::Client,
    pub graph: Mutex<Graph>,
    pub queue: Queue,
    known: RwLock<HashMap<String, (ApiResource, Scope)>>,
    /// Resources that the views of this process tell about.
    viewed: Mutex<HashSet<String>>,
    watches: Mutex<HashMap<String, AbortHandle>>,
    changed: Notify,
    /// Told the namespace in which an object has come or gone.
    on_count: RwLock<Vec<CountHandler>>,
}

type CountHandler = Box<dyn Fn(&str) + Send + Sync>;

pub fn resource_name(resource: &ApiResource) -> String {
    format!("{}.{}", resource.plural, resource.group)
}

impl Resources {
    pub fn new(client: kube::Client, queue: Queue) -> Arc<Self> {
        Arc::new(Self {
            client,
            graph: Mutex::default(),
            queue,
            known: RwLock::default(),
            viewed: Mutex::default(),
            watches: Mutex::default(),
            changed: Notify::new(),
            on_count: RwLock::default(),
        })
    }

    /// Calls `handler` with the namespace in which an object of any kind has come or gone.
    pub fn on_count(&self, handler: impl Fn(&str) + Send + Sync + 'static) {
        self.on_count.write().push(Box::new(handler));
    }

    /// How many objects of a resource (`plural.group`) there are in a namespace.
    pub fn count(&self, resource: &str, namespace: &str) -> i64 {
        self.graph.lock().count(resource, namespace)
    }

    /// An object exists as told.
    fn observe(&self, resource: &str, meta: &ObjectMeta) {
        let uid = meta.uid.as_deref().unwrap_or_default();
        let (due, is_new) = {
            let mut graph = self.graph.lock();
            let is_new = graph.get(uid).is_none();
            (graph.observe(uid, Object::new(resource.to_owned(), meta)), is_new)
        };
        self.add_due(due);
        if is_new {
            self.tell_count(meta.namespace.as_deref());
        }
    }

    fn remove(&self, uid: &str) {
        let (namespace, due) = {
            let mut graph = self.graph.lock();
            let namespace = graph.get(uid).map(|object| object.namespace.clone());
            (namespace, graph.remove(uid))
        };
        self.add_due(due);
        self.tell_count(namespace.as_deref());
    }

    fn tell_count(&self, namespace: Option<&str>) {
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            for handler in self.on_count.read().iter() {
                handler(namespace);
            }
        }
    }

    /// The requests for one resource, and whether its objects are in namespaces.
    pub fn get(&self, name: &str) -> Option<(ApiResource, Scope)> {
        self.known.read().get(name).cloned()
    }

    /// The resource of a kind, as an owner reference names it.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<(ApiResource, Scope)> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let known = self.known.read();
        known.values().find(|(resource, _)| resource.kind == kind && resource.group == group).cloned()
    }

    pub fn api(&self, resource: &ApiResource, scope: &Scope, namespace: &str) -> Api<DynamicObject> {
        match scope {
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, resource),
            Scope::Cluster => Api::all_with(self.client.clone(), resource),
        }
    }

    pub fn add_due(&self, due: Due) {
        for uid in due.now {
            self.queue.add(Key::cluster(uid));
        }
        for uid in due.later {
            self.queue.add_after(Key::cluster(uid), LATE);
        }
    }

    /// Lets the views of this process tell the graph.
    pub fn follow_views(self: &Arc<Self>, world: &World) {
        self.follow(&world.certificate_signing_requests);
        self.follow(&world.config_maps);
        self.follow(&world.controller_revisions);
        self.follow(&world.cron_jobs);
        self.follow(&world.daemon_sets);
        self.follow(&world.deployments);
        self.follow(&world.endpoint_slices);
        self.follow(&world.endpoints);
        self.follow(&world.horizontal_pod_autoscalers);
        self.follow(&world.ip_addresses);
        self.follow(&world.jobs);
        self.follow(&world.leases);
        self.follow(&world.nodes);
        self.follow(&world.persistent_volume_claims);
        self.follow(&world.persistent_volumes);
        self.follow(&world.pod_disruption_budgets);
        self.follow(&world.pods);
        self.follow(&world.replica_sets);
        self.follow(&world.replication_controllers);
        self.follow(&world.resource_claim_templates);
        self.follow(&world.resource_claims);
        self.follow(&world.resource_quotas);
        self.follow(&world.service_accounts);
        self.follow(&world.services);
        self.follow(&world.stateful_sets);
        self.follow(&world.volume_attachments);
    }

    fn follow<K: Watched>(self: &Arc<Self>, view: &View<K>) {
        let name = format!("{}.{}", K::plural(&()), K::group(&()));
        self.viewed.lock().insert(name.clone());
        let resources = self.clone();
        view.on(move |change| {
            let uid = |object: &Arc<K>| object.meta().uid.clone().unwrap_or_default();
            if let Some(old) = change.old.filter(|old| change.new.map(uid) != Some(uid(old))) {
                resources.remove(&uid(old));
            }
            if let Some(new) = change.new {
                resources.observe(&name, new.meta());
            }
        });
    }

    /// Finds out which resources there are, now and whenever a CRD changes.
    pub async fn keep_current(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let discovered = self.discover().await;
            let wait = async {
                if let Err(error) = &discovered {
                    warn!(%error, "cannot discover resources for the garbage collector, trying again");
                    tokio::time::sleep(RETRY).await;
                } else {
                    self.changed.notified().await;
                    tokio::time::sleep(SETTLE).await;
                }
            };
            tokio::select! {
                () = wait => {}
                () = shutdown.cancelled() => break,
            }
        }
        for (_, watch) in self.watches.lock().drain() {
            watch.abort();
        }
    }

    async fn discover(self: &Arc<Self>) -> Result<(), kube::Error> {
        let discovery = match Discovery::new(self.client.clone()).run_aggregated().await {
            Ok(discovery) => discovery,
            Err(_) => Discovery::new(self.client.clone()).run().await?,
        };
        let mut found = HashMap::new();
        for (resource, capabilities) in discovery.groups().flat_map(|group| group.recommended_resources()) {
            let collectable = [verbs::LIST, verbs::WATCH, verbs::DELETE]
                .iter()
                .all(|verb| capabilities.supports_operation(verb));
            // Events are told, not owned.
            if collectable && resource.kind != "Event" {
                found.insert(resource_name(&resource), (resource, capabilities.scope));
            }
        }
        let mut watches = self.watches.lock();
        watches.retain(|name, watch| {
            let stays = found.contains_key(name);
            if !stays {
                watch.abort();
                self.add_due(self.graph.lock().remove_resource(name));
            }
            stays
        });
        let viewed = self.viewed.lock();
        for (name, (resource, _)) in &found {
            if !watches.contains_key(name) && !viewed.contains(name) {
                watches
                    .insert(name.clone(), tokio::spawn(watch(self.clone(), resource.clone())).abort_handle());
            }
        }
        debug!(resources = found.len(), watches = watches.len(), "garbage collector knows what to watch");
        *self.known.write() = found;
        Ok(())
    }

    fn note_definition(&self, name: &str) {
        if DEFINITIONS.contains(&name) {
            self.changed.notify_one();
        }
    }
}

async fn watch(resources: Arc<Resources>, resource: ApiResource) {
    let name = resource_name(&resource);
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(resources.client.clone(), &resource);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                listed.extend(object.uid());
                resources.observe(&name, &object.metadata);
                resources.note_definition(&name);
            }
            Ok(Event::InitDone) => {
                let listed = std::mem::take(&mut listed);
                let missing = resources.graph.lock().missing(&name, &listed);
                missing.iter().for_each(|uid| resources.remove(uid));
            }
            Ok(Event::Apply(object)) => {
                resources.observe(&name, &object.metadata);
                resources.note_definition(&name);
            }
            Ok(Event::Delete(object)) => {
                resources.remove(object.metadata.uid.as_deref().unwrap_or_default());
                resources.note_definition(&name);
            }
            Err(error) => debug!(resource = name, %error, "watch failed, trying again"),
        }
    }
}
