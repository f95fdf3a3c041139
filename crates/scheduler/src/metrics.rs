//! Measurements, under upstream's names.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::queue::Pending;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    profile: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Point {
    extension_point: &'static str,
    profile: String,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Incoming {
    event: &'static str,
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queue {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempts {
    attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cached {
    r#type: &'static str,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Scheduled,
    Unschedulable,
    Error,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

/// The measurements of one scheduler. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    attempts: Family<Attempt, Counter>,
    attempt_duration: Family<Attempt, Histogram, fn() -> Histogram>,
    algorithm_duration: Histogram,
    sli_duration: Family<Attempts, Histogram, fn() -> Histogram>,
    points: Family<Point, Histogram, fn() -> Histogram>,
    incoming: Family<Incoming, Counter>,
    pod_attempts: Histogram,
    pending: Family<Queue, Gauge<i64, AtomicI64>>,
    preemptions: Counter,
    victims: Histogram,
    cached: Family<Cached, Gauge<i64, AtomicI64>>,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

fn short_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 12))
}

fn long_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 20))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            attempt_duration: Family::new_with_constructor(seconds),
            algorithm_duration: seconds(),
            sli_duration: Family::new_with_constructor(long_seconds),
            points: Family::new_with_constructor(short_seconds),
            incoming: Family::default(),
            pod_attempts: Histogram::new(exponential_buckets(1.0, 2.0, 5)),
            pending: Family::default(),
            preemptions: Counter::default(),
            victims: Histogram::new(exponential_buckets(1.0, 2.0, 7)),
            cached: Family::default(),
        }
    }
}

impl Metrics {
    /// In the text form that Prometheus reads.
    pub fn encode(&self) -> String {
        let mut registry = Registry::default();
        self.register(&mut registry);
        exposition::text(&registry)
    }

    /// Puts them into a registry, under the prefix `scheduler`.
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("scheduler");
        registry.register(
            "schedule_attempts",
            "Number of attempts to schedule pods, by the result",
            self.attempts.clone(),
        );
        registry.register(
            "scheduling_attempt_duration_seconds",
            "Scheduling attempt latency in seconds (scheduling algorithm + binding)",
            self.attempt_duration.clone(),
        );
        registry.register(
            "scheduling_algorithm_duration_seconds",
            "Scheduling algorithm latency in seconds",
            self.algorithm_duration.clone(),
        );
        registry.register(
            "framework_extension_point_duration_seconds",
            "Latency for running all plugins of a specific extension point.",
            self.points.clone(),
        );
        registry.register(
            "queue_incoming_pods",
            "Number of pods added to scheduling queues by event and queue type.",
            self.incoming.clone(),
        );
        registry.register(
            "pod_scheduling_sli_duration_seconds",
            "E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue",
            self.sli_duration.clone(),
        );
        registry.register(
            "pod_scheduling_attempts",
            "Number of attempts to successfully schedule a pod",
            self.pod_attempts.clone(),
        );
        registry.register("pending_pods", "Number of pending pods, by the queue type", self.pending.clone());
        registry.register(
            "preemption_attempts",
            "Total preemption attempts in the cluster till now",
            self.preemptions.clone(),
        );
        registry.register(
            "preemption_victims",
            "Number of selected preemption victims",
            self.victims.clone(),
        );
        registry.register("cache_size", "Number of nodes, pods, and assumed pods", self.cached.clone());
    }

    pub fn decided(&self, duration: Duration) {
        self.algorithm_duration.observe(duration.as_secs_f64());
    }

    /// An extension point has been gone through. A pod that does not get on there is no error.
    pub fn passed(&self, extension_point: &'static str, profile: &str, went_well: bool, took: Duration) {
        let status = match (went_well, extension_point) {
            (true, _) => "Success",
            (false, "Bind" | "PreBind") => "Error",
            (false, _) => "Unschedulable",
        };
        let point = Point { extension_point, profile: profile.to_owned(), status };
        self.points.get_or_create(&point).observe(took.as_secs_f64());
    }

    /// So many pods have come to that part of the queue by now.
    pub fn came(&self, event: &'static str, queue: &'static str, count: u64) {
        let counter = self.incoming.get_or_create_owned(&Incoming { event, queue });
        counter.inc_by(count.saturating_sub(counter.get()));
    }

    /// An attempt has come to its end after so long.
    pub fn attempted(&self, profile: &str, outcome: Outcome, duration: Duration) {
        let attempt = Attempt { profile: profile.to_owned(), result: outcome.name() };
        self.attempts.get_or_create(&attempt).inc();
        self.attempt_duration.get_or_create(&attempt).observe(duration.as_secs_f64());
    }

    /// A pod has its node, after so many attempts and so long.
    pub fn scheduled(&self, attempts: u32, since: Duration) {
        self.pod_attempts.observe(f64::from(attempts));
        let attempts = Attempts { attempts: attempts.min(16) };
        self.sli_duration.get_or_create(&attempts).observe(since.as_secs_f64());
    }

    pub fn preempted(&self, victims: usize) {
        self.preemptions.inc();
        self.victims.observe(victims as f64);
    }

    pub fn cache(&self, nodes: usize, pods: usize, assumed: usize) {
        for (r#type, count) in [("nodes", nodes), ("pods", pods), ("assumed_pods", assumed)] {
            self.cached.get_or_create(&Cached { r#type }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub fn waiting(&self, pending: Pending) {
        let counts = [
            ("active", pending.active),
            ("backoff", pending.backoff),
            ("unschedulable", pending.unschedulable),
            ("gated", pending.gated),
        ];
        for (queue, count) in counts {
            self.pending.get_or_create(&Queue { queue }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_dashboards_use() {
        let metrics = Metrics::default();
        metrics.attempted("default-scheduler", Outcome::Scheduled, Duration::from_millis(2));
        metrics.waiting(Pending { active: 3, ..Pending::default() });
        metrics.scheduled(1, Duration::from_secs(1));
        let text = metrics.encode();
        for line in [
            "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1",
            "scheduler_pending_pods{queue=\"active\"} 3",
            "scheduler_scheduling_attempt_duration_seconds_count{profile=\"default-scheduler\",result=\"scheduled\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} 1",
            "scheduler_preemption_attempts_total 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
