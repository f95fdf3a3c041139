//! How many replicas a metric calls for: as many as bring its average to the target. Free of IO.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

use super::behavior::Rules;
use crate::kit::{meta, pods};

/// A pod that has just started may use much CPU for a reason of its own.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
/// A pod that has not been ready for so long since its start has never been.
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// One pod's value of a metric, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub milli: i64,
    pub timestamp: Timestamp,
    pub window: SignedDuration,
}

pub type Samples = BTreeMap<String, Sample>;

/// What counts as being on target.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub up: f64,
    pub down: f64,
}

impl Tolerance {
    pub fn of(rules: &Rules) -> Self {
        Self { up: rules.up.tolerance, down: rules.down.tolerance }
    }

    pub fn allows(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// Pods by what their samples are worth.
#[derive(Debug, Default, PartialEq)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn group(all: &[Arc<Pod>], samples: &Samples, is_cpu: bool, now: Timestamp) -> Groups {
    let mut groups = Groups::default();
    for pod in all {
        let name = meta::name(&**pod).to_owned();
        if meta::is_terminating(&**pod) || pods::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pods::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else {
            match samples.get(&name) {
                None => drop(groups.missing.insert(name)),
                Some(sample) if is_cpu && is_unready(pod, sample, now) => drop(groups.unready.insert(name)),
                Some(_) => groups.ready += 1,
            }
        }
    }
    groups
}

fn is_unready(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let (Some(ready), Some(started)) = (pods::condition(pod, "Ready"), started) else { return true };
    let since = ready.last_transition_time.as_ref().map_or(started, |time| time.0);
    if now.duration_since(started) < CPU_INITIALIZATION {
        ready.status == "False" || sample.timestamp.duration_since(since) < sample.window
    } else {
        ready.status == "False" && since.duration_since(started) < INITIAL_READINESS
    }
}

fn ceil(number: f64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates")]
    let whole = number.ceil() as i32;
    whole
}

/// What is asked of a metric that each pod has.
pub struct PerPod<'a> {
    pub pods: &'a [Arc<Pod>],
    pub samples: Samples,
    /// What each pod requested, in thousandths: the target is a share of it then.
    pub requests: Option<BTreeMap<String, i64>>,
    pub is_cpu: bool,
    /// Percent of the request, or thousandths per pod.
    pub target: i64,
}

/// The number of replicas, and what the metric is now: percent (with requests), and thousandths per pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    pub replicas: i32,
    pub utilization: Option<i32>,
    pub average: i64,
}

impl PerPod<'_> {
    pub fn propose(mut self, current: i32, tolerance: Tolerance, now: Timestamp) -> Result<Proposal, String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".to_owned());
        }
        let groups = group(self.pods, &self.samples, self.is_cpu, now);
        self.samples.retain(|name, _| !groups.ignored.contains(name) && !groups.unready.contains(name));
        // Those of pods that are none of the target's.
        self.samples.retain(|name, _| self.pods.iter().any(|pod| meta::name(&**pod) == name));
        if self.samples.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
        }
        let (ratio, utilization, average) = self.ratio()?;
        let proposal = |replicas: i32| Ok(Proposal { replicas, utilization, average });
        let grows_with_unready = !groups.unready.is_empty() && ratio > 1.0;
        if !grows_with_unready && groups.missing.is_empty() {
            if tolerance.allows(ratio) {
                return proposal(current);
            }
            return proposal(ceil(ratio * groups.ready as f64));
        }
        // What is not known is taken to be such that it speaks against the change.
        for name in groups.missing.iter().filter(|_| ratio != 1.0) {
            let milli = if ratio < 1.0 { self.full(name) } else { 0 };
            self.samples.insert(name.clone(), Sample { milli, timestamp: now, window: SignedDuration::ZERO });
        }
        if grows_with_unready {
            for name in &groups.unready {
                self.samples
                    .insert(name.clone(), Sample { milli: 0, timestamp: now, window: SignedDuration::ZERO });
            }
        }
        let (new_ratio, ..) = self.ratio()?;
        let turned = (ratio < 1.0 && new_ratio > 1.0) || (ratio > 1.0 && new_ratio < 1.0);
        if tolerance.allows(new_ratio) || turned {
            return proposal(current);
        }
        let replicas = ceil(new_ratio * self.samples.len() as f64);
        let wrong_way = (new_ratio < 1.0 && replicas > current) || (new_ratio > 1.0 && replicas < current);
        proposal(if wrong_way { current } else { replicas })
    }

    /// What a pod without a sample is taken to use when the workload would shrink.
    fn full(&self, name: &str) -> i64 {
        match &self.requests {
            Some(requests) => {
                let request = requests.get(name).copied().unwrap_or(0);
                request.saturating_mul(self.target.max(100)) / 100
            }
            None => self.target,
        }
    }

    /// How far above the target: the ratio, the percentage of requests, and the average.
    fn ratio(&self) -> Result<(f64, Option<i32>, i64), String> {
        let count = i64::try_from(self.samples.len()).unwrap_or(i64::MAX).max(1);
        let sum: i64 = self.samples.values().map(|sample| sample.milli).fold(0, i64::saturating_add);
        let average = sum / count;
        let Some(requests) = &self.requests else {
            return Ok((average as f64 / self.target.max(1) as f64, None, average));
        };
        let requested: i64 = self.samples.keys().filter_map(|name| requests.get(name)).sum();
        if requested == 0 {
            return Err("no metrics returned matched known pods".to_owned());
        }
        let percent = i128::from(sum) * 100 / i128::from(requested);
        let percent = i32::try_from(percent).unwrap_or(i32::MAX);
        Ok((f64::from(percent) / self.target.max(1) as f64, Some(percent), average))
    }
}

