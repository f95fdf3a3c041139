//! The writer: one thread that commits whatever has arrived since the last commit.
//!
//! A lone request is committed at once; under load the requests that came in during one fsync share the next. Each is
//! answered after its commit is durable and every observer has seen it, so that who reads what an observer maintains
//! reads its own writes. A failed expectation is answered at the same moment as the commit it raced with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::error;

use super::queue::Queue;
use super::{Applied, Shared, Write};
use crate::{Error, Written};

/// Upper bound of one commit, so that a flood cannot make one that never ends.
const BATCH: usize = 512;
/// After a shared commit, the part of its duration that is waited for its writers to come back.
const PATIENCE: u32 = 4;
const MAX_PATIENCE: Duration = Duration::from_millis(2);

pub(crate) struct Request {
    pub write: Write,
    pub answer: oneshot::Sender<Result<Written, Error>>,
}

/// Closes the queue however the writer ends, so that nobody waits for it for ever.
struct CloseAtEnd(Arc<Queue<Request>>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close();
        let mut left = Vec::new();
        while self.0.take(&mut left, 1, Duration::ZERO, BATCH) {
            left.clear();
        }
    }
}

/// Runs until the last [`crate::Store`] is dropped.
pub(crate) fn run(shared: Arc<Shared>, queue: Arc<Queue<Request>>) {
    let queue = CloseAtEnd(queue);
    let mut batch = Vec::new();
    let mut wanted = 1;
    let mut patience = Duration::ZERO;
    while queue.0.take(&mut batch, wanted, patience, BATCH) {
        let begun = Instant::now();
        wanted = batch.len();
        let (writes, waiting): (Vec<Write>, Vec<_>) =
            batch.drain(..).map(|request| (request.write, request.answer)).unzip();
        match shared.engine.apply(writes, shared.feed.log.revision()) {
            Ok(Applied { answers, events, revision }) => {
                if !events.is_empty() {
                    shared.feed.publish(events, revision);
                }
                for (waiting, answer) in waiting.into_iter().zip(answers) {
                    // The requester may have given up; its write happened all the same.
                    let _ = waiting.send(answer);
                }
            }
            Err(failure) => {
                error!(error = %failure, writes = waiting.len(), "a commit failed; its writes did not happen");
                for waiting in waiting {
                    let _ = waiting.send(Err(failure.clone()));
                }
            }
        }
        patience = (begun.elapsed() / PATIENCE).min(MAX_PATIENCE);
    }
}
