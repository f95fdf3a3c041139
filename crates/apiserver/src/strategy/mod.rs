//! What differs between kinds beyond data: one small file per kind that has something of its own.
//!
//! Everything else is generic: the status of a kind with a status subresource is only changed through that, and only
//! that is changed through it; a change of anything but metadata and status is a new generation.

mod certificate;
mod job;
mod namespace;
mod pod;
mod workload;

use serde_json::Value;

use crate::UserInfo;
use crate::catalog::Served;
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
};

static DEFAULT: Strategy = PLAIN;
static WITH_GENERATION: Strategy = Strategy { generation: true, ..PLAIN };
static RETURNS_DELETED: Strategy = Strategy { returns_deleted: true, ..PLAIN };
static CREATES_ON_UPDATE: Strategy = Strategy { create_on_update: true, ..PLAIN };

/// The strategy of a resource.
pub fn of(group: &str, plural: &str) -> &'static Strategy {
    match (group, plural) {
        ("", "pods") => &pod::STRATEGY,
        ("", "namespaces") => &namespace::STRATEGY,
        ("certificates.k8s.io", "certificatesigningrequests") => &certificate::STRATEGY,
        ("batch", "jobs") => &job::STRATEGY,
        ("apps", "deployments") => &workload::DEPLOYMENT,
        ("", "persistentvolumes") => &workload::VOLUME,
        ("", "persistentvolumeclaims") => &workload::CLAIM,
        ("apps", "replicasets" | "statefulsets" | "daemonsets")
        | ("", "replicationcontrollers")
        | ("batch", "cronjobs")
        | ("networking.k8s.io", "ingresses" | "networkpolicies" | "ingressclasses")
        | ("policy", "poddisruptionbudgets")
        | ("discovery.k8s.io", "endpointslices")
        | ("scheduling.k8s.io", "priorityclasses")
        | ("storage.k8s.io", "csidrivers")
        | ("admissionregistration.k8s.io", _)
        | ("apiextensions.k8s.io", _)
        | ("apiregistration.k8s.io", _)
        | ("flowcontrol.apiserver.k8s.io", _) => &WITH_GENERATION,
        ("", "podtemplates" | "resourcequotas" | "serviceaccounts") => &RETURNS_DELETED,
        ("", "endpoints" | "events")
        | ("coordination.k8s.io", "leases")
        | ("rbac.authorization.k8s.io", _) => &CREATES_ON_UPDATE,
        _ => &DEFAULT,
    }
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
        && let Some(object) = object.as_object_mut()
    {
        object.insert("status".to_owned(), Value::Object(serde_json::Map::new()));
    }
}

/// Keeps apart what an update of the object and one of its status may change.
pub fn isolate(served: &Served, subresource: &str, new: &mut Value, old: &Value) {
    match subresource {
        "" if has_status(served) => put_back(new, old, "status"),
        "status" => {
            let status = new["status"].take();
            let mut metadata = new["metadata"].take();
            *new = old.clone();
            // Annotations and finalizers may change along with a status. Labels and owners, which others select by
            // and collect by, may not; but a node labels itself through its status.
            if served.resource.plural != "nodes" {
                for field in ["labels", "ownerReferences"] {
                    put_back(&mut metadata, &old["metadata"], field);
                }
            }
            new["metadata"] = metadata;
            if status.is_null() {
                if let Some(object) = new.as_object_mut() {
                    object.remove("status");
                }
            } else {
                new["status"] = status;
            }
        }
        "finalize" => only(new, old, &["spec", "finalizers"]),
        "approval" => only(new, old, &["status", "conditions"]),
        "ephemeralcontainers" => only(new, old, &["spec", "ephemeralContainers"]),
        "resize" => {
            let mut resized = old.clone();
            for list in ["containers", "initContainers"] {
                let containers = new["spec"][list].take();
                for (container, wanted) in
                    items(&mut resized["spec"][list]).zip(containers.as_array().into_iter().flatten())
                {
                    if container["name"] == wanted["name"] {
                        for field in ["resources", "resizePolicy"] {
                            put_back(container, wanted, field);
                        }
                    }
                }
            }
            *new = resized;
        }
        _ => {}
    }
}

fn items(list: &mut Value) -> impl Iterator<Item = &mut Value> {
    list.as_array_mut().into_iter().flatten()
}

/// Takes one field from `new`, the rest from `old`.
fn only(new: &mut Value, old: &Value, path: &[&str; 2]) {
    let [outer, inner] = path;
    let taken = new[*outer][*inner].take();
    *new = old.clone();
    if !new[*outer].is_object() {
        new[*outer] = Value::Object(serde_json::Map::new());
    }
    if let Some(outer) = new[*outer].as_object_mut() {
        match taken {
            Value::Null => outer.remove(*inner),
            taken => outer.insert((*inner).to_owned(), taken),
        };
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

/// Whether anything but metadata and status differs.
pub fn spec_changed(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return true;
    };
    let counts = |key: &&String| !matches!(key.as_str(), "metadata" | "status");
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
