//! What differs between kinds beyond data: one small file per kind that has something of its own.
//!
//! Everything else is generic: the status of a kind with a status subresource is only changed through that, and only
//! that is changed through it; a change of anything but metadata and status is a new generation.

mod apparmor;
mod certificate;
mod definition;
mod isolate;
mod job;
mod namespace;
mod pod;
mod slice;
mod volume;
mod workload;

pub use isolate::isolate;

use api::registry::Registry;
use serde_json::Value;

use crate::UserInfo;
use crate::catalog::Served;
use crate::options::Propagation;
use crate::write::meta;

/// The steps that a kind can have its own idea of.
pub struct Strategy {
    /// Completes a new object that this user makes.
    pub create: fn(&mut Value, &UserInfo),
    /// Completes a change of the object itself: new state, old state.
    pub update: fn(&mut Value, &Value),
    /// How many seconds a deleted object is left to itself, given what the client asks for.
    pub grace: fn(&Value, Option<i64>) -> i64,
    /// Whether nothing but finalizers and grace keeps it.
    pub deletable: fn(&Value) -> bool,
    /// Changes an object that has just been marked as deleted.
    pub deleting: fn(&mut Value),
    /// Whether `metadata.generation` is kept.
    pub generation: bool,
    /// Deletes answer with the object, not with a Status.
    pub returns_deleted: bool,
    /// A PUT of an object that does not exist makes it.
    pub create_on_update: bool,
    /// Completes a change of the status: new state, old state.
    pub status: fn(&mut Value, &Value),
    /// What of the metadata an update of the status may change.
    pub status_metadata: StatusMetadata,
    /// Whoever makes an object may bring its status along.
    pub brings_status: bool,
    /// An update must say which version of the object it is based on.
    pub versioned_update: bool,
    /// What becomes of dependents where a delete does not say.
    pub propagation: Option<Propagation>,
}

/// The metadata that an update of the status may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusMetadata {
    Any,
    /// All but these fields.
    Without(&'static [&'static str]),
    /// None of it.
    Nothing,
}

const PLAIN: Strategy = Strategy {
    create: |_, _| {},
    update: |_, _| {},
    grace: |_, _| 0,
    deletable: |_| true,
    deleting: |_| {},
    generation: false,
    returns_deleted: false,
    create_on_update: false,
    status: |_, _| {},
    status_metadata: StatusMetadata::Any,
    brings_status: false,
    versioned_update: false,
    propagation: None,
};

static DEFAULT: Strategy = PLAIN;
static WITH_GENERATION: Strategy = Strategy { generation: true, ..PLAIN };
static RETURNS_DELETED: Strategy = Strategy { returns_deleted: true, ..PLAIN };
static CREATES_ON_UPDATE: Strategy = Strategy { create_on_update: true, ..PLAIN };
static LEASE: Strategy = Strategy { versioned_update: true, ..CREATES_ON_UPDATE };
static VERSIONED: Strategy = Strategy { versioned_update: true, ..PLAIN };
static VERSIONED_WITH_GENERATION: Strategy = Strategy { versioned_update: true, ..WITH_GENERATION };
static FROZEN_METADATA: Strategy = Strategy { status_metadata: StatusMetadata::Nothing, ..PLAIN };
static FROZEN_WITH_GENERATION: Strategy =
    Strategy { status_metadata: StatusMetadata::Nothing, ..WITH_GENERATION };
/// Definitions, custom resources and aggregated APIs, and what else is declared by extensions.
static EXTENSION: Strategy =
    Strategy { status_metadata: StatusMetadata::Nothing, ..VERSIONED_WITH_GENERATION };
static API_SERVICE: Strategy = Strategy { status_metadata: StatusMetadata::Nothing, ..VERSIONED };
/// The kubelet registers its node together with what it knows of it.
static NODE: Strategy = Strategy { brings_status: true, ..PLAIN };
/// Pods outlived their controller before there was a garbage collector, and old clients count on it.
static REPLICATION_CONTROLLER: Strategy =
    Strategy { propagation: Some(Propagation::Orphan), ..WITH_GENERATION };

