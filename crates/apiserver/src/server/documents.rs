//! Discovery and OpenAPI: documents that depend on what is served alone, made when first asked for and kept with their
//! ETag until that changes.

use std::sync::Arc;

use ahash::AHashMap;
use api::discovery::{self, Root};
use api::gvk::GroupVersion;
use api::openapi;
use api::registry::Registry;
use api::status::Status;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use ring::digest;
use serde_json::{Value, json};

use super::body::ResponseBody;
use super::gzip;
use super::respond::{self, Answer};
use crate::aggregation;
use crate::catalog::Catalog;
use crate::negotiate::{Accept, Offer};
use crate::state::State;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// As clients ask for it, and as it is called when it is sent.
const OPENAPI_PROTOBUF_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const OPENAPI_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Documents by what was asked for. One set per catalog.
#[derive(Default)]
pub struct Documents(Mutex<AHashMap<String, Arc<Document>>>);

struct Document {
    body: Body,
    etag: HeaderValue,
}

/// OpenAPI documents are long, compress well, and are asked for by clients that accept that.
enum Body {
    Plain(Bytes),
    Gzip(Bytes),
}

impl Documents {
    fn get(
        &self,
        name: &str,
        make: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<Option<Arc<Document>>, Status> {
        if let Some(known) = self.0.lock().get(name) {
            return Ok(Some(known.clone()));
        }
        let Some(body) = make() else {
            return Ok(None);
        };
        let etag = HeaderValue::from_str(&format!("\"{}\"", digest_of(&body))).map_err(Status::internal)?;
        let body = match name.starts_with("/openapi/") {
            true => Body::Gzip(gzip::compressed(&body).map_err(Status::internal)?),
            false => Body::Plain(body.into()),
        };
        let document = Arc::new(Document { body, etag });
        self.0.lock().insert(name.to_owned(), document.clone());
        Ok(Some(document))
    }
}

/// The document at a path, if it is one.
pub fn serve(state: &State, path: &str, request: &http::request::Parts) -> Result<Option<Answer>, Status> {
    let catalog = state.catalog();
    let registry = &catalog.registry;
    let documents = &catalog.documents;
    let address = state.config.address();
    let root = match path {
        "/api" => Some(Root::Core),
        "/apis" => Some(Root::Groups),
        _ => None,
    };
    if let Some(root) = root
        && let Some(version) = aggregated_version(&request.headers)
    {
        let content_type = if version == "v2" { AGGREGATED } else { AGGREGATED_BETA };
        let name = format!("{path} {version}");
        let document = documents.get(&name, || {
            let stale = |group: &str, version: &str| catalog.shown.is_stale(group, version);
            Some(discovery::aggregated(registry, root, version, &stale).to_string().into())
        })?;
        return document.map(|document| answer(&document, content_type, &request.headers)).transpose();
    }
    if path == "/openapi/v2" && wants_openapi_protobuf(&request.headers) {
        let name = format!("{path} protobuf");
        let document = documents.get(&name, || Some(openapi::v2_protobuf(&v2(&catalog))))?;
        return document.map(|document| answer(&document, OPENAPI_PROTOBUF, &request.headers)).transpose();
    }
    let document = documents.get(path, || match path {
        "/openapi/v2" => Some(v2(&catalog)),
        "/openapi/v3" => Some(v3_index(&catalog).to_string().into()),
        _ => match path.strip_prefix("/openapi/v3/") {
            Some(rest) => {
                let asked = group_version(rest)?;
                openapi::v3_group(catalog.local(), &asked).or_else(|| {
                    let GroupVersion { group, version } = &asked;
                    let v2 = v2_of_another(&catalog, group, version)?;
                    Some(openapi::v3_of_v2(v2, group, version).to_string().into())
                })
            }
            None => legacy(registry, path, &address).map(|document| document.to_string().into()),
        },
    })?;
    let Some(document) = document else {
        return Ok(None);
    };
    // Refuses what cannot be served, such as protobuf alone.
    if !path.starts_with("/openapi/") {
        Accept::negotiate(&request.headers, Offer::default())?;
    }
    answer(&document, "application/json", &request.headers).map(Some)
}

/// This server's own document, with what other servers have.
fn v2(catalog: &Catalog) -> Vec<u8> {
    let own = openapi::v2(catalog.local());
    let mut others =
        catalog.shown.versions.iter().filter_map(|foreign| foreign.openapi_v2.as_ref()).peekable();
    if others.peek().is_none() {
        return own;
    }
    // What `openapi` writes is JSON; were it not, an empty document would be the answer, and the tests would say so.
    let mut document = serde_json::from_slice(&own).unwrap_or_default();
    for other in others {
        aggregation::openapi::merge(&mut document, other);
    }
    document.to_string().into()
}

/// Where the documents of group versions are, wherever they are served.
fn v3_index(catalog: &Catalog) -> Value {
    let mut index = openapi::v3_index(catalog.local());
    for foreign in &catalog.shown.versions {
        let name = format!("apis/{}/{}", foreign.group, foreign.version);
        let url = match (&foreign.openapi_v3, v2_of_another(catalog, &foreign.group, &foreign.version)) {
            (Some(url), _) => url.clone(),
            (None, Some(v2)) => format!("/openapi/v3/{name}?hash={}", digest_of(v2.to_string().as_bytes())),
            (None, None) => continue,
        };
        if let Some(paths) = index["paths"].as_object_mut() {
            paths.insert(name, json!({"serverRelativeURL": url}));
        }
    }
    index
}

/// What a server says of a group version that has no document of version 3.
fn v2_of_another<'a>(catalog: &'a Catalog, group: &str, version: &str) -> Option<&'a Value> {
    let mut others = catalog.shown.versions.iter();
    let foreign = others.find(|foreign| foreign.group == group && foreign.version == version)?;
    let v2 = foreign.openapi_v2.as_ref().filter(|_| foreign.openapi_v3.is_none())?;
    let below = format!("/apis/{group}/{version}/");
    v2["paths"].as_object()?.keys().any(|path| path.starts_with(&below)).then_some(v2)
}

