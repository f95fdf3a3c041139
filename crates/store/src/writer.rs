//! The writer: one thread that commits whatever has arrived since the last commit.
//!
//! A lone request is committed at once; under load the requests that came in during one fsync share the next. Each is
//! answered after its commit is durable and every observer has seen it, so that who reads what an observer maintains
//! reads its own writes. A failed expectation is answered at the same moment as the commit it raced with.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tracing::error;

use crate::engine::{Applied, Write};
use crate::store::Inner;
use crate::{Error, Written};

/// Requests waiting for the writer; beyond these, writers wait for a place.
const QUEUE: usize = 1024;
/// Upper bound of one commit, so that a flood cannot make one that never ends.
const BATCH: usize = 512;

pub(crate) struct Request {
    pub write: Write,
    pub answer: oneshot::Sender<Result<Written, Error>>,
}

pub(crate) fn channel() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(QUEUE)
}

/// Runs until the last [`crate::Store`] is dropped.
pub(crate) fn run(inner: Arc<Inner>, mut requests: mpsc::Receiver<Request>) {
    let mut batch = Vec::new();
    while requests.blocking_recv_many(&mut batch, BATCH) > 0 {
        let (writes, waiting): (Vec<Write>, Vec<_>) =
            batch.drain(..).map(|request| (request.write, request.answer)).unzip();
        match inner.engine.apply(writes, inner.log.revision()) {
            Ok(Applied { answers, events, revision }) => {
                inner.publish(events, revision);
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
    }
}