/// For one value of the whole (an object's metric, or an external one): the target is for the whole as well.
pub fn of_value(value: i64, target: i64, current: i32, ready: usize, tolerance: Tolerance) -> i32 {
    let ratio = value as f64 / target.max(1) as f64;
    if current == 0 {
        return ceil(ratio);
    }
    if tolerance.allows(ratio) { current } else { ceil(ratio * ready as f64) }
}

/// For one value of the whole, of which each replica is to have `target`.
pub fn of_share(value: i64, target: i64, replicas: i32, tolerance: Tolerance) -> i32 {
    let wanted = value as f64 / target.max(1) as f64;
    if replicas > 0 && tolerance.allows(wanted / f64::from(replicas)) { replicas } else { ceil(wanted) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOLERANCE: Tolerance = Tolerance { up: 0.1, down: 0.1 };

    fn pod(name: &str, phase: &str, ready: bool) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "status": {"phase": phase,
            "startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": "Ready", "status": if ready {"True"} else {"False"},
            "lastTransitionTime": "2026-01-01T00:00:10Z"}]}})).unwrap())
    }

    /// Three pods that request 1000m each; `usage` of the first ones is known.
    fn propose(usage: &[i64], others: &[Arc<Pod>], target: i64, at: &str) -> Result<i32, String> {
        let mut all: Vec<_> = (0..3).map(|n| pod(&format!("p{n}"), "Running", true)).collect();
        all.extend(others.iter().cloned());
        let now: Timestamp = at.parse().unwrap();
        let sample = |milli| Sample { milli, timestamp: now, window: SignedDuration::from_secs(30) };
        let samples = usage.iter().enumerate().map(|(n, milli)| (format!("p{n}"), sample(*milli))).collect();
        let requests = all.iter().map(|pod| (meta::name(&**pod).to_owned(), 1000)).collect();
        let asked = PerPod { pods: &all, samples, requests: Some(requests), is_cpu: true, target };
        let current = i32::try_from(all.len()).unwrap();
        asked.propose(current, TOLERANCE, now).map(|proposal| proposal.replicas)
    }

    #[test]
    fn utilization_is_brought_to_the_target() {
        let late = "2026-01-01T01:00:00Z";
        let check = |usage: &[i64], others: &[Arc<Pod>], expected: i32| {
            assert_eq!(propose(usage, others, 50, late), Ok(expected), "{usage:?} and {}", others.len());
        };
        check(&[500, 500, 500], &[], 3);
        check(&[520, 540, 500], &[], 3);
        check(&[1000, 1000, 1000], &[], 6);
        check(&[100, 100, 100], &[], 1);
        // One sample is missing: when growing it counts as nothing, when shrinking as everything.
        check(&[1000, 1000], &[], 4);
        check(&[100, 100], &[], 3);
        // A pod that is not ready counts as nothing when growing, and not at all when shrinking.
        check(&[1000, 1000, 1000], &[pod("new", "Pending", false)], 6);
        check(&[100, 100, 100], &[pod("new", "Pending", false)], 1);
        // One that has failed does not count.
        check(&[1000, 1000, 1000], &[pod("old", "Failed", false)], 6);
    }

    #[test]
    fn young_pods_are_not_believed() {
        let error = propose(&[900, 900, 900], &[], 50, "2026-01-01T00:00:20Z").unwrap_err();
        assert!(error.contains("pods might be unready"), "{error}");
        assert_eq!(propose(&[900, 900, 900], &[], 50, "2026-01-01T00:00:45Z"), Ok(6));
        assert!(propose(&[], &[], 50, "2026-01-01T01:00:00Z").is_err());
    }

    #[test]
    fn single_values() {
        let check = |found: i32, expected: i32| assert_eq!(found, expected);
        check(of_value(20_000, 10_000, 3, 3, TOLERANCE), 6);
        check(of_value(10_500, 10_000, 3, 3, TOLERANCE), 3);
        check(of_value(5_000, 10_000, 0, 0, TOLERANCE), 1);
        check(of_share(100_000, 10_000, 3, TOLERANCE), 10);
        check(of_share(31_000, 10_000, 3, TOLERANCE), 3);
        check(of_share(0, 10_000, 3, TOLERANCE), 0);
    }
}
