//! Which pods end together when the machine shuts down, and how long each group has. Pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::config::{KubeletConfiguration, ShutdownPeriod, duration};
use crate::pod::ext::PodExt;

/// Pods of at least this priority are what the node itself needs.
const CRITICAL: i32 = 2_000_000_000;

/// `shutdownGracePeriodByPodPriority`, or what the two older fields amount to; lower priorities first.
pub fn periods(config: &KubeletConfiguration) -> Vec<ShutdownPeriod> {
    let mut periods = config.shutdown_grace_period_by_pod_priority.clone();
    let seconds = |text: &str| duration(text).map_or(0, |period| period.as_secs());
    let all = seconds(&config.shutdown_grace_period);
    if periods.is_empty() && all > 0 {
        let critical = seconds(&config.shutdown_grace_period_critical_pods);
        let Some(others) = all.checked_sub(critical) else { return Vec::new() };
        let period = |priority, seconds| ShutdownPeriod {
            priority,
            shutdown_grace_period_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        periods = vec![period(0, others), period(CRITICAL, critical)];
    }
    periods.sort_by_key(|period| period.priority);
    periods
}

/// How long all groups have together.
pub fn whole(periods: &[ShutdownPeriod]) -> Duration {
    let seconds =
        periods.iter().map(|period| period.shutdown_grace_period_seconds).fold(0, i64::saturating_add);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The pods of each period: a pod belongs to the highest one that is not above it, or to the lowest one.
pub fn groups(periods: &[ShutdownPeriod], pods: Vec<Arc<Pod>>) -> Vec<(i64, Vec<Arc<Pod>>)> {
    let mut groups: Vec<(i64, Vec<Arc<Pod>>)> =
        periods.iter().map(|period| (period.shutdown_grace_period_seconds, Vec::new())).collect();
    for pod in pods {
        let priority = pod.pod_spec().priority.unwrap_or(0);
        let at = periods.iter().rposition(|period| period.priority <= priority).unwrap_or(0);
        if let Some((_, group)) = groups.get_mut(at) {
            group.push(pod);
        }
    }
    groups.retain(|(_, pods)| !pods.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(priority: i32) -> Arc<Pod> {
        Arc::new(serde_json::from_value(json!({"spec": {"priority": priority, "containers": []}})).unwrap())
    }

    fn config(all: &str, critical: &str, by_priority: &[(i32, i64)]) -> KubeletConfiguration {
        let period = |(priority, seconds): &(i32, i64)| ShutdownPeriod {
            priority: *priority,
            shutdown_grace_period_seconds: *seconds,
        };
        KubeletConfiguration {
            shutdown_grace_period: all.into(),
            shutdown_grace_period_critical_pods: critical.into(),
            shutdown_grace_period_by_pod_priority: by_priority.iter().map(period).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn how_long() {
        let check = |config: KubeletConfiguration, expected: &[(i32, i64)]| {
            let periods = periods(&config);
            let shown: Vec<(i32, i64)> = periods
                .iter()
                .map(|period| (period.priority, period.shutdown_grace_period_seconds))
                .collect();
            assert_eq!(shown, expected);
        };
        check(config("0s", "0s", &[]), &[]);
        check(config("30s", "10s", &[]), &[(0, 20), (CRITICAL, 10)]);
        check(config("5s", "10s", &[]), &[]);
        check(config("0s", "0s", &[(1000, 5), (0, 60)]), &[(0, 60), (1000, 5)]);
    }

    #[test]
    fn who_ends_together() {
        let periods = periods(&config("", "", &[(10, 1), (1000, 2), (100_000, 3)]));
        let pods = [5, 10, 999, 1000, 2_000_000_000].map(pod).into();
        let shown: Vec<(i64, Vec<i32>)> = groups(&periods, pods)
            .into_iter()
            .map(|(seconds, pods)| (seconds, pods.iter().filter_map(|pod| pod.pod_spec().priority).collect()))
            .collect();
        assert_eq!(shown, [(1, vec![5, 10, 999]), (2, vec![1000]), (3, vec![2_000_000_000])]);
        assert_eq!(whole(&periods), Duration::from_secs(6));
    }
}
