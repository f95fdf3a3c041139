//! Watches: what exists (if asked for), then every change, as lines of JSON.
//!
//! The answer is made as its client takes it. What everybody with the same selection is sent is put together once for
//! all of them ([`crate::cache::feed`]); the rest is made per watch.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, Sleep};

use super::call::Call;
use super::frame::Frames;
use super::{list, render};
use crate::cache::event::Change;
use crate::cache::feed::{Audience, Feed};
use crate::cache::object::Object;
use crate::cache::watcher::{PIECE, Told, Watcher};
use crate::negotiate::Encoding;
use crate::options::ListOptions;
use crate::server::body::{BoxError, ResponseBody};
use crate::server::respond::{self, Answer};

/// A watch that does not say lasts between one and two of these, so that those of one moment do not end together.
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
/// How often a quiet watch is told how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Before it ends, a watch is told once more.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

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
        Err(too_old) => {
            // It ends as it begins.
            let frames = Frames::new(call);
            let error = ResponseBody::full(frames.error(&too_old.into())?);
            return Ok(respond::with_body(StatusCode::OK, frames.content_type(), error));
        }
    };
    let initial = call.served.shown(&call.state.outbound, initial).await?;
    let timeout = options.timeout_seconds.filter(|seconds| *seconds > 0).map_or_else(
        || MIN_TIMEOUT.mul_f64(1.0 + rand::random::<f64>()),
        |seconds| Duration::from_secs(seconds.min(u64::from(u32::MAX))),
    );
    let now = Instant::now();
    let events = call.state.metrics.watched(&call.info);
    let cache = call.served.cache.clone();
    let frames = Frames::new(call);
    let content_type = frames.content_type();
    let stream = Stream {
        feed: frames.are_common().then(|| cache.feeds.join(audience(&frames.call, &options))),
        frames,
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
        over: false,
    };
    let body = ResponseBody::stream(stream::unfold(stream, |mut stream| async move {
        let frame = stream.next().await?;
        Some((Ok::<Bytes, BoxError>(frame), stream))
    }));
    Ok(respond::with_body(StatusCode::OK, content_type, body))
}

fn audience(call: &Call, options: &ListOptions) -> Audience {
    Audience {
        namespace: call.info.namespace.clone(),
        name: call.info.name.clone(),
        label_selector: options.label_selector.clone(),
        field_selector: options.field_selector.clone(),
        protobuf: call.accept.format == Encoding::Protobuf,
    }
}

struct Stream {
    frames: Frames,
    /// Of those who are sent the same.
    feed: Option<Arc<Feed>>,
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
                self.frames.error(&status).ok()
            }
        }
    }

    async fn try_next(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(object) = self.initial.pop_front() {
            self.events.inc();
            let first = self.frames.object(Change::Added, &object)?;
            return self.gather(first, |stream| {
                let object = stream.initial.front()?;
                stream.events.inc();
                let frame = stream.frames.object(Change::Added, object);
                stream.initial.pop_front();
                Some(frame)
            });
        }
        if std::mem::take(&mut self.initial_end) {
            return self.frames.bookmark(self.initial_revision, true).map(Some);
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
                more = more(&mut self.watcher, self.feed.as_ref(), &self.frames) => match more? {
                    More::Frames(frames, count) => {
                        self.events.inc_by(count);
                        return Ok(Some(frames));
                    }
                    More::Told(told) if told.is_empty() => return Ok(None),
                    More::Told(told) => {
                        for told in told {
                            let told = self.shown(told).await?;
                            self.pending.push_back(told);
                        }
                    }
                },
                () = &mut self.timer => {
                    let now = Instant::now();
                    if now >= self.ends {
                        return Ok(None);
                    }
                    let before_end = self.ends.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(now);
                    let next = if now >= before_end { self.ends } else { (now + BOOKMARK_EVERY).min(before_end) };
                    self.timer.as_mut().reset(next);
                    let revision = self.watcher.progress();
                    return self.frames.bookmark(revision, false).map(Some);
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
        if self.frames.call.served.custom.is_none() {
            return Ok(told);
        }
        let shown = render::shown(&self.frames.call, told.object()).await?;
        Ok(if Arc::ptr_eq(&shown, told.object()) { told } else { Told::Own(told.change(), shown) })
    }

    fn told(&self, told: &Told) -> Result<Bytes, Status> {
        self.events.inc();
        self.frames.told(told)
    }
}

/// What a watch is sent next.
enum More {
    /// So many events, ready to be sent.
    Frames(Bytes, u64),
    /// Events to be made frames of; none when there will be no more.
    Told(Vec<Told>),
}

async fn more(watcher: &mut Watcher, feed: Option<&Arc<Feed>>, frames: &Frames) -> Result<More, Status> {
    let Some(feed) = feed else {
        return Ok(More::Told(watcher.next().await?));
    };
    Ok(match watcher.next_batch(feed, |told| frames.told(told)).await? {
        Some(batch) => More::Frames(batch.frames, batch.events),
        None => More::Told(Vec::new()),
    })
}
