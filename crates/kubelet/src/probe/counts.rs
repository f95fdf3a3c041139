//! How often probes were made, how they ended and how long they took: `/metrics/probes`.

use std::collections::BTreeMap;
use std::time::Duration;

use exposition::Histogram;
use parking_lot::Mutex;

use super::{Unsuccessful, Warning};
use crate::pod::probed::Kind;

/// Upper bounds of the duration buckets, in seconds: those that Prometheus' clients take when nothing is said.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// One probe of one container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    pub uid: String,
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, Default)]
pub struct Count {
    pub successful: u64,
    pub failed: u64,
    pub unknown: u64,
    pub took: Histogram,
}

/// The probes of all pods of the node.
#[derive(Default)]
pub struct Counts(Mutex<BTreeMap<Probe, Count>>);

impl Counts {
    pub fn add(&self, probe: &Probe, result: &Result<Warning, Unsuccessful>, took: Duration) {
        let mut counts = self.0.lock();
        let count = match counts.get_mut(probe) {
            Some(count) => count,
            None => counts.entry(probe.clone()).or_default(),
        };
        match result {
            Ok(_) => count.successful += 1,
            Err(Unsuccessful::Failed(_)) => count.failed += 1,
            Err(Unsuccessful::Errored(_)) => count.unknown += 1,
        }
        count.took.observe(&BUCKETS, took.as_secs_f64());
    }

    /// The pod is gone, and with it what was counted.
    pub fn forget(&self, uid: &str) {
        self.0.lock().retain(|probe, _| probe.uid != uid);
    }

    pub fn all(&self) -> Vec<(Probe, Count)> {
        self.0.lock().iter().map(|(probe, count)| (probe.clone(), count.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_and_forgotten() {
        let counts = Counts::default();
        let probe = Probe {
            uid: "u".into(),
            namespace: "n".into(),
            pod: "p".into(),
            container: "c".into(),
            kind: Kind::Liveness,
        };
        counts.add(&probe, &Ok(None), Duration::from_millis(7));
        counts.add(&probe, &Err(Unsuccessful::Failed(String::new())), Duration::from_secs(60));
        let all = counts.all();
        let (_, count) = &all[0];
        assert_eq!((count.successful, count.failed, count.took.count), (1, 1, 2));
        counts.forget("u");
        assert!(counts.all().is_empty());
    }
}
