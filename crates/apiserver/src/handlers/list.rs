//! Lists: from the cache, at the revision that the client asks for, in pages if it likes.
//!
//! A long answer is not built as a whole: the objects to send are collected as references, their bytes are copied
//! while the answer goes out.

use std::sync::Arc;
use std::time::Duration;

use api::codec::protobuf;
use api::gvk::GroupVersionKind;
use api::selector::{FieldSelector, LabelSelector};
use api::status::{Status, StatusCause};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Call;
use super::render;
use crate::cache::object::Object;
use crate::cache::resource::TooOld;
use crate::cache::select::Selection;
use crate::convert::stored_field;
use crate::negotiate::{Encoding, Form};
use crate::options::{ListOptions, VersionMatch};
use crate::server::body::ResponseBody;
use crate::server::respond::{self, Answer};

/// Where the next page begins. Opaque to clients.
#[derive(Serialize, Deserialize)]
pub(crate) struct Continue {
    #[serde(rename = "v")]
    version: String,
    /// The revision of the first page; -1 for whatever is current.
    #[serde(rename = "rv")]
    revision: i64,
    /// The key after which it begins.
    start: String,
    /// When the first page was made, in seconds.
    #[serde(rename = "at", default)]
    begun: i64,
}

const CONTINUE_VERSION: &str = "meta.k8s.io/v1";
/// So long a list may be read page by page. Upstream forgets old revisions in this time, whatever it could still hold:
/// clients rely on the end of a list that was begun and never finished.
const CONTINUE_LIFETIME: i64 = 300;

impl Continue {
    fn encode(revision: i64, after: &str, begun: i64) -> String {
        let token = Self { version: CONTINUE_VERSION.to_owned(), revision, start: after.to_owned(), begun };
        // Text and a number: cannot fail to be written.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Status> {
        let invalid =
            |why: &dyn std::fmt::Display| Status::bad_request(format!("continue key is not valid: {why}"));
        let json = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| invalid(&error))?;
        let token: Self = serde_json::from_slice(&json).map_err(|error| invalid(&error))?;
        if token.version != CONTINUE_VERSION {
            return Err(invalid(&format!(
                "server does not recognize this encoded version {:?}",
                token.version
            )));
        }
        Ok(token)
    }
}

/// The selection that the options describe; 400 for a selector that makes no sense for this resource.
pub fn selection(call: &Call, options: &ListOptions) -> Result<Selection, Status> {
    let labels = LabelSelector::parse(&options.label_selector)
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let mut fields = FieldSelector::parse(&options.field_selector)
        .map_err(|error| Status::bad_request(error.to_string()))?;
    let storage = &call.served.storage;
    let asked = &call.served.resource.gvk;
    for requirement in &mut fields.requirements {
        requirement.field = stored_field(asked, &storage.gvk, &requirement.field).into_owned();
    }
    for field in fields.fields() {
        // Of a custom resource, each version declares its own.
        let declared = match &call.served.custom {
            Some(custom) => &custom.version.selectable[..],
            None => &storage.selectable_fields[..],
        };
        let known = matches!(field, "metadata.name" | "metadata.namespace")
            || declared.iter().any(|selectable| selectable == field);
        if !known {
            return Err(Status::bad_request(match declared {
                [] if call.served.custom.is_none() => format!(
                    "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                ),
                _ => format!("field label not supported: {field}"),
            }));
        }
    }
    let mut selection = Selection {
        namespace: if call.served.resource.namespaced { call.info.namespace.clone() } else { String::new() },
        labels,
        fields,
        selectable: storage.selectable_fields.clone(),
        namespaced: call.served.resource.namespaced,
    };
    // `/watch/pods/x`, and `namespaces/x` as a list of one.
    if !call.info.name.is_empty() {
        let only = FieldSelector::parse(&format!("metadata.name={}", call.info.name))
            .map_err(|error| Status::bad_request(error.to_string()))?;
        selection.fields.requirements.extend(only.requirements);
    }
    Ok(selection)
}

/// So long a revision that has not happened yet is waited for; as upstream.
const ON_ITS_WAY: Duration = Duration::from_secs(3);

/// What a list found.
struct Page {
    objects: Vec<Arc<Object>>,
    revision: u64,
    /// Token and number of what follows.
    more: Option<(String, Option<u64>)>,
}

pub async fn list(call: &Call) -> Result<Answer, Status> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = selection(call, &options)?;
    let page = find(call, &options, &selection).await?;
    answer(call, page).await
}

