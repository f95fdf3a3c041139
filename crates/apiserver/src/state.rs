//! What the parts of one API server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::registry::Registry;
use api::status::{GroupResource, Status};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admission::Chain;
use crate::admission::configuration::Configured;
use crate::admission::objects::Objects;
use crate::aggregation::Aggregation;
use crate::aggregation::shown::Shown;
use crate::alloc::ServiceAllocator;
use crate::audit::Audit;
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::cache::object::Object;
use crate::cache::{Caches, object_key};
use crate::catalog::{self, Catalog};
use crate::config::Config;
use crate::encryption::Encryption;
use crate::flow_control::FlowControl;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::proxy::NodeProxy;
use crate::server::StartError;
use crate::server::health::Health;
use crate::server::in_flight::InFlight;
use crate::token::Issuer;

/// One API server.
pub struct State {
    pub config: Config,
    pub store: Store,
    /// All objects; what authorization and admission look things up in.
    pub caches: Arc<Caches>,
    catalog: ArcSwap<Catalog>,
    /// What is shown of other servers; held while the catalog is changed.
    shown: Mutex<Arc<Shown>>,
    /// Who those are.
    pub aggregation: Aggregation,
    served: watch::Sender<u64>,
    pub issuer: Arc<Issuer>,
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub admission: Chain,
    pub services: ServiceAllocator,
    pub nodes: NodeProxy,
    /// Calls to webhooks and aggregated servers.
    pub outbound: Arc<Outbound>,
    pub in_flight: InFlight,
    pub flow_control: FlowControl,
    /// None where nothing is recorded.
    pub audit: Option<Arc<Audit>>,
    pub metrics: Metrics,
    pub health: Health,
    pub started: Timestamp,
    stopping: AtomicBool,
    /// No more connections are taken, and watches over them end.
    pub draining: CancellationToken,
}

impl State {
    pub(crate) async fn new(config: Config, store: Store) -> Result<Arc<Self>, StartError> {
        let encryption = Encryption::start(config.encryption_config.as_deref())?;
        let registry = Registry::builtin();
        let for_fields = registry.clone();
        let caches = Caches::load(
            &store,
            Arc::new(move |group, plural| {
                catalog::storage(&for_fields, group, plural)
                    .map(|storage| storage.selectable_fields)
                    .unwrap_or_default()
            }),
            encryption,
        )
        .await?;
        let issuer = Arc::new(Issuer::new(&config)?);
        let identity = config.proxy_client_cert.as_deref().zip(config.proxy_client_key.as_deref());
        let outbound = Arc::new(
            Outbound::new(caches.clone(), config.inside.clone(), identity).map_err(Status::internal)?,
        );
        let objects: Arc<dyn Objects> = caches.clone();
        let authorizer = Arc::new(Authorizer::new(caches.clone(), &config.authorization)?);
        let configured = Configured::load(config.admission_config.as_deref(), &config.admission)?;
        Ok(Arc::new(Self {
            authenticator: Authenticator::new(&config, issuer.clone(), objects)?,
            issuer,
            admission: Chain::new(caches.clone(), authorizer.clone(), config.admission.clone(), configured),
            authorizer,
            services: ServiceAllocator::new(&config, caches.clone())?,
            nodes: NodeProxy::new(&config)?,
            outbound,
            in_flight: InFlight::new(&config),
            flow_control: FlowControl::new(
                config.max_requests_in_flight.saturating_add(config.max_mutating_requests_in_flight),
            ),
            audit: Audit::start(&config.audit)?,
            metrics: Metrics::default(),
            health: Health::default(),
            started: Timestamp::now(),
            stopping: AtomicBool::new(false),
            draining: CancellationToken::new(),
            served: watch::Sender::new(0),
            shown: Mutex::default(),
            aggregation: Aggregation::default(),
            catalog: ArcSwap::from_pointee(Catalog::of(registry, &caches)),
            caches,
            config,
            store,
        }))
    }

    /// Resolves when the caches hold all that had been written before the call, by this server or another one of the
    /// same store.
    pub async fn settle(&self) -> Result<(), Status> {
        if !self.store.is_shared() {
            return Ok(());
        }
        self.store.settle().await.map(drop).map_err(|error| store_failed("read", &error))
    }

    /// Whether the server is to stop: load balancers are told not to come any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn set_catalog(&self, catalog: Catalog) {
        let shown = self.shown.lock();
        self.catalog.store(Arc::new(catalog.showing(&shown)));
        drop(shown);
        self.served.send_modify(|changes| *changes += 1);
    }

    /// What is discovered here, from now on, of what others serve.
    pub(crate) fn set_shown(&self, shown: Shown) {
        let mut before = self.shown.lock();
        if **before != shown {
            *before = Arc::new(shown);
            self.catalog.store(Arc::new(self.catalog.load().showing(&before)));
        }
    }

    /// Wakes whenever something else is served.
    pub fn catalog_changes(&self) -> watch::Receiver<u64> {
        self.served.subscribe()
    }

    /// What is served now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }
}

/// What a client is told when the store does not do its part.
pub fn store_failed(what: &str, error: &store::Error) -> Status {
    match error {
        // It may be there again soon; a write may even have happened.
        store::Error::Unavailable { .. } => Status::timeout(format!("the object was not {what}: {error}"), 1),
        error => Status::internal(format!("the object was not {what}: {error}")),
    }
}

/// Reads for authorization and admission.
impl Objects for Caches {
    fn get(&self, resource: GroupResource<'_>, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let object = self.resource(resource.group, resource.resource).get(&object_key(namespace, name))?;
        Some(value(resource, &object))
    }

    fn list(&self, resource: GroupResource<'_>, namespace: &str) -> Vec<Arc<Value>> {
        let mut objects = Vec::new();
        self.resource(resource.group, resource.resource).scan(namespace, "", |object| {
            objects.push(object.clone());
            true
        });
        objects.iter().map(|object| value(resource, object)).collect()
    }
}

/// What every write looks at is parsed once and kept; it is little.
fn value(resource: GroupResource<'_>, object: &Object) -> Arc<Value> {
    match resource.resource {
        "namespaces" | "serviceaccounts" | "limitranges" | "resourcequotas" | "priorityclasses"
        | "runtimeclasses" => object.shared_value(),
        _ => Arc::new(object.value()),
    }
}
