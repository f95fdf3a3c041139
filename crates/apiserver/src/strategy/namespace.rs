//! Namespaces: deleted in two steps; the namespace controller empties them, then finalizes them.

use serde_json::{Value, json};

use super::{PLAIN, Strategy, put_back, status};
use crate::UserInfo;
use crate::write::meta;

pub static STRATEGY: Strategy = Strategy {
    create,
    update,
    deletable: |namespace| namespace["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty),
    deleting: |namespace| status(namespace)["phase"] = json!("Terminating"),
    ..PLAIN
};

const FINALIZER: &str = "kubernetes";
/// By which selectors can name a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn create(namespace: &mut Value, _: &UserInfo) {
    status(namespace)["phase"] = json!("Active");
    let spec = &mut namespace["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    let finalizers = &mut spec["finalizers"];
    match finalizers.as_array_mut() {
        Some(list) if list.iter().any(|finalizer| finalizer == FINALIZER) => {}
        Some(list) => list.push(json!(FINALIZER)),
        None => *finalizers = json!([FINALIZER]),
    }
    label(namespace);
}

fn update(namespace: &mut Value, old: &Value) {
    // Finalizers of the spec are the finalize subresource's.
    put_back(namespace, old, "spec");
    label(namespace);
}

fn label(namespace: &mut Value) {
    let name = meta::text(namespace, "name").to_owned();
    if name.is_empty() {
        return;
    }
    let labels = meta::of(namespace).entry("labels").or_insert_with(|| json!({}));
    if !labels.is_object() {
        *labels = json!({});
    }
    labels[NAME_LABEL] = json!(name);
}
