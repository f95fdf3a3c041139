//! OpenAPI documents of other servers: asked for from time to time, and shown with this server's own.
//!
//! Of version 3 there is a document for each group version: the index says where the other server has it, and requests
//! for it are passed on. Of version 2 there is one for everything, so what others say is merged into it.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashSet;
use api::status::Status;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use serde_json::{Map, Value};

use super::{Remote, proxy};
use crate::outbound::Outbound;
use crate::proxy::relay;
use crate::server::body::{RequestBody, ResponseBody};
use crate::server::respond::Answer;

/// Such documents take a while to make.
const LIMIT: Duration = Duration::from_secs(10);
/// As much of a document is read.
const MAX_DOCUMENT: usize = 16 << 20;
const DEFINITIONS: &str = "#/definitions/";

/// What a server says of its types.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Where it has the document of its group version.
    pub v3: Option<String>,
    pub v2: Option<Arc<Value>>,
    etag: Option<HeaderValue>,
}

/// Asks for what may have changed. A server that has no documents, or does not answer, leaves things as they were.
pub async fn refresh(remote: &Remote, outbound: &Outbound, known: Documents) -> Documents {
    let mut documents = known;
    if let Ok((StatusCode::OK, body)) =
        outbound.get(&remote.to, "/openapi/v3", &proxy::own_headers(), LIMIT).await
    {
        let index: Value = serde_json::from_slice(&body).unwrap_or_default();
        let entry = &index["paths"][format!("apis/{}/{}", remote.group, remote.version)];
        let path = entry["serverRelativeURL"].as_str();
        documents.v3 = path.filter(|path| path.starts_with("/openapi/v3/")).map(str::to_owned);
    }
    let mut headers = proxy::own_headers();
    headers.push((ACCEPT, HeaderValue::from_static("application/json")));
    headers.extend(documents.etag.clone().map(|etag| (IF_NONE_MATCH, etag)));
    if let Ok(answer) = outbound.fetch(&remote.to, "/openapi/v2", &headers, LIMIT, MAX_DOCUMENT).await
        && answer.status() == StatusCode::OK
        && let Ok(document) = serde_json::from_slice(answer.body())
    {
        documents.etag = answer.headers().get(ETAG).cloned();
        let part = part_of(document, &remote.group);
        // The same object as long as it says the same: whoever has it compares no more than that.
        if documents.v2.as_deref() != Some(&part) {
            documents.v2 = Some(Arc::new(part));
        }
    }
    documents
}

