//! An ApplyConfiguration mutation: merged into the object as server-side apply merges, by schema, but owned by nobody.

use api::gvk::GroupVersionKind;
use api::patch::apply::{Updater, listed, server_side_apply, undeclared};
use api::patch::merge_patch;
use api::schema::{ListType, Schema};
use serde_json::Value;

use crate::state::State;

/// Configurations are no deeper than objects may be.
const MAX_DEPTH: u32 = 128;

pub fn applied(object: &Value, mut configuration: Value, state: &State) -> Result<Value, String> {
    if !configuration.is_object() {
        return Err("the configuration is not an object".to_owned());
    }
    for field in ["apiVersion", "kind"] {
        configuration[field] = object[field].clone();
    }
    let catalog = state.catalog();
    let kind = GroupVersionKind::of(object).ok_or("the object has no kind")?;
    let served = catalog.kind(&kind);
    let Some(schema) = served.and_then(|served| served.resource.schema()) else {
        return merge_patch(object, &configuration).map_err(|error| error.to_string());
    };
    let undeclared = undeclared(&configuration, schema);
    if !undeclared.is_empty() {
        return Err(format!("failed to convert patch object to typed object: {}", listed(&undeclared)));
    }
    if let Some(path) = atomic(&configuration, schema, "", MAX_DEPTH) {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {path}"
        ));
    }
    let mut base = object.clone();
    let managed = base["metadata"].as_object_mut().and_then(|metadata| metadata.remove("managedFields"));
    let updater = Updater {
        manager: "policy",
        api_version: &kind.api_version(),
        subresource: "",
        time: "",
        ignored: &[],
    };
    let mut merged = server_side_apply(Some(&base), &configuration, schema, &updater, true)
        .map_err(|error| error.to_string())?;
    if let Some(metadata) = merged["metadata"].as_object_mut() {
        match managed {
            Some(managed) => metadata.insert("managedFields".to_owned(), managed),
            None => metadata.remove("managedFields"),
        };
    }
    Ok(merged)
}

/// A list or map in the configuration that could only be replaced as a whole: half of what it means would be lost.
fn atomic(value: &Value, schema: &Schema, path: &str, depth: u32) -> Option<String> {
    if depth == 0 {
        return Some(path.to_owned());
    }
    match value {
        Value::Array(elements) => {
            if matches!(schema.list_type(), Some(ListType::Atomic)) {
                return Some(path.to_owned());
            }
            let items = schema.items()?;
            let place = |index: usize| format!("{path}[{index}]");
            elements
                .iter()
                .enumerate()
                .find_map(|(index, element)| atomic(element, items, &place(index), depth - 1))
        }
        Value::Object(_) if schema.is_atomic_map() => Some(path.to_owned()),
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            atomic(member, schema.child(name)?, &format!("{path}.{name}"), depth - 1)
        }),
        _ => None,
    }
}
