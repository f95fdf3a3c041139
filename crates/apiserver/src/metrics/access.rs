//! Who comes, and what they may do: authentication and authorization.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use exposition::{Page, float};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

type Durations = Family<Outcome, Histogram, fn() -> Histogram>;

pub struct Access {
    authenticated: Durations,
    authorized: Durations,
    authorizations: Family<Outcome, Counter>,
    /// Those that succeeded, those that did not, and of the former the users of each class. Upstream's names of them
    /// do not end in `_total`, as the registry would have it.
    attempts: [AtomicU64; 2],
    users: [AtomicU64; CLASSES.len() + 1],
}

fn durations() -> Durations {
    Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15)))
}

impl Access {
    pub fn new(registry: &mut Registry) -> Self {
        let (authenticated, authorized) = (durations(), durations());
        registry.register(
            "authentication_duration_seconds",
            "Authentication duration in seconds broken out by result",
            authenticated.clone(),
        );
        registry.register(
            "authorization_duration_seconds",
            "Authorization duration in seconds broken out by result",
            authorized.clone(),
        );
        let authorizations = Family::default();
        registry.register(
            "authorization_attempts",
            "Counter of authorization attempts broken down by result",
            authorizations.clone(),
        );
        Self {
            authenticated,
            authorized,
            authorizations,
            attempts: Default::default(),
            users: Default::default(),
        }
    }

    /// A request has been found to come from this user, or from nobody that is known.
    pub fn authenticated(&self, user: Option<&str>, took: Duration) {
        let result = if user.is_some() { "success" } else { "failure" };
        self.authenticated.get_or_create(&Outcome { result }).observe(took.as_secs_f64());
        let [succeeded, failed] = &self.attempts;
        if user.is_some() { succeeded } else { failed }.fetch_add(1, Relaxed);
        if let Some(counter) = user.and_then(|user| self.users.get(class_of(user))) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// What the registry does not have.
    pub fn write(&self, page: &mut Page) {
        let name = "authentication_attempts";
        page.family(name, "counter", "Counter of authenticated attempts.");
        for (result, count) in ["success", "failure"].iter().zip(&self.attempts) {
            page.sample(name, &[("result", result)], float(count.load(Relaxed)));
        }
        let name = "authenticated_user_requests";
        page.family(name, "counter", "Counter of authenticated requests broken out by username.");
        for (class, count) in CLASSES.iter().chain(&["other"]).zip(&self.users) {
            page.sample(name, &[("username", class)], float(count.load(Relaxed)));
        }
    }

    pub fn authorized(&self, allowed: bool, took: Duration) {
        let outcome = Outcome { result: if allowed { "allowed" } else { "denied" } };
        self.authorized.get_or_create(&outcome).observe(took.as_secs_f64());
        self.authorizations.get_or_create(&outcome).inc();
    }
}

/// Users are many, and their names are nobody's business: upstream tells but these apart, and mail addresses from others.
const CLASSES: [&str; 6] =
    ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default", "email_id"];

fn class_of(user: &str) -> usize {
    let class = if user.contains('@') { "email_id" } else { user };
    CLASSES.iter().position(|known| *known == class).unwrap_or(CLASSES.len())
}
