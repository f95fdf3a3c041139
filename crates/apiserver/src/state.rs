//! What the parts of one API server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use api::registry::Registry;
use api::status::GroupResource;
use arc_swap::ArcSwap;
use serde_json::Value;
use store::Store;

use crate::admission::Chain;
use crate::admission::objects::Objects;
use crate::alloc::ServiceAllocator;
use crate::authn::Authenticator;
use crate::authz::Authorizer;
use crate::cache::object::Object;
use crate::cache::{Caches, object_key};
use crate::catalog::{self, Catalog};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proxy::NodeProxy;
use crate::server::StartError;
use crate::server::in_flight::InFlight;
use crate::token::Issuer;

/// One API server.
pub struct State {
    pub config: Config,
    pub store: Store,
    /// All objects; what authorization and admission look things up in.
    pub caches: Arc<Caches>,
    catalog: ArcSwap<Catalog>,
    pub issuer: Arc<Issuer>,
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    pub admission: Chain,
    pub services: ServiceAllocator,
    pub nodes: NodeProxy,
    pub in_flight: InFlight,
    pub metrics: Metrics,
    ready: AtomicBool,
    stopping: AtomicBool,
}

impl State {
    pub(crate) fn new(config: Config, store: Store) -> Result<Arc<Self>, StartError> {
        let registry = Registry::builtin();
        let for_fields = registry.clone();
        let caches = Caches::load(
            &store,
            Arc::new(move |group, plural| {
                catalog::storage(&for_fields, group, plural)
                    .map(|storage| storage.selectable_fields)
                    .unwrap_or_default()
            }),
        )?;
        let issuer = Arc::new(Issuer::new(&config)?);
        let objects: Arc<dyn Objects> = caches.clone();
        let authorizer = Arc::new(Authorizer::new(caches.clone()));
        Ok(Arc::new(Self {
            authenticator: Authenticator::new(&config, issuer.clone(), objects),
            issuer,
            admission: Chain::new(caches.clone(), authorizer.clone()),
            authorizer,
            services: ServiceAllocator::new(&config, caches.clone())?,
            nodes: NodeProxy::new(&config)?,
            in_flight: InFlight::new(&config),
            metrics: Metrics::default(),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            catalog: ArcSwap::from_pointee(Catalog::of(registry, &caches)),
            caches,
            config,
            store,
        }))
    }

    /// Whether everything that every cluster has exists.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// What is served now.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
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
