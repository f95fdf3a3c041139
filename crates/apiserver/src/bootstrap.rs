//! What every cluster has: made at each start where it is missing, concurrently, so that it costs a few commits.

use std::net::IpAddr;
use std::sync::Arc;

use api::status::{GroupResource, Status};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::UserInfo;
use crate::alloc::records;
use crate::authn::legacy;
use crate::authn::request_header;
use crate::authn::user::MASTERS;
use crate::authz::policy;
use crate::options::{DeleteOptions, WriteOptions};
use crate::peers;
use crate::server::StartError;
use crate::server::health::Step;
use crate::state::State;
use crate::write::update::Change;
use crate::write::{Writer, meta};

pub(crate) const USER: &str = "system:apiserver";
const MANAGER: &str = "kube-apiserver";
const CONCURRENT: usize = 128;

const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// Name, value, description.
const PRIORITY_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

pub async fn run(state: &Arc<State>) -> Result<(), StartError> {
    let namespaces = NAMESPACES.iter().map(|name| {
        ensure(
            state,
            ("", "namespaces"),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
    });
    all(namespaces.collect()).await?;
    state.health.done(Step::Namespaces);
    let policy =
        policy::reconcile(&*state.caches).into_iter().map(|write| put(state, write.resource, write.object));
    all(policy.collect()).await?;
    state.health.done(Step::Roles);
    let classes = PRIORITY_CLASSES.iter().map(|(name, value, description)| {
        ensure(
            state,
            ("scheduling.k8s.io", "priorityclasses"),
            json!({
                "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
                "value": value, "description": description,
            }),
        )
    });
    all(classes.collect()).await?;
    state.health.done(Step::PriorityClasses);
    let published = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": request_header::published(&state.config),
    });
    put(state, ("", "configmaps").into(), published).await?;
    state.health.done(Step::AuthenticationInfo);
    let failed = |status| StartError::Bootstrap { object: "servicecidrs \"kubernetes\"".to_owned(), status };
    records::default_range(state).await.map_err(failed)?;
    kubernetes_service(state).await?;
    records::start(state);
    state.health.done(Step::Services);
    let failed = |status| StartError::Bootstrap { object: "the tracking of tokens".to_owned(), status };
    legacy::start(state).await.map_err(failed)?;
    peers::join(state).await
}

/// The Service by which pods reach the API servers.
pub async fn kubernetes_service(state: &Arc<State>) -> Result<(), StartError> {
    ensure(state, ("", "services"), service(state)).await
}

/// Where the `kubernetes` Service leads to.
pub async fn publish(state: &Arc<State>, addresses: &[IpAddr]) -> Result<(), StartError> {
    // A slice has addresses of one family.
    let family = |address: &&IpAddr| address.is_ipv4() == state.config.advertise.is_ipv4();
    let addresses: Vec<String> = addresses.iter().filter(family).map(ToString::to_string).collect();
    put(state, ("", "endpoints").into(), endpoints(state, &addresses)).await?;
    put(state, ("discovery.k8s.io", "endpointslices").into(), endpoint_slice(state, &addresses)).await
}

async fn all(writes: Vec<impl Future<Output = Result<(), StartError>>>) -> Result<(), StartError> {
    stream::iter(writes).buffer_unordered(CONCURRENT).try_collect().await
}

/// Makes the object if it does not exist.
async fn ensure(
    state: &Arc<State>,
    resource: impl Into<GroupResource<'static>>,
    object: Value,
) -> Result<(), StartError> {
    write(state, resource.into(), object, false).await
}

/// Makes the object, or brings it to this state, for parts of the server that keep objects as they should be.
pub(crate) async fn put_quietly(
    state: &Arc<State>,
    resource: GroupResource<'static>,
    object: Value,
) -> Result<(), Status> {
    write(state, resource, object, true).await.map_err(|error| match error {
        StartError::Bootstrap { status, .. } => status,
        error => Status::internal(error),
    })
}

/// As [`put_quietly`], but leaves an object that exists as it is.
pub(crate) async fn ensure_quietly(
    state: &Arc<State>,
    resource: GroupResource<'static>,
    object: Value,
) -> Result<(), Status> {
    write(state, resource, object, false).await.map_err(|error| match error {
        StartError::Bootstrap { status, .. } => status,
        error => Status::internal(error),
    })
}

