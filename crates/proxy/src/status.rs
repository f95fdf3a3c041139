//! How the proxy is, for those who ask on port 10256.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use jiff::Timestamp;
use serde_json::json;
use serving::plain::Page;

/// Shared by the thread that works and the pages that tell.
#[derive(Debug)]
pub(crate) struct Status {
    in_sync: AtomicBool,
    /// When routes were last made as asked for, in milliseconds.
    last_sync: AtomicI64,
    /// False when the node is about to go: load balancers are to send nobody new here.
    eligible: AtomicBool,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            in_sync: AtomicBool::new(false),
            last_sync: AtomicI64::new(0),
            eligible: AtomicBool::new(true),
        }
    }
}

impl Status {
    pub fn synced(&self, succeeded: bool) {
        if succeeded {
            self.last_sync.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
        }
        self.in_sync.store(succeeded, Ordering::Relaxed);
    }

    pub fn set_eligible(&self, eligible: bool) {
        self.eligible.store(eligible, Ordering::Relaxed);
    }

    pub fn healthy(&self) -> bool {
        self.in_sync.load(Ordering::Relaxed)
    }

    /// Whether a load balancer should send clients of Services to this node.
    pub fn healthz(&self) -> Page {
        let eligible = self.eligible.load(Ordering::Relaxed);
        self.page(self.healthy() && eligible, eligible)
    }

    /// Whether the proxy works, whatever becomes of its node.
    pub fn livez(&self) -> Page {
        self.page(self.healthy(), self.eligible.load(Ordering::Relaxed))
    }

    fn page(&self, good: bool, eligible: bool) -> Page {
        let now = Timestamp::now();
        // In good health it is up to date by definition: it is told of every change.
        let last = Timestamp::from_millisecond(self.last_sync.load(Ordering::Relaxed)).unwrap_or(now);
        let updated = if self.healthy() { now } else { last };
        let status = if good { 200 } else { 503 };
        let (now, updated) = (now.to_string(), updated.to_string());
        Page::json(status, &json!({"lastUpdated": updated, "currentTime": now, "nodeEligible": eligible}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_goes_is_alive_and_not_eligible() {
        let status = Status::default();
        let codes = |status: &Status| (status.healthz().status, status.livez().status);
        assert_eq!(codes(&status), (503, 503), "nothing has been done yet");
        status.synced(true);
        assert_eq!(codes(&status), (200, 200));
        status.set_eligible(false);
        assert_eq!(codes(&status), (503, 200));
        assert!(status.healthz().body.contains("\"nodeEligible\":false"));
        status.synced(false);
        assert_eq!(codes(&status), (503, 503));
    }
}
