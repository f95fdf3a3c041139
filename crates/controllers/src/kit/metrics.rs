//! What the work queues tell about themselves, and controllers of their work, under upstream's names and in Prometheus' text form.

use std::sync::Arc;
use std::time::Duration;

use exposition::{Histogram, Page};
use parking_lot::Mutex;

use super::meters::METERS;
use super::queue::Queue;

/// Upper bounds in seconds: ten nanoseconds, and eleven times ten times that.
pub const BUCKETS: [f64; 12] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0];

/// What one queue tells.
#[derive(Debug)]
pub struct Told {
    pub depth: usize,
    pub added: u64,
    pub retried: u64,
    pub waited: Histogram,
    pub worked: Histogram,
    pub unfinished: Duration,
    pub longest: Duration,
}

/// The queues of one process. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<(&'static str, Queue)>>>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Metrics {
    pub(crate) fn add(&self, name: &'static str, queue: Queue) {
        let mut queues = self.0.lock();
        // Controllers that lead again start anew.
        queues.retain(|(known, _)| *known != name);
        queues.push((name, queue));
    }

    /// Everything as Prometheus reads it.
    pub fn encode(&self) -> String {
        let mut told: Vec<_> = self.0.lock().iter().map(|(name, queue)| (*name, queue.told())).collect();
        told.sort_by_key(|(name, _)| *name);
        let mut page = Page::default();
        type Value = fn(&Told) -> f64;
        let plain: [(&str, &str, &str, Value); 5] = [
            ("depth", "gauge", "Current depth of workqueue", |told| told.depth as f64),
            ("adds_total", "counter", "Total number of adds handled by workqueue", |told| told.added as f64),
            ("retries_total", "counter", "Total number of retries handled by workqueue", |told| {
                told.retried as f64
            }),
            ("unfinished_work_seconds", "gauge", "Seconds of work that is in progress", |told| {
                told.unfinished.as_secs_f64()
            }),
            (
                "longest_running_processor_seconds",
                "gauge",
                "Seconds of the longest work in progress",
                |told| told.longest.as_secs_f64(),
            ),
        ];
        for (metric, kind, help, value) in plain {
            head(&mut page, metric, kind, help);
            for (name, told) in &told {
                page.sample(&format!("workqueue_{metric}"), &[("name", name)], value(told));
            }
        }
        head(&mut page, "queue_duration_seconds", "histogram", "How long an item stays in workqueue");
        for (name, told) in &told {
            page.histogram("workqueue_queue_duration_seconds", &[("name", name)], &BUCKETS, &told.waited);
        }
        head(&mut page, "work_duration_seconds", "histogram", "How long processing an item takes");
        for (name, told) in &told {
            page.histogram("workqueue_work_duration_seconds", &[("name", name)], &BUCKETS, &told.worked);
        }
        METERS.write(&mut page);
        page.text()
    }
}

fn head(page: &mut Page, metric: &str, kind: &str, help: &str) {
    page.family(&format!("workqueue_{metric}"), kind, &format!("{help}."));
}

#[cfg(test)]
mod tests {
    use super::super::key::Key;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn queues_tell_what_they_do() {
        let (metrics, queue) = (Metrics::default(), Queue::default());
        metrics.add("deployment", queue.clone());
        queue.add(Key::new("ns", "a"));
        queue.add(Key::new("ns", "a"));
        tokio::time::advance(Duration::from_secs(2)).await;
        let key = queue.next().await;
        tokio::time::advance(Duration::from_millis(50)).await;
        let text = metrics.encode();
        let check = |text: &str, line: &str| assert!(text.lines().any(|told| told == line), "{line}: {text}");
        check(&text, "workqueue_adds_total{name=\"deployment\"} 1");
        check(&text, "workqueue_queue_duration_seconds_bucket{name=\"deployment\",le=\"1\"} 0");
        check(&text, "workqueue_queue_duration_seconds_bucket{name=\"deployment\",le=\"10\"} 1");
        check(&text, "workqueue_unfinished_work_seconds{name=\"deployment\"} 0.05");
        queue.failed(&key);
        let text = metrics.encode();
        check(&text, "workqueue_retries_total{name=\"deployment\"} 1");
        check(&text, "workqueue_work_duration_seconds_count{name=\"deployment\"} 1");
        check(&text, "workqueue_depth{name=\"deployment\"} 0");
    }
}