/// Deletes a cluster-scoped object in the server's own name.
pub(crate) async fn delete_quietly(
    state: &Arc<State>,
    resource: GroupResource<'static>,
    name: &str,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let catalog = state.catalog();
    let served = catalog.stored(resource.group, resource.resource).ok_or_else(Status::unknown_resource)?;
    let (user, warnings) = (UserInfo::authenticated(USER, &[MASTERS]), Mutex::default());
    let writer = Writer { name, ..Writer::own(state, served, &user, MANAGER, &warnings) };
    writer.delete(options).await.map(drop)
}

/// Changes the status of an object in the server's own name, as the manager of that name.
pub(crate) async fn update_status(
    state: &Arc<State>,
    resource: GroupResource<'static>,
    name: &str,
    manager: &str,
    make: &(dyn Fn(&Value) -> Result<Value, Status> + Sync),
) -> Result<(), Status> {
    let catalog = state.catalog();
    let served = catalog.stored(resource.group, resource.resource).ok_or_else(Status::unknown_resource)?;
    let (user, warnings) = (UserInfo::authenticated(USER, &[MASTERS]), Mutex::default());
    let writer =
        Writer { name, subresource: "status", ..Writer::own(state, served, &user, manager, &warnings) };
    writer.update(&Change { make, managed: false, whole: false }).await.map(drop)
}

/// Makes a namespace in the server's own name, unless it is there. Admission calls it, which is part of making it.
pub(crate) fn make_namespace<'a>(state: &'a Arc<State>, name: &'a str) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        match write(state, GroupResource::new("", "namespaces"), namespace, false).await {
            Err(StartError::Bootstrap { status, .. }) => Err(status),
            Err(error) => Err(Status::internal(error)),
            Ok(()) => Ok(()),
        }
    })
}

/// Makes the object, or brings it to this state.
async fn put(state: &Arc<State>, resource: GroupResource<'static>, object: Value) -> Result<(), StartError> {
    write(state, resource, object, true).await
}

async fn write(
    state: &Arc<State>,
    resource: GroupResource<'static>,
    object: Value,
    update: bool,
) -> Result<(), StartError> {
    let (namespace, name) =
        (meta::text(&object, "namespace").to_owned(), meta::text(&object, "name").to_owned());
    let failed =
        |status: Status| StartError::Bootstrap { object: format!("{} {name:?}", resource.resource), status };
    let catalog = state.catalog();
    let served = catalog
        .stored(resource.group, resource.resource)
        .ok_or_else(|| failed(Status::unknown_resource()))?;
    let user = UserInfo::authenticated(USER, &[MASTERS]);
    let warnings = Mutex::default();
    let writer = Writer {
        namespace: &namespace,
        name: &name,
        options: WriteOptions::default().to_value("CreateOptions"),
        ..Writer::own(state, served, &user, MANAGER, &warnings)
    };
    let exists = served.cache.get(&crate::cache::object_key(&namespace, &name)).is_some();
    if exists && !update {
        return Ok(());
    }
    if exists {
        let make = |live: &Value| Ok(over(live, &object));
        return writer
            .update(&Change { make: &make, managed: false, whole: false })
            .await
            .map(drop)
            .map_err(failed);
    }
    match writer.create(object, false).await {
        Err(status) if status.is("AlreadyExists") => Ok(()),
        created => created.map(drop).map_err(failed),
    }
}

/// What is wanted, with the metadata that others may have added.
fn over(live: &Value, wanted: &Value) -> Value {
    let mut object = wanted.clone();
    object["metadata"] = live["metadata"].clone();
    for field in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][field].as_object().into_iter().flatten() {
            if !object["metadata"][field].is_object() {
                object["metadata"][field] = json!({});
            }
            object["metadata"][field][key] = value.clone();
        }
    }
    object
}

fn service(state: &State) -> Value {
    let mut spec = json!({
        "type": "ClusterIP",
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": state.config.port}],
        "sessionAffinity": "None",
    });
    if let Some(address) = state.services.first_address() {
        spec["clusterIP"] = json!(address.to_string());
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": spec,
    })
}

fn endpoints(state: &State, addresses: &[String]) -> Value {
    let addresses: Vec<Value> = addresses.iter().map(|address| json!({"ip": address})).collect();
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": addresses,
            "ports": [{"name": "https", "port": state.config.port, "protocol": "TCP"}],
        }],
    })
}

fn endpoint_slice(state: &State, addresses: &[String]) -> Value {
    let endpoint = |address: &String| json!({"addresses": [address], "conditions": {"ready": true}});
    let endpoints: Vec<Value> = addresses.iter().map(endpoint).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if state.config.advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": endpoints,
        "ports": [{"name": "https", "port": state.config.port, "protocol": "TCP"}],
    })
}
