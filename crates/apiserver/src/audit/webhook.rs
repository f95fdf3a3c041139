//! Events posted to a server, many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::options::WebhookOptions;
use super::sink::Item;
use crate::outbound::client::Client;

/// For one attempt, connection included.
const TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 5;

/// Posts until the queue is closed.
pub async fn run(
    client: Client,
    options: WebhookOptions,
    mut queue: mpsc::Receiver<Item>,
    lost: Arc<AtomicU64>,
) {
    while let Some(first) = queue.recv().await {
        // Who waits for an answer is not kept waiting for others.
        let wait = if first.done.is_some() { Duration::ZERO } else { options.batching.max_wait };
        let until = Instant::now() + wait;
        let mut batch = vec![first];
        while batch.len() < options.batching.max_size.max(1) {
            match timeout_at(until, queue.recv()).await {
                Ok(Some(item)) => batch.push(item),
                Ok(None) | Err(_) => break,
            }
        }
        let posted = post(&client, list(&batch), options.initial_backoff).await;
        if let Err(error) = &posted {
            warn!(%error, events = batch.len(), "audit events could not be posted and are lost");
            let unaware = batch.iter().filter(|item| item.done.is_none()).count();
            lost.fetch_add(unaware as u64, Relaxed);
        }
        for done in batch.into_iter().filter_map(|item| item.done) {
            // Whose request has gone away does not care.
            let _ = done.send(posted.is_ok());
        }
    }
}

async fn post(
    client: &Client,
    body: Bytes,
    mut backoff: Duration,
) -> Result<(), crate::outbound::client::CallError> {
    let mut attempt = 1;
    loop {
        match client.post_bytes(body.clone(), TIMEOUT).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                tokio::time::sleep(backoff).await;
                backoff = backoff.mul_f64(1.5);
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn list(batch: &[Item]) -> Bytes {
    let mut list = BytesMut::new();
    list.put_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
    for (index, item) in batch.iter().enumerate() {
        if index > 0 {
            list.put_u8(b',');
        }
        list.put_slice(&item.event);
    }
    list.put_slice(b"]}");
    list.freeze()
}