/// The objects that options and selection pick, all of them.
pub async fn objects(call: &Call) -> Result<Vec<Arc<Object>>, Status> {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = selection(call, &options)?;
    Ok(find(call, &options, &selection).await?.objects)
}

/// Makes sure that the cache is as new as the client wants it: at least at a revision, or, where it names none, at the
/// newest one. Returns the revision it is at.
pub async fn reach(call: &Call, wanted: Option<u64>) -> Result<u64, Status> {
    let caches = &call.state.caches;
    if wanted.is_none_or(|wanted| wanted > caches.applied()) {
        call.state.settle().await?;
    }
    if let Some(wanted) = wanted.filter(|wanted| *wanted > caches.applied()) {
        // The cache of a kind may be ahead of what all of them have applied: it may only be on its way.
        let mut progress = caches.progress();
        let _ = tokio::time::timeout(ON_ITS_WAY, progress.wait_for(|applied| *applied >= wanted)).await;
    }
    let applied = caches.applied();
    match wanted {
        Some(wanted) if wanted > applied => Err(too_large(wanted, applied)),
        _ => Ok(applied),
    }
}

async fn find(call: &Call, options: &ListOptions, selection: &Selection) -> Result<Page, Status> {
    let now = Timestamp::now().as_second();
    let mut begun = now;
    let exact;
    let mut start = String::new();
    if let Some(text) = &options.continue_token {
        let token = Continue::decode(text)?;
        exact = u64::try_from(token.revision).ok();
        // Keys sort before every longer key that begins with them.
        start = format!("{}\0", token.start);
        if exact.is_some() && now.saturating_sub(token.begun) > CONTINUE_LIFETIME {
            return Err(expired_token(&start));
        }
        if exact.is_some() {
            begun = token.begun;
        }
    } else {
        // Whoever names a version and wants pages gets them of that version, as ever.
        let paged = options.version_match.is_none() && options.limit > 0;
        let wanted = options.resource_version.filter(|version| *version > 0);
        exact = wanted.filter(|_| paged || options.version_match == Some(VersionMatch::Exact));
    }
    let applied = reach(call, exact.or(options.resource_version)).await?;
    if let (Some(key), None, 0) = (selection.single_key(), exact, options.limit) {
        // Read before the object: what becomes of it after this revision is told to a watch from there.
        let revision = call.served.cache.revision().max(applied);
        let found = call.served.cache.get(&key).filter(|object| selection.matches(object));
        return Ok(Page { objects: found.into_iter().collect(), revision, more: None });
    }
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    let mut objects = Vec::new();
    let mut remaining = 0u64;
    let visit = |object: &Arc<Object>| {
        if selection.is_everything() || selection.matches(object) {
            if objects.len() < limit {
                objects.push(object.clone());
            } else {
                remaining += 1;
                // Only a complete list of everything is counted to its end.
                return selection.is_everything();
            }
        }
        true
    };
    let cache = &call.served.cache;
    let revision = match exact {
        Some(exact) => {
            cache.scan_at(&selection.namespace, &start, exact, visit).map_err(|too_old| {
                match options.continue_token {
                    Some(_) => expired_token(&start),
                    None => too_old.into(),
                }
            })?;
            exact
        }
        None => cache.scan(&selection.namespace, &start, visit).max(applied),
    };
    let more = (remaining > 0).then(|| {
        let last = objects.last().map_or("", |object| &object.key);
        let token = Continue::encode(i64::try_from(revision).unwrap_or(-1), last, begun);
        (token, selection.is_everything().then_some(remaining))
    });
    Ok(Page { objects, revision, more })
}

/// The state at the revision of a list's first page is no longer known.
fn expired_token(start: &str) -> Status {
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.continue_token = Some(Continue::encode(-1, start.trim_end_matches('\0'), 0).into());
    status
}

impl From<TooOld> for Status {
    fn from(too_old: TooOld) -> Self {
        Status::expired(format!("too old resource version: {} ({})", too_old.requested, too_old.oldest))
    }
}

/// A revision that has not happened.
pub fn too_large(wanted: u64, current: u64) -> Status {
    Status::timeout(format!("Too large resource version: {wanted}, current: {current}"), 1).with_causes(vec![
        StatusCause {
            kind: "ResourceVersionTooLarge".to_owned(),
            message: "Too large resource version".to_owned(),
            ..StatusCause::default()
        },
    ])
}

/// These objects, as a list of now.
pub async fn of(call: &Call, objects: Vec<Arc<Object>>) -> Result<Answer, Status> {
    answer(call, Page { objects, revision: call.state.caches.applied(), more: None }).await
}

