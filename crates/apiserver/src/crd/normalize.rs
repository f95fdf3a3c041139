//! Objects that were written under another schema, as the present one shows them.
//!
//! What was stored before a default was added has it when it is read, and what is no longer specified is not shown. The
//! cache holds what is shown, so that reads stay copies of bytes; the store is left as it is until somebody writes.

use std::sync::Arc;

use serde_json::Value;

use super::{Conversion, Definition};
use crate::cache::Caches;
use crate::cache::object::{Encoded, Object};

/// Brings the cached objects of a definition into the form that it has now.
pub async fn run(definition: &Arc<Definition>, caches: &Arc<Caches>) {
    let (group, plural) = (&definition.group, &definition.accepted.plural);
    caches.select_fields(group, plural, definition.selectable.clone());
    let cache = caches.resource(group, plural);
    if cache.is_empty() {
        return;
    }
    let definition = definition.clone();
    // Many objects take their time, and others wait for this thread.
    let work = move || {
        let mut objects = Vec::new();
        cache.scan("", "", |object| {
            objects.push(object.clone());
            true
        });
        let changed: Vec<Arc<Object>> =
            objects.iter().filter_map(|object| normalized(&definition, object)).map(Arc::new).collect();
        cache.rewrite(changed);
    };
    // Only a panic in there could make it fail; the objects are then shown as they were.
    let _ = tokio::task::spawn_blocking(work).await;
}

/// The object in its present form, if that differs.
fn normalized(definition: &Definition, object: &Object) -> Option<Object> {
    let mut value = object.value();
    let stored = definition.stored_gvk();
    let converts = matches!(definition.conversion, Conversion::None);
    if definition.exact && (converts || value["apiVersion"] == stored.api_version().as_str()) {
        value["apiVersion"] = Value::String(stored.api_version());
        definition.version(&definition.storage)?.complete_stored(&mut value);
    }
    let encoded = Encoded::of(&value, &definition.selectable).ok()?;
    let new = Object::new(object.key.clone(), object.revision, &encoded);
    (new.bytes() != object.bytes() || new.meta != object.meta).then_some(new)
}
