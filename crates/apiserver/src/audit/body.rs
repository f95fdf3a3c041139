//! The end of answers that are sent piece by piece: their last event is written when the last piece has gone, or the
//! client has.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;

use super::policy::{Level, Stage};
use super::trail::{Ending, Trail};
use crate::server::body::{BoxError, ResponseBody};

/// A list that is longer is recorded without its objects.
const MAX_KEPT: usize = 16 << 20;

/// A body whose end is recorded.
pub struct Recorded {
    body: ResponseBody,
    trail: Arc<Trail>,
    ending: Ending,
    content_type: String,
    /// What has been sent, as long as it is wanted and not too long.
    kept: Option<BytesMut>,
}

impl Recorded {
    pub fn new(
        body: ResponseBody,
        trail: Arc<Trail>,
        ending: Ending,
        content_type: String,
        whole: bool,
    ) -> Self {
        let kept = (whole && trail.level() >= Level::RequestResponse).then(BytesMut::new);
        Self { body, trail, ending, content_type, kept }
    }
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match &mut self.kept {
                Some(kept) if kept.len() + data.len() <= MAX_KEPT => kept.extend_from_slice(data),
                kept => *kept = None,
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.ending.object = object(&self.content_type, &kept);
        }
        if let Some(event) = self.trail.event(Stage::ResponseComplete, Some(&self.ending)) {
            self.trail.audit.send_without_waiting(event.into());
        }
    }
}

/// A body as an object, where it is one.
pub fn object(content_type: &str, body: &[u8]) -> Option<Value> {
    let plain = content_type.starts_with("application/json")
        || content_type.starts_with("application/yaml")
        || content_type.starts_with("application/vnd.kubernetes.protobuf");
    if !plain || body.is_empty() {
        return None;
    }
    api::codec::decode(content_type, body).ok().map(|decoded| decoded.value)
}
