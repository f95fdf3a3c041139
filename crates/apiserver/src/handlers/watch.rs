//! Watches: what exists (if asked for), then every change, as lines of JSON.
//!
//! The answer is made as its client takes it. Frames of whole objects are encoded once per event and shared by all who
//! watch; selections, tables and partial metadata are made per watch.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::codec::protobuf;
use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep};

use super::call::Call;
use super::{list, render};
use crate::cache::event::{Change, json_frame};
use crate::cache::object::Object;
use crate::cache::watcher::{Told, Watcher};
use crate::negotiate::{Encoding, Form};
use crate::options::ListOptions;
use crate::server::body::{BoxError, ResponseBody};
use crate::server::respond::{self, Answer};

/// A watch that does not say lasts between one and two of these, so that those of one moment do not end together.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
/// How often a quiet watch is told how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Before it ends, a watch is told once more.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// Frames that are ready go out together, up to about so many bytes.
const PIECE: usize = 32 << 10;

pub async fn watch(call: Call) -> Result<Answer, Status> {
    let options = ListOptions::parse(&call.query, true)?;
    let selection = list::selection(&call, &options)?;
    let caches = &call.state.caches;
    let applied = list::reach(&call, options.resource_version).await?;
    let version = options.resource_version.unwrap_or(0);
    let mut initial = Vec::new();
    // Without a version, or with 0, a watch begins with what exists, unless it says that it does not want that.
    let from_now = version == 0 || options.send_initial_events == Some(true);
    let from = if from_now {
        let wanted = options.send_initial_events != Some(false);
        let revision = call.served.cache.scan(&selection.namespace, "", |object| {
            if wanted && selection.matches(object) {
                initial.push(object.clone());
            }
            wanted
        });
        revision.max(applied)
    } else {
        version
    };
    let watcher = match Watcher::new(caches.clone(), call.served.cache.clone(), selection, from) {
        Ok(watcher) => watcher,
        Err(too_old) => return ended(&call, &list::too_old_version(too_old)),
    };
    let initial = call.served.shown(&call.state.outbound, initial).await?;
    let content_type = content_type(&call);
    let timeout = options.timeout_seconds.filter(|seconds| *seconds > 0).map_or_else(
        || MIN_TIMEOUT.mul_f64(1.0 + rand::random::<f64>()),
        |seconds| Duration::from_secs(seconds.min(u64::from(u32::MAX))),
    );
    let now = Instant::now();
    let events = call.state.metrics.watched(&call.info);
    let stream = Stream {
        call,
        events,
        watcher,
        initial: initial.into(),
        // The end of the initial events is told by a bookmark.
        initial_end: options.send_initial_events == Some(true) && options.allow_bookmarks,
        initial_revision: from,
        pending: VecDeque::new(),
        ends: now + timeout,
        timer: Box::pin(tokio::time::sleep_until(match options.allow_bookmarks {
            true => now + BOOKMARK_EVERY.min(timeout.saturating_sub(BOOKMARK_BEFORE_END)),
            false => now + timeout,
        })),
        columns_sent: AtomicBool::new(false),
        over: false,
    };
    let body = ResponseBody::stream(stream::unfold(stream, |mut stream| async move {
        let frame = stream.next().await?;
        Some((Ok::<Bytes, BoxError>(frame), stream))
    }));
    Ok(respond::with_body(StatusCode::OK, content_type, body))
}

fn content_type(call: &Call) -> &'static str {
    match call.accept.format {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Encoding::Json | Encoding::Yaml => "application/json",
    }
}

/// A watch that ends as it begins.
fn ended(call: &Call, status: &Status) -> Result<Answer, Status> {
    let frame = framed(call, "ERROR", &status.to_value())?;
    Ok(respond::with_body(StatusCode::OK, content_type(call), ResponseBody::full(frame)))
}

/// A frame around an object that is not in the cache.
fn framed(call: &Call, kind: &str, object: &Value) -> Result<Bytes, Status> {
    match call.accept.format {
        Encoding::Protobuf => {
            let object = protobuf::encode(object).map_err(Status::internal)?;
            protobuf::watch_frame(kind, &object).map_err(Status::internal)
        }
        Encoding::Json | Encoding::Yaml => {
            Ok(json_frame(kind, &serde_json::to_vec(object).map_err(Status::internal)?))
        }
    }
}

struct Stream {
    call: Call,
    /// Those that have been sent.
    events: Counter,
    watcher: Watcher,
    initial: VecDeque<Arc<Object>>,
    initial_end: bool,
    initial_revision: u64,
    pending: VecDeque<Told>,
    ends: Instant,
    /// Goes off at the next bookmark or at the end.
    timer: Pin<Box<Sleep>>,
    /// A table's columns go with its first rows.
    columns_sent: AtomicBool,
    over: bool,
}

