//! Letting pods in: a pod's processes wait until its policies are in the kernel.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::pod::Sandbox;

/// The API server may not have told of all policies yet. Whoever waits longer is told so, and tries again.
const PATIENCE: Duration = Duration::from_secs(20);

/// A pod must not run yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    #[error("the network policies of the cluster are not known yet: is the API server reachable?")]
    Unknown,
    #[error("network policies are no longer enforced by this process")]
    Ended,
}

pub(crate) struct Request {
    pub sandbox: Sandbox,
    pub done: oneshot::Sender<()>,
}

/// Where whoever gives pods their addresses tells of them.
#[derive(Clone)]
pub struct Gate {
    requests: mpsc::UnboundedSender<Request>,
}

/// What [`crate::run`] works off.
pub struct Requests(pub(crate) mpsc::UnboundedReceiver<Request>);

impl Gate {
    pub fn new() -> (Self, Requests) {
        let (requests, receiver) = mpsc::unbounded_channel();
        (Self { requests }, Requests(receiver))
    }

    /// Returns when what policies say of the pod is in force.
    pub async fn admit(&self, sandbox: Sandbox) -> Result<(), NotAdmitted> {
        let (done, finished) = oneshot::channel();
        self.requests.send(Request { sandbox, done }).map_err(|_| NotAdmitted::Ended)?;
        match tokio::time::timeout(PATIENCE, finished).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(NotAdmitted::Ended),
            Err(_) => Err(NotAdmitted::Unknown),
        }
    }
}
