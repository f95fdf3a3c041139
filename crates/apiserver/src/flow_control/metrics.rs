//! What flow control counts, under upstream's names. Counting is a relaxed atomic addition or two.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use exposition::{Page, float};

use super::level::{Level, Refusal};
use super::schema::Schema;

const WAIT_BUCKETS: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0];
const EXECUTION_BUCKETS: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0];

/// Counters of one FlowSchema.
pub struct SchemaMetrics {
    dispatched: AtomicU64,
    rejected: [AtomicU64; 3],
    executing: AtomicU64,
    executing_seats: AtomicU64,
    waiting: AtomicU64,
    cancelled: AtomicU64,
    waits: [Histogram; 2],
    executions: Histogram,
}

/// What several schemas have had together.
#[derive(Default)]
pub struct Totals {
    pub executing: u64,
    pub dispatched: u64,
    pub rejected: u64,
    pub timed_out: u64,
    pub cancelled: u64,
}

/// A histogram without a lock.
pub struct Histogram {
    bounds: &'static [f64; 12],
    counts: [AtomicU64; 13],
    micros: AtomicU64,
}

impl Default for SchemaMetrics {
    fn default() -> Self {
        Self {
            dispatched: AtomicU64::default(),
            rejected: Default::default(),
            executing: AtomicU64::default(),
            executing_seats: AtomicU64::default(),
            waiting: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            waits: [Histogram::new(&WAIT_BUCKETS), Histogram::new(&WAIT_BUCKETS)],
            executions: Histogram::new(&EXECUTION_BUCKETS),
        }
    }
}

impl Histogram {
    const fn new(bounds: &'static [f64; 12]) -> Self {
        Self { bounds, counts: [const { AtomicU64::new(0) }; 13], micros: AtomicU64::new(0) }
    }

    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.micros.fetch_add(took.as_micros().try_into().unwrap_or(u64::MAX), Relaxed);
    }

    fn write(&self, page: &mut Page, name: &str, labels: &[(&str, &str)]) {
        let bucket = format!("{name}_bucket");
        let mut total = 0;
        for (index, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            let bound = self.bounds.get(index).map_or("+Inf".to_owned(), f64::to_string);
            page.sample(&bucket, &[labels, &[("le", &bound)]].concat(), float(total));
        }
        page.sample(&format!("{name}_sum"), labels, float(self.micros.load(Relaxed)) / 1e6);
        page.sample(&format!("{name}_count"), labels, float(total));
    }
}

impl SchemaMetrics {
    pub fn waited(&self, time: Duration, then_executed: bool) {
        let [refused, executed] = &self.waits;
        if then_executed { executed } else { refused }.observe(time);
    }

    pub fn rejected(&self, why: Refusal) {
        let [limit, full, late] = &self.rejected;
        let counter = match why {
            Refusal::Limit => limit,
            Refusal::QueueFull => full,
            Refusal::TimeOut => late,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn begun(&self, seats: usize) {
        self.dispatched.fetch_add(1, Relaxed);
        self.executing.fetch_add(1, Relaxed);
        self.executing_seats.fetch_add(seats as u64, Relaxed);
    }

    pub fn ended(&self, seats: usize, took: Duration) {
        self.executing.fetch_sub(1, Relaxed);
        self.executing_seats.fetch_sub(seats as u64, Relaxed);
        self.executions.observe(took);
    }

    pub fn queued(&self) {
        self.waiting.fetch_add(1, Relaxed);
    }

    pub fn unqueued(&self) {
        self.waiting.fetch_sub(1, Relaxed);
    }

    /// Whoever asked went away while he waited.
    pub fn cancelled(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }

    pub fn add_to(&self, totals: &mut Totals) {
        let [limit, full, late] = &self.rejected;
        totals.executing += self.executing.load(Relaxed);
        totals.dispatched += self.dispatched.load(Relaxed);
        totals.rejected += limit.load(Relaxed) + full.load(Relaxed);
        totals.timed_out += late.load(Relaxed);
        totals.cancelled += self.cancelled.load(Relaxed);
    }
}

const PREFIX: &str = "apiserver_flowcontrol_";

pub fn write(schemas: &[Arc<Schema>], levels: &[Arc<Level>], page: &mut Page) {
    let mut of_schemas = |name: &str, kind: &str, help: &str, value: fn(&SchemaMetrics) -> u64| {
        let name = family(page, name, kind, help);
        for schema in schemas {
            page.sample(&name, &labels(schema), float(value(&schema.metrics)));
        }
    };
    of_schemas(
        "dispatched_requests_total",
        "counter",
        "Number of requests executed by API Priority and Fairness subsystem",
        |of| of.dispatched.load(Relaxed),
    );
    of_schemas(
        "current_executing_requests",
        "gauge",
        "Number of requests in regular execution phase in the API Priority and Fairness subsystem",
        |of| of.executing.load(Relaxed),
    );
    of_schemas(
        "current_executing_seats",
        "gauge",
        "Concurrency (number of seats) occupied by the currently executing requests",
        |of| of.executing_seats.load(Relaxed),
    );
    of_schemas(
        "current_inqueue_requests",
        "gauge",
        "Number of requests currently pending in queues of the API Priority and Fairness subsystem",
        |of| of.waiting.load(Relaxed),
    );
    let name = family(
        page,
        "rejected_requests_total",
        "counter",
        "Number of requests rejected by API Priority and Fairness subsystem",
    );
    for schema in schemas {
        for (reason, count) in
            [Refusal::Limit, Refusal::QueueFull, Refusal::TimeOut].into_iter().zip(&schema.metrics.rejected)
        {
            let (count, reason): (u64, &str) = (count.load(Relaxed), reason.into());
            if count > 0 {
                page.sample(&name, &[&labels(schema)[..], &[("reason", reason)]].concat(), float(count));
            }
        }
    }
    let name = family(
        page,
        "request_wait_duration_seconds",
        "histogram",
        "Length of time a request spent waiting in its queue",
    );
    for schema in schemas {
        for (executed, waits) in ["false", "true"].into_iter().zip(&schema.metrics.waits) {
            waits.write(page, &name, &[&[("execute", executed)][..], &labels(schema)].concat());
        }
    }
    let name = family(
        page,
        "request_execution_seconds",
        "histogram",
        "Duration of regular phase of request execution in the API Priority and Fairness subsystem",
    );
    for schema in schemas {
        schema.metrics.executions.write(page, &name, &labels(schema));
    }
    let mut of_levels = |name: &str, help: &str, value: fn(&Level) -> usize| {
        let name = family(page, name, "gauge", help);
        for level in levels {
            page.sample(&name, &[("priority_level", level.name())], float(value(level) as u64));
        }
    };
    of_levels("nominal_limit_seats", "Nominal number of execution seats of this priority level", |level| {
        level.shares().nominal
    });
    of_levels("lower_limit_seats", "Configured lower bound on number of execution seats", |level| {
        level.shares().lower
    });
    of_levels("upper_limit_seats", "Configured upper bound on number of execution seats", |level| {
        level.shares().upper
    });
    of_levels("current_limit_seats", "Current derived number of execution seats", Level::limit);
    of_levels("demand_seats_high_watermark", "High watermark of the demand for seats", Level::demand);
}

fn labels(schema: &Schema) -> [(&str, &str); 2] {
    [("flow_schema", &schema.name), ("priority_level", &schema.level_name)]
}

/// Begins a family; its whole name.
fn family(page: &mut Page, name: &str, kind: &str, help: &str) -> String {
    let name = format!("{PREFIX}{name}");
    page.family(&name, kind, help);
    name
}
