//! What is short: signals, their thresholds, and for how long those have been crossed. Pure; the clock is an input.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{KubeletConfiguration, duration};
use crate::node::machine_info::threshold_of;

/// In the order in which something is done about them.
pub const SIGNALS: [&str; 8] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
];

/// How much there is of something, and how much of it is free.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub capacity: i64,
    pub available: i64,
}

pub type Levels = BTreeMap<&'static str, Level>;

/// The node condition that a signal stands for.
pub fn condition(signal: &str) -> &'static str {
    match signal.split('.').next() {
        Some("memory") => "MemoryPressure",
        Some("pid") => "PIDPressure",
        _ => "DiskPressure",
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    pub signal: &'static str,
    /// As it was configured: an amount or a percentage.
    pub text: String,
    /// Of a soft threshold: how long it may be crossed.
    grace: Option<Duration>,
    reclaim: Option<String>,
}

impl Threshold {
    pub fn is_soft(&self) -> bool {
        self.grace.is_some()
    }
}

/// Thresholds, and since when each is crossed.
pub struct Watch {
    thresholds: Vec<(Threshold, Option<Instant>)>,
    transition: Duration,
    /// When each condition held last.
    held: BTreeMap<&'static str, Instant>,
}

impl Watch {
    pub fn new(config: &KubeletConfiguration) -> Self {
        let mut thresholds = Vec::new();
        for signal in SIGNALS {
            let reclaim = config.eviction_minimum_reclaim.get(signal).cloned();
            let mut add = |text: &str, grace: Option<Duration>| {
                let text = text.to_owned();
                thresholds.push((Threshold { signal, text, grace, reclaim: reclaim.clone() }, None));
            };
            if let Some(text) = config.hard_threshold(signal) {
                add(text, None);
            }
            if let Some(text) = config.eviction_soft.get(signal) {
                let grace = config.eviction_soft_grace_period.get(signal).and_then(|text| duration(text));
                add(text, Some(grace.unwrap_or_default()));
            }
        }
        let transition =
            duration(&config.eviction_pressure_transition_period).unwrap_or(Duration::from_secs(300));
        Self { thresholds, transition, held: BTreeMap::new() }
    }

    /// The thresholds that something has to be done about.
    pub fn observe(&mut self, levels: &Levels, now: Instant) -> Vec<Threshold> {
        let mut met = Vec::new();
        for (threshold, since) in &mut self.thresholds {
            let Some(level) = levels.get(threshold.signal) else { continue };
            let mut bound = threshold_of(&threshold.text, level.capacity);
            if since.is_some() {
                // Once crossed, it takes some more to be good again.
                let reclaim = threshold.reclaim.as_deref().unwrap_or("0");
                bound = bound.saturating_add(threshold_of(reclaim, level.capacity));
            }
            if level.available >= bound {
                *since = None;
                continue;
            }
            let since = *since.get_or_insert(now);
            if now.duration_since(since) >= threshold.grace.unwrap_or_default() {
                self.held.insert(condition(threshold.signal), now);
                met.push(threshold.clone());
            }
        }
        met
    }

    /// Whether a condition holds, or has held a short while ago: it does not come and go with every reading.
    pub fn holds(&self, condition: &str, now: Instant) -> bool {
        self.held.get(condition).is_some_and(|at| *at == now || now.duration_since(*at) < self.transition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(available: i64) -> Levels {
        [("memory.available", Level { capacity: 1000, available })].into()
    }

    #[test]
    fn hard_at_once_soft_after_a_while_and_conditions_linger() {
        let of = |bound: &str| [("memory.available".to_owned(), bound.to_owned())].into();
        let config = KubeletConfiguration {
            eviction_hard: of("10%"),
            eviction_soft: of("200"),
            eviction_soft_grace_period: of("30s"),
            eviction_minimum_reclaim: of("50"),
            ..Default::default()
        };
        let start = Instant::now();
        let mut watch = Watch::new(&config);
        let mut check = |second: u64, available: i64, met: &[bool], holds: bool| {
            let now = start + Duration::from_secs(second);
            let found: Vec<bool> =
                watch.observe(&levels(available), now).iter().map(Threshold::is_soft).collect();
            assert_eq!(found, met, "{available} at {second}");
            assert_eq!(watch.holds("MemoryPressure", now), holds, "{available} at {second}");
        };
        check(0, 500, &[], false);
        check(10, 150, &[], false);
        check(39, 150, &[], false);
        check(40, 150, &[true], true);
        check(50, 99, &[false, true], true);
        check(60, 149, &[false, true], true);
        check(70, 210, &[true], true);
        check(80, 250, &[], true);
        check(380, 250, &[], false);
    }
}