impl Stream {
    /// The next line, or the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        match self.try_next().await {
            Ok(frame) => frame,
            Err(status) => {
                self.over = true;
                framed(&self.call, "ERROR", &status.to_value()).ok()
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(object) = self.initial.pop_front() {
            self.events.inc();
            let first = self.frame(Change::Added, &object)?;
            return self.gather(first, |stream| {
                let object = stream.initial.front()?;
                stream.events.inc();
                let frame = stream.frame(Change::Added, object);
                stream.initial.pop_front();
                Some(frame)
            });
        }
        if std::mem::take(&mut self.initial_end) {
            return self.bookmark(self.initial_revision, true).map(Some);
        }
        loop {
            if let Some(told) = self.pending.pop_front() {
                let first = self.told(&told)?;
                return self.gather(first, |stream| {
                    let told = stream.pending.pop_front()?;
                    Some(stream.told(&told))
                });
            }
            tokio::select! {
                biased;
                told = self.watcher.next() => {
                    let told = told.map_err(list::too_old_version)?;
                    if told.is_empty() {
                        return Ok(None);
                    }
                    for told in told {
                        let told = self.shown(told).await?;
                        self.pending.push_back(told);
                    }
                }
                () = &mut self.timer => {
                    let now = Instant::now();
                    if now >= self.ends {
                        return Ok(None);
                    }
                    let before_end = self.ends.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(now);
                    let next = if now >= before_end { self.ends } else { (now + BOOKMARK_EVERY).min(before_end) };
                    self.timer.as_mut().reset(next);
                    let revision = self.watcher.progress();
                    return self.bookmark(revision, false).map(Some);
                }
            }
        }
    }

    /// The frame, and those that are ready after it: one write for all of them. What is alone is not copied.
    fn gather(
        &mut self,
        first: Bytes,
        mut next: impl FnMut(&mut Self) -> Option<Result<Bytes, Status>>,
    ) -> Result<Option<Bytes>, Status> {
        let Some(second) = next(self) else { return Ok(Some(first)) };
        let mut together = BytesMut::with_capacity(PIECE + first.len());
        together.put(first);
        together.put(second?);
        while together.len() < PIECE
            && let Some(frame) = next(self)
        {
            together.put(frame?);
        }
        Ok(Some(together.freeze()))
    }

    /// The change as the version that is watched shows it.
    async fn shown(&self, told: Told) -> Result<Told, Status> {
        if self.call.served.custom.is_none() {
            return Ok(told);
        }
        let shown = render::shown(&self.call, told.object()).await?;
        Ok(if Arc::ptr_eq(&shown, told.object()) { told } else { Told::Own(told.change(), shown) })
    }

    fn told(&self, told: &Told) -> Result<Bytes, Status> {
        self.events.inc();
        match told {
            Told::Shared(event) if render::bytes_suffice(&self.call) => match self.call.accept.format {
                Encoding::Protobuf => event.protobuf_frame(|| self.frame(event.change, &event.object)),
                Encoding::Json | Encoding::Yaml => Ok(event.frame()),
            },
            told => self.frame(told.change(), told.object()),
        }
    }

    fn frame(&self, change: Change, object: &Arc<Object>) -> Result<Bytes, Status> {
        if self.call.accept.form != Form::Table {
            let object = render::item_bytes(&self.call, object)?;
            return match self.call.accept.format {
                Encoding::Protobuf => {
                    protobuf::watch_frame(change.as_str(), &object).map_err(Status::internal)
                }
                Encoding::Json | Encoding::Yaml => Ok(json_frame(change.as_str(), &object)),
            };
        }
        let value = render::served_value(&self.call, object);
        let metadata = value["metadata"].clone();
        let headers = !self.columns_sent.swap(true, Ordering::Relaxed);
        let table = render::table(&self.call, &[value], &metadata, headers)?;
        let table = serde_json::to_vec(&table).map_err(Status::internal)?;
        Ok(json_frame(change.as_str(), &table))
    }

    /// How far this watch has come, as an object with nothing but a version.
    fn bookmark(&self, revision: u64, initial_end: bool) -> Result<Bytes, Status> {
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.call.accept.form {
            Form::Partial => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": self.call.accept.meta_version, "metadata": metadata})
            }
            Form::Table => json!({
                "kind": "Table", "apiVersion": self.call.accept.meta_version, "columnDefinitions": [], "rows": [],
                "metadata": {"resourceVersion": revision.to_string()},
            }),
            Form::Whole => json!({
                "kind": self.call.served.resource.gvk.kind,
                "apiVersion": self.call.served.api_version,
                "metadata": metadata,
            }),
        };
        framed(&self.call, "BOOKMARK", &object)
    }
}