async fn answer(call: &Call, mut page: Page) -> Result<Answer, Status> {
    page.objects = call.served.shown(&call.state.outbound, page.objects).await?;
    let metadata = list_metadata(&page);
    if call.accept.form == Form::Table {
        let values: Vec<Value> =
            page.objects.iter().map(|object| render::served_value(call, object)).collect();
        let table = render::table(call, &values, &metadata, true)?;
        return respond::value(StatusCode::OK, &table, call.accept.format, call.pretty);
    }
    let gvk = match call.accept.form {
        Form::Partial => render::partial_kind(call, "PartialObjectMetadataList"),
        _ => call.served.resource.group_version().with_kind(&call.served.resource.list_kind),
    };
    let format = call.accept.format;
    let body = match format {
        Encoding::Protobuf => ResponseBody::full(messages(call, &gvk, &metadata, &page.objects)?),
        Encoding::Json if render::bytes_suffice(call) && !call.pretty => {
            let head = format!(
                "{{\"kind\":{},\"apiVersion\":{},\"metadata\":{metadata},\"items\":[",
                json!(gvk.kind),
                json!(gvk.api_version())
            );
            stream_objects(head, page.objects)
        }
        Encoding::Json | Encoding::Yaml => {
            let items: Vec<Value> = page.objects.iter().map(|object| render::formed(call, object)).collect();
            let list = json!({
                "kind": gvk.kind, "apiVersion": gvk.api_version(), "metadata": metadata, "items": items,
            });
            return respond::value(StatusCode::OK, &list, format, call.pretty);
        }
    };
    Ok(respond::with_body(StatusCode::OK, format.media_type(), body))
}

/// The list as protobuf.
fn messages(
    call: &Call,
    gvk: &GroupVersionKind,
    metadata: &Value,
    objects: &[Arc<Object>],
) -> Result<Bytes, Status> {
    let kind = match call.accept.form {
        Form::Partial => render::partial_kind(call, "PartialObjectMetadata"),
        _ => call.served.resource.gvk.clone(),
    };
    let schema = protobuf::schema_of(&kind).ok_or_else(Status::unknown_resource)?;
    let suffice = render::bytes_suffice(call);
    let items: Result<Vec<Bytes>, _> = objects
        .iter()
        .map(|object| match suffice {
            true => object.message(&schema),
            false => protobuf::encode_message(&schema, &render::formed(call, object)).map(Bytes::from),
        })
        .collect();
    let items = items.map_err(Status::internal)?;
    protobuf::list(gvk, metadata, items.iter().map(|item| &**item)).map_err(Status::internal)
}

fn list_metadata(page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some((token, remaining)) = &page.more {
        metadata["continue"] = token.as_str().into();
        if let Some(remaining) = remaining {
            metadata["remainingItemCount"] = (*remaining).into();
        }
    }
    metadata
}

/// The bytes of a list, copied together in pieces as the client takes them.
fn stream_objects(head: String, objects: Vec<Arc<Object>>) -> ResponseBody {
    const PIECE: usize = 64 << 10;
    const TAIL: &[u8] = b"]}\n";
    let separators = objects.len().saturating_sub(1);
    let bytes: usize = objects.iter().map(|object| object.bytes().len()).sum();
    let length = (head.len() + bytes + separators + TAIL.len()) as u64;
    let pieces =
        stream::unfold((Some(head), objects, 0usize), move |(mut head, objects, mut next)| async move {
            if next > objects.len() {
                return None;
            }
            let mut piece = BytesMut::with_capacity(PIECE.min(length as usize) + 4096);
            if let Some(head) = head.take() {
                piece.put_slice(head.as_bytes());
            }
            while piece.len() < PIECE {
                match objects.get(next) {
                    Some(object) => {
                        if next > 0 {
                            piece.put_u8(b',');
                        }
                        piece.put_slice(object.bytes());
                        next += 1;
                    }
                    None => {
                        piece.put_slice(TAIL);
                        next += 1;
                        break;
                    }
                }
            }
            Some((Ok::<Bytes, _>(piece.freeze()), (head, objects, next)))
        });
    ResponseBody::Stream(Box::pin(pieces), Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens() {
        let token = Continue::decode(&Continue::encode(7, "ns/a", 5)).unwrap();
        assert_eq!((token.revision, token.start.as_str(), token.begun), (7, "ns/a", 5));
        for bad in ["", "%%%", "e30", "bm90IGpzb24"] {
            assert_eq!(Continue::decode(bad).err().map(|status| status.code), Some(400), "{bad}");
        }
    }
}
