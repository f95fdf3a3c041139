//! The queue before a backend: how long a request waits for its events, and what happens when there are too many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::options::Mode;

/// An event on its way to a backend.
pub struct Item {
    pub event: Bytes,
    /// Told whether it has been written.
    pub done: Option<oneshot::Sender<bool>>,
}

/// The near end of a backend's queue.
pub struct Sink {
    pub name: &'static str,
    mode: Mode,
    queue: mpsc::Sender<Item>,
    /// Events that were lost.
    pub lost: Arc<AtomicU64>,
}

impl Sink {
    /// With its far end.
    pub fn new(name: &'static str, mode: Mode, buffer: usize) -> (Self, mpsc::Receiver<Item>) {
        let (queue, receiver) = mpsc::channel(buffer.max(1));
        (Self { name, mode, queue, lost: Arc::default() }, receiver)
    }

    /// Whether a request must not go on without its first event.
    pub fn is_strict(&self) -> bool {
        self.mode == Mode::BlockingStrict
    }

    /// Hands an event over as the mode says; false when it is known to be lost.
    pub async fn send(&self, event: Bytes) -> bool {
        if self.mode == Mode::Batch {
            return self.send_without_waiting(event);
        }
        let (done, written) = oneshot::channel();
        let sent = self.queue.send(Item { event, done: Some(done) }).await;
        let good = sent.is_ok() && written.await.unwrap_or(false);
        if !good {
            self.lose(1);
        }
        good
    }

    /// For events that nobody can wait for.
    pub fn send_without_waiting(&self, event: Bytes) -> bool {
        let good = self.queue.try_send(Item { event, done: None }).is_ok();
        if !good {
            self.lose(1);
        }
        good
    }

    fn lose(&self, count: u64) {
        // One line for the first of many; the metric tells the rest.
        if self.lost.fetch_add(count, Relaxed) == 0 {
            error!(backend = self.name, "audit events are being lost; see apiserver_audit_error_total");
        }
    }
}
