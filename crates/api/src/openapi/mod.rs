//! OpenAPI documents: `/openapi/v3` (an index, and a document for each group version) and `/openapi/v2` (one for all).
//!
//! kubectl reads them for `explain`, to see whether the server validates fields, and to merge lists on the client
//! side. They are made when asked for, as bytes, and not kept: whoever serves them caches what is used.

mod convert;
mod definitions;
mod gnostic;
mod paths;

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use crate::gvk::GroupVersion;
use crate::registry::{Registry, Resource};
pub use convert::v3_of_v2;
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
            let url = format!("/openapi/v3{path}?hash={}", hash(registry, &group.name, version));
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

/// The media type of [`v2_protobuf`], as kubectl asks for it.
pub const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// The media type of [`v2_protobuf`], as answers say it: Go's parser refuses the `@` that its clients send.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The document of [`v2`] in the form that kubectl up to 1.28 needs.
pub fn v2_protobuf(v2: &[u8]) -> Vec<u8> {
    // What `v2` writes is JSON; were it not, an empty document would be the answer, and the tests would say so.
    gnostic::encode(&serde_json::from_slice(v2).unwrap_or_default())
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

/// A digest of what the document of a group version is made from, which is much less than the document.
fn hash(registry: &Registry, group: &str, version: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (VERSION, env!("CARGO_PKG_VERSION"), group, version).hash(&mut hasher);
    let wanted = |resource: &Resource| resource.gvk.group == group && resource.gvk.version == version;
    for resource in registry.iter().filter(|resource| wanted(resource)) {
        (&resource.gvk, &resource.plural, resource.namespaced, &resource.verbs).hash(&mut hasher);
        for sub in &resource.subresources {
            (&sub.name, &sub.gvk, &sub.verbs).hash(&mut hasher);
        }
        if let Some(custom) = &resource.custom {
            custom.digest().hash(&mut hasher);
        }
    }
    format!("{:016X}", hasher.finish())
}

#[cfg(test)]
mod tests;
