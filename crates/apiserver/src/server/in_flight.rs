//! How many requests are worked on at a time: more are told to come back, so that a flood cannot use up memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::status::Status;

use crate::UserInfo;
use crate::authn::user::MASTERS;
use crate::config::Config;
use crate::request::RequestInfo;

/// Counts of requests, by kind.
pub struct InFlight {
    /// Whether there is a limit here; priority and fairness has its own.
    limited: bool,
    reading: Arc<Counter>,
    writing: Arc<Counter>,
}

struct Counter {
    now: AtomicUsize,
    limit: usize,
}

/// A request that is being worked on.
pub struct Guard(Option<Arc<Counter>>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl InFlight {
    pub fn new(config: &Config) -> Self {
        let counter = |limit| Arc::new(Counter { now: AtomicUsize::new(0), limit });
        Self {
            limited: !config.priority_and_fairness,
            reading: counter(config.max_requests_in_flight),
            writing: counter(config.max_mutating_requests_in_flight),
        }
    }

    /// 429 when there are too many already. Watches and streams are not counted, nor are administrators turned away.
    pub fn enter(&self, info: &RequestInfo, user: &UserInfo) -> Result<Guard, Status> {
        if info.is_long_running() {
            return Ok(Guard(None));
        }
        let counter = if info.is_mutating() { &self.writing } else { &self.reading };
        let before = counter.now.fetch_add(1, Ordering::Relaxed);
        let guard = Guard(Some(counter.clone()));
        if self.limited && before >= counter.limit && !user.in_group(MASTERS) {
            return Err(Status::too_many_requests("too many requests, please try again later", 1));
        }
        Ok(guard)
    }

    /// Reading and mutating requests being worked on.
    pub fn now(&self) -> (usize, usize) {
        (self.reading.now.load(Ordering::Relaxed), self.writing.now.load(Ordering::Relaxed))
    }
}