/// The strategy of a resource.
pub fn of(group: &str, plural: &str) -> &'static Strategy {
    match (group, plural) {
        ("", "pods") => &pod::STRATEGY,
        ("", "namespaces") => &namespace::STRATEGY,
        ("", "nodes") => &NODE,
        ("", "replicationcontrollers") => &REPLICATION_CONTROLLER,
        ("", "persistentvolumes") => &volume::VOLUME,
        ("", "persistentvolumeclaims") => &volume::CLAIM,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificate::STRATEGY,
        ("batch", "jobs") => &job::STRATEGY,
        ("apps", "deployments") => &workload::DEPLOYMENT,
        ("", "podtemplates") => &workload::POD_TEMPLATE,
        ("apps", "replicasets" | "statefulsets" | "daemonsets")
        | ("autoscaling", "horizontalpodautoscalers")
        | ("batch", "cronjobs")
        | ("networking.k8s.io", "ingresses" | "networkpolicies" | "ingressclasses")
        | ("discovery.k8s.io", "endpointslices")
        | ("resource.k8s.io", "deviceclasses")
        | ("scheduling.k8s.io", "priorityclasses") => &WITH_GENERATION,
        ("", "resourcequotas" | "serviceaccounts") => &RETURNS_DELETED,
        ("", "endpoints" | "events") | ("events.k8s.io", "events") | ("rbac.authorization.k8s.io", _) => {
            &CREATES_ON_UPDATE
        }
        ("coordination.k8s.io", "leases") => &LEASE,
        ("flowcontrol.apiserver.k8s.io", _) => &FROZEN_WITH_GENERATION,
        ("resource.k8s.io", "resourceclaims") => &FROZEN_METADATA,
        ("resource.k8s.io", "resourceslices") => &slice::STRATEGY,
        ("policy", "poddisruptionbudgets")
        | ("storage.k8s.io", "csidrivers")
        | ("admissionregistration.k8s.io", _) => &VERSIONED_WITH_GENERATION,
        ("storage.k8s.io", "volumeattachments") => &FROZEN_METADATA,
        ("storage.k8s.io", "csinodes" | "csistoragecapacities") | ("node.k8s.io", "runtimeclasses") => {
            &VERSIONED
        }
        ("apiregistration.k8s.io", _) => &API_SERVICE,
        ("apiextensions.k8s.io", _) => &definition::STRATEGY,
        (group, _) if !is_builtin(group) => &EXTENSION,
        _ => &DEFAULT,
    }
}

fn is_builtin(group: &str) -> bool {
    Registry::builtin().groups().iter().any(|known| known.name == group)
}

pub fn is_service(served: &Served) -> bool {
    served.resource.gvk.group.is_empty() && served.resource.plural == "services"
}

fn has_status(served: &Served) -> bool {
    served.resource.subresource("status").is_some()
}

/// A new object comes with an empty status: clients do not make it up, and some expect that there is one.
pub fn reset_new(served: &Served, object: &mut Value) {
    if has_status(served)
        && !served.strategy.brings_status
        && let Some(object) = object.as_object_mut()
    {
        if served.custom.is_some() {
            object.remove("status");
            return;
        }
        object.insert("status".to_owned(), Value::Object(serde_json::Map::new()));
    }
}

/// Whether a write of this subresource is a wish of its user that is recorded as a new generation and validated, not
/// the server's own step.
pub fn is_wish(subresource: &str) -> bool {
    matches!(subresource, "" | "scale" | "ephemeralcontainers" | "resize")
}

fn put_back(new: &mut Value, old: &Value, field: &str) {
    let Some(object) = new.as_object_mut() else {
        return;
    };
    match old.get(field) {
        Some(value) => object.insert(field.to_owned(), value.clone()),
        None => object.remove(field),
    };
}

/// Top-level fields that writes of the object, or of this subresource, do not set.
pub fn ignored(served: &Served, subresource: &str) -> &'static [&'static str] {
    match subresource {
        "status" => &["spec"],
        "" if has_status(served) => &["status"],
        _ => &[],
    }
}

/// Whether anything but metadata and status differs. The status of a custom resource is a part like others where it is
/// no subresource.
pub fn spec_changed(served: &Served, new: &Value, old: &Value) -> bool {
    let plain_status = served.custom.is_some() && !has_status(served);
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return true;
    };
    let counts = |key: &&String| match key.as_str() {
        "metadata" => false,
        "status" => plain_status,
        _ => true,
    };
    let keys = new.keys().chain(old.keys()).filter(counts);
    keys.into_iter().any(|key| new.get(key) != old.get(key))
}

/// The status object of `object`, made if it is not there.
fn status(object: &mut Value) -> &mut Value {
    meta::of(object);
    let status = &mut object["status"];
    if !status.is_object() {
        *status = Value::Object(serde_json::Map::new());
    }
    status
}
