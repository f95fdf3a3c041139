//! Requests and limits as the kernel's knobs.

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::qos::{self, Class};
use super::quantity::{milli_of, value_of};
use crate::pod::ext::PodExt;

const PERIOD: i64 = 100_000;
const LEAST_QUOTA: i64 = 1_000;
const LEAST_SHARES: i64 = 2;
const MOST_SHARES: i64 = 262_144;

pub fn shares(milli_cpu: i64) -> i64 {
    if milli_cpu <= 0 {
        return LEAST_SHARES;
    }
    (milli_cpu.saturating_mul(1024) / 1000).clamp(LEAST_SHARES, MOST_SHARES)
}

/// Microseconds per [`PERIOD`]; nothing for no limit.
pub fn quota(milli_cpu: i64) -> Option<i64> {
    (milli_cpu > 0).then(|| (milli_cpu.saturating_mul(PERIOD) / 1000).max(LEAST_QUOTA))
}

/// How readily the kernel kills the container when memory is short.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i64 {
    if pod.pod_spec().priority_class_name.as_deref() == Some("system-node-critical") {
        return -997;
    }
    match qos::class(pod.pod_spec()) {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
            let request = value_of(requests, "memory").unwrap_or(0);
            let used = request.saturating_mul(1000) / memory_capacity.max(1);
            // More than a guaranteed pod's, less than a best-effort one's.
            (1000 - used).clamp(3, 999)
        }
    }
}

/// What the node says about the resources of every container.
#[derive(Clone, Copy, Debug)]
pub struct NodeDefaults {
    pub memory_capacity: i64,
    pub cfs_quota: bool,
    /// Microseconds that a CPU limit is counted over.
    pub cfs_period: i64,
    /// The kernel kills a container as a whole when its memory is short (control groups of the second version).
    pub oom_group: bool,
    /// There is swap on a unified hierarchy, and containers are to have none.
    pub no_swap: bool,
}

pub fn linux(pod: &Pod, container: &Container, node: &NodeDefaults) -> cri::LinuxContainerResources {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let cpu_limit = milli_of(limits, "cpu");
    let cpu_request = milli_of(requests, "cpu").or(cpu_limit).unwrap_or(0);
    let quota = cpu_limit.and_then(quota).filter(|_| node.cfs_quota);
    let quota = quota.map(|quota| (quota.saturating_mul(node.cfs_period) / PERIOD).max(LEAST_QUOTA));
    let mut hugepage_limits: Vec<cri::HugepageLimit> = limits
        .into_iter()
        .flatten()
        .filter_map(|(name, amount)| {
            let size = super::quantity::value(name.strip_prefix("hugepages-")?)?;
            Some(cri::HugepageLimit {
                page_size: page_size(size),
                limit: u64::try_from(super::quantity::value(&amount.0)?).ok()?,
            })
        })
        .collect();
    hugepage_limits.sort_by(|a, b| a.page_size.cmp(&b.page_size));
    cri::LinuxContainerResources {
        cpu_period: quota.map_or(0, |_| node.cfs_period),
        cpu_quota: quota.unwrap_or(0),
        cpu_shares: shares(cpu_request),
        memory_limit_in_bytes: value_of(limits, "memory").unwrap_or(0),
        oom_score_adj: oom_score_adj(pod, container, node.memory_capacity),
        unified: unified(node),
        hugepage_limits,
        ..Default::default()
    }
}

fn unified(node: &NodeDefaults) -> std::collections::HashMap<String, String> {
    let mut files = std::collections::HashMap::new();
    if node.oom_group {
        files.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    if node.no_swap {
        files.insert("memory.swap.max".to_owned(), "0".to_owned());
    }
    files
}

/// As the kernel names hugepage sizes: `2MB`, `1GB`.
fn page_size(bytes: i64) -> String {
    match bytes {
        b if b >= 1 << 30 => format!("{}GB", b >> 30),
        b if b >= 1 << 20 => format!("{}MB", b >> 20),
        b => format!("{}KB", b >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn knobs() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c", "resources": {
            "limits": {"cpu": "500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "250m", "memory": "32Mi"}}}]}}))
        .unwrap();
        let node = NodeDefaults {
            memory_capacity: 1 << 30,
            cfs_quota: true,
            cfs_period: 100_000,
            oom_group: true,
            no_swap: false,
        };
        let linux = linux(&pod, &pod.pod_spec().containers[0], &node);
        assert_eq!(linux.unified, [("memory.oom.group".to_owned(), "1".to_owned())].into());
        assert_eq!((linux.cpu_period, linux.cpu_quota, linux.cpu_shares), (100_000, 50_000, 256));
        assert_eq!(linux.memory_limit_in_bytes, 64 << 20);
        assert_eq!(linux.oom_score_adj, 969);
        assert_eq!(linux.hugepage_limits[0].page_size, "2MB");
    }

    #[test]
    fn bounds() {
        assert_eq!(shares(0), 2);
        assert_eq!(shares(1), 2);
        assert_eq!(shares(i64::MAX), 262_144);
        assert_eq!(quota(0), None);
        assert_eq!(quota(1), Some(1000));
    }
}
