//! OpenAPI documents: `/openapi/v3` (an index, and a document for each group version) and `/openapi/v2` (one for all).
//!
//! kubectl reads them for `explain`, to see whether the server validates fields, and to merge lists on the client
//! side. They are made when asked for, as bytes, and not kept: whoever serves them caches what is used.

mod definitions;
mod paths;

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use crate::gvk::GroupVersion;
use crate::registry::{Registry, Resource};
use definitions::Definitions;

/// The two dialects differ in where definitions stand and in how parameters and bodies are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

const TITLE: &str = "Kubernetes";
const VERSION: &str = "v1.36.0";

/// `/openapi/v3`: where the document of each group version is. The hash in the address changes with the document, so
/// that clients keep what they have.
pub fn v3_index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for group in registry.groups() {
        for version in &group.versions {
            let path = root(&group.name, version);
            let url = format!("/openapi/v3{path}?hash={}", hash(registry, Some((&group.name, version))));
            paths.insert(path.trim_start_matches('/').to_owned(), json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

/// `/openapi/v3/apis/<group>/<version>` as JSON text; `None` where that version is not served.
pub fn v3_group(registry: &Registry, group_version: &GroupVersion) -> Option<Vec<u8>> {
    let GroupVersion { group, version } = group_version;
    registry.has_group_version(group, version).then(|| {
        let resources: Vec<&Resource> = registry
            .iter()
            .map(AsRef::as_ref)
            .filter(|resource| resource.gvk.group == *group && resource.gvk.version == *version)
            .collect();
        document(registry, &resources, Dialect::V3)
    })
}

/// `/openapi/v2` as JSON text.
pub fn v2(registry: &Registry) -> Vec<u8> {
    let resources: Vec<&Resource> = registry.iter().map(AsRef::as_ref).collect();
    document(registry, &resources, Dialect::V2)
}

/// The entity tag of the document of a group version.
pub fn v3_etag(registry: &Registry, group_version: &GroupVersion) -> String {
    hash(registry, Some((&group_version.group, &group_version.version)))
}

/// The entity tag of the v2 document.
pub fn v2_etag(registry: &Registry) -> String {
    hash(registry, None)
}

/// Writes a document part by part: as one tree of values, all of v2 would take tens of megabytes for a moment.
fn document(registry: &Registry, resources: &[&Resource], dialect: Dialect) -> Vec<u8> {
    let mut definitions = Definitions::new(registry, dialect);
    let mut out = Vec::with_capacity(1 << 20);
    let info = json!({"title": TITLE, "version": VERSION});
    out.extend_from_slice(match dialect {
        Dialect::V2 => b"{\"swagger\":\"2.0\",\"info\":",
        Dialect::V3 => b"{\"openapi\":\"3.0.0\",\"info\":",
    });
    write(&mut out, &info);
    out.extend_from_slice(b",\"paths\":");
    let all = resources
        .iter()
        .flat_map(|resource| paths::of(resource, dialect, &mut definitions))
        .collect::<Vec<_>>();
    write_entries(&mut out, all);
    out.extend_from_slice(match dialect {
        Dialect::V2 => b",\"definitions\":",
        Dialect::V3 => b",\"components\":{\"schemas\":",
    });
    write_entries(&mut out, definitions);
    out.extend_from_slice(match dialect {
        Dialect::V2 => b",\"securityDefinitions\":{\"BearerToken\":{\"description\":\"Bearer Token authentication\",\"type\":\"apiKey\",\"name\":\"authorization\",\"in\":\"header\"}},\"security\":[{\"BearerToken\":[]}]}",
        Dialect::V3 => b",\"securitySchemes\":{\"BearerToken\":{\"type\":\"apiKey\",\"description\":\"Bearer Token authentication\",\"name\":\"authorization\",\"in\":\"header\"}}}}",
    });
    out
}

fn write_entries(out: &mut Vec<u8>, entries: impl IntoIterator<Item = (String, Value)>) {
    let mut separator = b'{';
    for (key, value) in entries {
        out.push(separator);
        separator = b',';
        write(out, &Value::String(key));
        out.push(b':');
        write(out, &value);
    }
    if separator == b'{' {
        out.push(b'{');
    }
    out.push(b'}');
}

fn write(out: &mut Vec<u8>, value: &Value) {
    // `Display` of a value is its JSON text and cannot fail, as writing to memory cannot.
    out.extend_from_slice(value.to_string().as_bytes());
}

/// `/api/v1` or `/apis/apps/v1`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// A digest of what a document is made from, which is much less than the document.
fn hash(registry: &Registry, only: Option<(&str, &str)>) -> String {
    let mut hasher = DefaultHasher::new();
    (VERSION, env!("CARGO_PKG_VERSION"), only).hash(&mut hasher);
    let wanted = |resource: &Resource| {
        only.is_none_or(|(group, version)| resource.gvk.group == group && resource.gvk.version == version)
    };
    for resource in registry.iter().filter(|resource| wanted(resource)) {
        (&resource.gvk, &resource.plural, resource.namespaced, &resource.verbs).hash(&mut hasher);
        for sub in &resource.subresources {
            (&sub.name, &sub.gvk, &sub.verbs).hash(&mut hasher);
        }
        if let Some(published) = &resource.published_schema {
            published.to_string().hash(&mut hasher);
        }
    }
    format!("{:016X}", hasher.finish())
}

#[cfg(test)]
mod tests;
