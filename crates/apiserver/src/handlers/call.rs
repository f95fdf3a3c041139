//! What every handler of a resource knows about the request it answers.

use std::sync::Arc;

use api::status::{GroupResource, Status};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::UserInfo;
use crate::cache::object_key;
use crate::catalog::Served;
use crate::negotiate::Accept;
use crate::options::Query;
use crate::request::RequestInfo;
use crate::server::body::RequestBody;
use crate::server::unread::drain;
use crate::state::State;

/// Bodies of writes are at most this long, as upstream's.
pub const MAX_BODY: usize = 3 << 20;

/// A request for a resource that exists, authorized.
pub struct Call {
    pub state: Arc<State>,
    pub served: Arc<Served>,
    pub info: RequestInfo,
    pub user: UserInfo,
    pub query: Query,
    pub headers: HeaderMap,
    pub accept: Accept,
    /// JSON is to be indented.
    pub pretty: bool,
    /// Told to the client in headers.
    pub warnings: Mutex<Vec<String>>,
}

impl Call {
    /// As errors name the resource.
    pub fn group_resource(&self) -> GroupResource<'_> {
        (self.served.resource.gvk.group.as_str(), self.served.resource.plural.as_str()).into()
    }

    /// The cache key of the object that the path names.
    pub fn key(&self) -> String {
        let namespace = if self.served.resource.namespaced { &self.info.namespace } else { "" };
        object_key(namespace, &self.info.name)
    }

    pub fn not_found(&self) -> Status {
        Status::not_found(self.group_resource(), &self.info.name)
    }

    pub fn warn(&self, warning: impl Into<String>) {
        let warning = warning.into();
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    pub fn content_type(&self) -> &str {
        let header = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        header.unwrap_or_default()
    }

    /// Who owns the fields that this request sets.
    pub fn field_manager(&self, given: Option<&str>) -> String {
        let name = given.map(str::to_owned).unwrap_or_else(|| {
            let agent =
                self.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
            agent.split('/').next().unwrap_or_default().to_owned()
        });
        name.chars().filter(|character| !character.is_control()).take(128).collect()
    }
}

/// As much of a body that is too long is read all the same, before it is refused: a client that finds the connection
/// closed while it sends never reads the answer.
const DRAINED: usize = 32 << 20;

/// The whole body; 413 when it is too long.
pub async fn read_body(headers: &HeaderMap, mut body: RequestBody, limit: usize) -> Result<Bytes, Status> {
    let too_large = || Status::too_large(format!("limit is {limit}"));
    let told = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|length| length > limit as u64) {
        drain(body, DRAINED).await;
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Status::bad_request(format!("unable to read request body: {error}")))?;
        if let Ok(piece) = frame.into_data() {
            if whole.len() + piece.len() > limit {
                drop(whole);
                drain(body, DRAINED).await;
                return Err(too_large());
            }
            whole.extend_from_slice(&piece);
        }
    }
    Ok(whole.freeze())
}