/// Whether the document at a path is made here of another server's document of version 2.
pub fn is_converted(state: &State, group: &str, version: &str) -> bool {
    v2_of_another(&state.catalog(), group, version).is_some()
}

fn digest_of(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Of `api/v1` or `apis/<group>/<version>`.
fn group_version(path: &str) -> Option<GroupVersion> {
    if let Some(version) = path.strip_prefix("api/") {
        return Some(GroupVersion::new("", version));
    }
    let (group, version) = path.strip_prefix("apis/")?.split_once('/')?;
    Some(GroupVersion::new(group, version))
}

/// `/api`, `/api/v1`, `/apis`, `/apis/<group>`, `/apis/<group>/<version>`.
fn legacy(registry: &Registry, path: &str, address: &str) -> Option<Value> {
    match path {
        "/api" => return Some(discovery::api_versions(registry, address)),
        "/apis" => return Some(discovery::api_group_list(registry)),
        _ => {}
    }
    if let Some(version) = path.strip_prefix("/api/") {
        return discovery::api_resource_list(registry, "", version);
    }
    let rest = path.strip_prefix("/apis/")?;
    match rest.split_once('/') {
        None => discovery::api_group(registry, rest),
        Some((group, version)) => discovery::api_resource_list(registry, group, version),
    }
}

/// kubectl before 1.29 asks for nothing else first.
fn wants_openapi_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').next().is_some_and(|first| first.trim().starts_with(OPENAPI_PROTOBUF_ACCEPT))
}

/// The version of aggregated discovery that the client prefers, if it wants that at all.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    for clause in accept.split(',') {
        let has = |wanted: &str| clause.split(';').any(|part| part.trim() == wanted);
        if !has("application/json") {
            continue;
        }
        if !has("g=apidiscovery.k8s.io") {
            return None;
        }
        if has("v=v2") {
            return Some("v2");
        }
        if has("v=v2beta1") {
            return Some("v2beta1");
        }
    }
    None
}

fn answer(document: &Document, content_type: &'static str, headers: &HeaderMap) -> Result<Answer, Status> {
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known == document.etag);
    let mut answer = match (&document.body, known) {
        (_, true) => respond::with_body(StatusCode::NOT_MODIFIED, content_type, ResponseBody::empty()),
        (Body::Plain(body), _) => {
            respond::with_body(StatusCode::OK, content_type, ResponseBody::full(body.clone()))
        }
        (Body::Gzip(body), _) if gzip::accepted(headers) => {
            let mut answer =
                respond::with_body(StatusCode::OK, content_type, ResponseBody::full(body.clone()));
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            answer
        }
        (Body::Gzip(body), _) => {
            let plain = gzip::decompressed(body).map_err(Status::internal)?;
            respond::with_body(StatusCode::OK, content_type, ResponseBody::full(plain))
        }
    };
    answer.headers_mut().insert(ETAG, document.etag.clone());
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    Ok(answer)
}