/// Passes on a request for the document of a group version.
pub async fn serve(
    remote: &Remote,
    outbound: &Outbound,
    path: &str,
    asked: &HeaderMap,
) -> Result<Answer, Status> {
    let mut request: Request<RequestBody> = Request::get(remote.to.url(path))
        .body(crate::server::body::boxed(http_body_util::Empty::new()))
        .map_err(|error| Status::bad_request(format!("cannot be passed on: {error}")))?;
    for name in [ACCEPT, IF_NONE_MATCH, http::header::ACCEPT_ENCODING] {
        if let Some(value) = asked.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    request.headers_mut().extend(proxy::own_headers());
    let answer = tokio::time::timeout(LIMIT, outbound.send(&remote.to, request)).await;
    let unreachable =
        |why: String| Status::service_unavailable(format!("error trying to reach service: {why}"));
    let answer = answer.map_err(|_| unreachable("context deadline exceeded".to_owned()))?;
    let answer = relay::relayed(answer.map_err(|error| unreachable(error.to_string()))?);
    Ok(answer.map(|body: ResponseBody| body))
}

/// Of a document, the paths of the group and the definitions that those need.
fn part_of(mut document: Value, group: &str) -> Value {
    let prefix = format!("/apis/{group}/");
    let mut part = Map::new();
    let mut needed = AHashSet::new();
    let mut open = Vec::new();
    let shared = document["parameters"].take();
    if let Value::Object(paths) = document["paths"].take() {
        for (path, mut item) in paths {
            if path.starts_with(&prefix) {
                with_parameters(&mut item, &shared);
                references(&item, &mut |name| open.push(name.to_owned()));
                part.insert(path, item);
            }
        }
    }
    let mut definitions = Map::new();
    while let Some(name) = open.pop() {
        if !needed.insert(name.clone()) {
            continue;
        }
        if let Some(definition) = document["definitions"].get_mut(&name).map(Value::take) {
            references(&definition, &mut |name| open.push(name.to_owned()));
            definitions.insert(name, definition);
        }
    }
    serde_json::json!({"paths": part, "definitions": definitions})
}

/// Puts parameters that the document has for all in the place of what refers to them, in a path and its operations.
fn with_parameters(item: &mut Value, shared: &Value) {
    let Value::Object(members) = item else { return };
    for (key, member) in members {
        match member {
            Value::Array(parameters) if key == "parameters" => {
                for parameter in parameters {
                    let name = parameter["$ref"].as_str().and_then(|text| text.strip_prefix("#/parameters/"));
                    if let Some(meant) = name.and_then(|name| shared.get(name)) {
                        *parameter = meant.clone();
                    }
                }
            }
            Value::Object(_) => with_parameters(member, shared),
            _ => {}
        }
    }
}

/// Calls `found` with the name of every definition that is referred to. Documents are read with a bound on their depth.
fn references(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member.as_str().and_then(|text| text.strip_prefix(DEFINITIONS)) {
                    Some(name) if key == "$ref" => found(name),
                    _ => references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Adds the parts of others to a document. Definitions that are there already under the same name, but say something
/// else, get another one, as upstream names them.
pub fn merge(document: &mut Value, part: &Value) {
    let known = document["definitions"].as_object();
    let mut renamed: Vec<(&str, String)> = Vec::new();
    let mut added: Vec<(String, &Value)> = Vec::new();
    for (name, definition) in part["definitions"].as_object().into_iter().flatten() {
        let taken = |name: &str| known.and_then(|known| known.get(name));
        match taken(name) {
            None => added.push((name.clone(), definition)),
            Some(same) if same == definition => {}
            Some(_) => {
                let free = (2..).map(|count| format!("{name}_v{count}")).find(|name| taken(name).is_none());
                let free = free.unwrap_or_default();
                added.push((free.clone(), definition));
                renamed.push((name, free));
            }
        }
    }
    let rename = |value: &Value| {
        let mut value = value.clone();
        if !renamed.is_empty() {
            redirect(&mut value, &renamed);
        }
        value
    };
    let added: Vec<(String, Value)> =
        added.into_iter().map(|(name, definition)| (name, rename(definition))).collect();
    let paths: Vec<(String, Value)> = part["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(path, item)| (path.clone(), rename(item)))
        .collect();
    for (member, entries) in [("definitions", added), ("paths", paths)] {
        if let Some(own) = document[member].as_object_mut() {
            for (key, value) in entries {
                own.entry(key).or_insert(value);
            }
        }
    }
}

fn redirect(value: &mut Value, renamed: &[(&str, String)]) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let target = member.as_str().and_then(|text| text.strip_prefix(DEFINITIONS));
                let other = renamed.iter().find(|(name, _)| key == "$ref" && target == Some(name));
                match other {
                    Some((_, other)) => *member = format!("{DEFINITIONS}{other}").into(),
                    None => redirect(member, renamed),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, renamed)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_bring_what_they_need_under_names_that_are_free() {
        let schema = |name: &str| json!({"$ref": format!("{DEFINITIONS}{name}")});
        let other = json!({
            "paths": {
                "/apis/g/v1/things": {"get": {"schema": schema("Thing"), "parameters": [{"$ref": "#/parameters/limit-1"}]}},
                "/apis/other/v1/": {},
            },
            "parameters": {"limit-1": {"name": "limit", "in": "query"}},
            "definitions": {
                "Thing": {"properties": {"metadata": schema("Meta"), "same": schema("Same")}},
                "Meta": {"description": "theirs"}, "Same": {"type": "string"}, "Unused": {},
            },
        });
        let mut own = json!({"paths": {"/version/": {}}, "definitions": {"Meta": {"description": "ours"}, "Same": {"type": "string"}}});
        merge(&mut own, &part_of(other, "g"));
        let expected = json!({
            "paths": {
                "/version/": {},
                "/apis/g/v1/things": {"get": {
                    "schema": schema("Thing"), "parameters": [{"name": "limit", "in": "query"}],
                }},
            },
            "definitions": {
                "Meta": {"description": "ours"}, "Meta_v2": {"description": "theirs"}, "Same": {"type": "string"},
                "Thing": {"properties": {"metadata": schema("Meta_v2"), "same": schema("Same")}},
            },
        });
        assert_eq!(own, expected);
    }
}
