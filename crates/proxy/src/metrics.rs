//! Measurements, under upstream's names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exposition::Meters;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serving::plain::Page;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Code {
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TrafficPolicy {
    traffic_policy: &'static str,
}

/// What the proxy asks of the API server.
pub(crate) static REQUESTS: Meters = Meters::new(client::REQUESTS);

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The measurements of one proxy. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    sync_duration: Histogram,
    programming_duration: Histogram,
    last_sync: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(crate) service_changes: Counter,
    pub(crate) endpoint_changes: Counter,
    pub(crate) failures: Counter,
    last_queued: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(crate) healthz: Family<Code, Counter>,
    pub(crate) livez: Family<Code, Counter>,
    no_local_endpoints: Family<TrafficPolicy, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            sync_duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 20)),
            // From milliseconds to minutes: upstream's begin where a sync here is long over.
            programming_duration: Histogram::new(exponential_buckets(0.001, 2.0, 19)),
            last_sync: Gauge::default(),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
            failures: Counter::default(),
            last_queued: Gauge::default(),
            healthz: Family::default(),
            livez: Family::default(),
            no_local_endpoints: Family::default(),
        }
    }
}

impl Metrics {
    /// Puts them into a registry, under the prefix `kubeproxy`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("kubeproxy");
        registry.register("proxy_healthz", "Cumulative proxy healthz HTTP status", self.healthz.clone());
        registry.register("proxy_livez", "Cumulative proxy livez HTTP status", self.livez.clone());
        registry.register_with_unit(
            "sync_proxy_rules_duration",
            "SyncProxyRules latency in seconds",
            Unit::Seconds,
            self.sync_duration.clone(),
        );
        registry.register_with_unit(
            "network_programming_duration",
            "In cluster network programming latency in seconds",
            Unit::Seconds,
            self.programming_duration.clone(),
        );
        registry.register_with_unit(
            "sync_proxy_rules_last_timestamp",
            "The last time proxy rules were successfully synced",
            Unit::Seconds,
            self.last_sync.clone(),
        );
        registry.register_with_unit(
            "sync_proxy_rules_last_queued_timestamp",
            "The last time a sync of proxy rules was queued",
            Unit::Seconds,
            self.last_queued.clone(),
        );
        registry.register(
            "sync_proxy_rules_service_changes",
            "Cumulative proxy rules Service changes",
            self.service_changes.clone(),
        );
        registry.register(
            "sync_proxy_rules_endpoint_changes",
            "Cumulative proxy rules Endpoint changes",
            self.endpoint_changes.clone(),
        );
        registry.register(
            "sync_proxy_rules_nftables_sync_failures",
            "Cumulative proxy nftables sync failures",
            self.failures.clone(),
        );
        registry.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            self.no_local_endpoints.clone(),
        );
    }

    /// One more sync, and how long it took.
    pub(crate) fn synced(&self, took: Duration) {
        self.sync_duration.observe(took.as_secs_f64());
        self.last_sync.set(now());
    }

    /// Something is to be synced.
    pub(crate) fn queued(&self) {
        self.last_queued.set(now());
    }

    /// What happened at these times is routed now.
    pub(crate) fn programmed(&self, triggers: &[Timestamp]) {
        let now = Timestamp::now();
        for trigger in triggers {
            self.programming_duration.observe(now.duration_since(*trigger).as_secs_f64().max(0.0));
        }
    }

    /// Counts the page by its status.
    pub(crate) fn health_told(&self, told: &Family<Code, Counter>, page: Page) -> Page {
        told.get_or_create(&Code { code: page.status }).inc();
        page
    }

    pub(crate) fn no_local_endpoints(&self, internal: usize, external: usize) {
        for (traffic_policy, count) in [("internal", internal), ("external", external)] {
            let gauge = self.no_local_endpoints.get_or_create(&TrafficPolicy { traffic_policy });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// All of them as Prometheus reads them.
    pub(crate) fn text(&self) -> String {
        let mut registry = Registry::default();
        self.register(&mut registry);
        exposition::text(&registry) + &REQUESTS.text()
    }
}
