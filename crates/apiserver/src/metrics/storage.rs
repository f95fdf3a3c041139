//! The store as this server sees it, under the names that etcd's clients have.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What is written, and of which kind: `type` is what the other two are together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: &'static str,
    r#type: String,
    group: String,
    resource: String,
}

pub struct Storage {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    requests: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
}

impl Storage {
    pub fn new(registry: &mut Registry) -> Self {
        let durations: Family<Labels, Histogram, fn() -> Histogram> = Family::new_with_constructor(|| {
            Histogram::new([
                0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0,
                10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
            ])
        });
        registry.register(
            "etcd_request_duration_seconds",
            "Etcd request latency in seconds for each operation and object type.",
            durations.clone(),
        );
        let requests = Family::default();
        registry.register(
            "etcd_requests",
            "Etcd request counts for each operation and object type.",
            requests.clone(),
        );
        let errors = Family::default();
        registry.register(
            "etcd_request_errors",
            "Etcd failed request counts for each operation and object type.",
            errors.clone(),
        );
        Self { durations, requests, errors }
    }

    /// A request to the store, which has failed where something went wrong with it: a race that was lost is none.
    pub fn asked(&self, operation: &'static str, group: &str, resource: &str, took: Duration, failed: bool) {
        let name = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let labels =
            Labels { operation, r#type: name, group: group.to_owned(), resource: resource.to_owned() };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&labels).inc();
        if failed {
            self.errors.get_or_create(&labels).inc();
        }
    }
}
