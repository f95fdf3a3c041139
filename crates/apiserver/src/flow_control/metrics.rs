//! What flow control counts, under upstream's names. Counting is a relaxed atomic addition or two.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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
    waits: [Histogram; 2],
    executions: Histogram,
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

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut total = 0;
        for (index, count) in self.counts.iter().enumerate() {
            total += count.load(Relaxed);
            let bound = self.bounds.get(index).map_or("+Inf".to_owned(), f64::to_string);
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}");
        }
        let sum = self.micros.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}");
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
}

const PREFIX: &str = "apiserver_flowcontrol_";

pub fn text(schemas: &[Arc<Schema>], levels: &[Arc<Level>]) -> String {
    let mut out = String::with_capacity(32 << 10);
    let labels =
        |schema: &Schema| format!("flow_schema={:?},priority_level={:?}", schema.name, schema.level_name);
    let mut of_schemas = |name: &str, kind: &str, help: &str, value: fn(&SchemaMetrics) -> u64| {
        head(&mut out, name, kind, help);
        for schema in schemas {
            let _ = writeln!(out, "{PREFIX}{name}{{{}}} {}", labels(schema), value(&schema.metrics));
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
    head(
        &mut out,
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
                let _ = writeln!(
                    out,
                    "{PREFIX}rejected_requests_total{{{},reason={reason:?}}} {count}",
                    labels(schema)
                );
            }
        }
    }
    head(
        &mut out,
        "request_wait_duration_seconds",
        "histogram",
        "Length of time a request spent waiting in its queue",
    );
    for schema in schemas {
        for (executed, waits) in [false, true].into_iter().zip(&schema.metrics.waits) {
            let labels = format!("execute=\"{executed}\",{}", labels(schema));
            waits.write(&mut out, &format!("{PREFIX}request_wait_duration_seconds"), &labels);
        }
    }
    head(
        &mut out,
        "request_execution_seconds",
        "histogram",
        "Duration of regular phase of request execution in the API Priority and Fairness subsystem",
    );
    for schema in schemas {
        let name = format!("{PREFIX}request_execution_seconds");
        schema.metrics.executions.write(&mut out, &name, &labels(schema));
    }
    let mut of_levels = |name: &str, help: &str, value: fn(&Level) -> usize| {
        head(&mut out, name, "gauge", help);
        for level in levels {
            let _ = writeln!(out, "{PREFIX}{name}{{priority_level={:?}}} {}", level.name(), value(level));
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
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
}
