//! Requests and limits as the kernel's knobs.

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::qos::{self, Class};
use super::quantity::{milli_of, value_of};
use crate::pod::ext::PodExt;
use crate::pod::preemption;

const PERIOD: i64 = 100_000;
const LEAST_QUOTA: i64 = 1_000;
const PAGE: i64 = 4096;
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
    let spec = pod.pod_spec();
    if spec.priority_class_name.as_deref() == Some("system-node-critical") {
        return -997;
    }
    match qos::class(spec) {
        Class::Guaranteed => -997,
        Class::BestEffort => 1000,
        Class::Burstable => {
            let shared = qos::shared_memory(spec);
            let score = |container: &Container| {
                let requests = container.resources.as_ref().and_then(|r| r.requests.as_ref());
                let request = value_of(requests, "memory").unwrap_or(0).saturating_add(shared);
                // More than a guaranteed pod's, less than a best-effort one's.
                (1000 - request.saturating_mul(1000) / memory_capacity.max(1)).clamp(3, 999)
            };
            let own = score(container);
            if container.restart_policy.as_deref() != Some("Always") {
                return own;
            }
            // A sidecar goes no sooner than any of those that it serves.
            spec.containers.iter().map(score).max().map_or(own, |others| own.min(others))
        }
    }
}

/// What containers may have of the node's swap space, on a unified hierarchy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Swap {
    /// There is none, or nobody can say.
    Unsaid,
    None,
    /// Of so many bytes, a container has the part that it asks for of the memory.
    Share(i64),
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
    /// What containers may have of the swap space, where that can be said.
    pub swap: Swap,
    /// Memory is reclaimed early from containers that come near to their limits; how near, in hundredths.
    pub throttled: Option<i64>,
    /// Requests are protected from being reclaimed.
    pub tiers: bool,
    /// What a container without a limit may use.
    pub memory_allocatable: i64,
}

pub fn linux(pod: &Pod, container: &Container, node: &NodeDefaults) -> cri::LinuxContainerResources {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|resources| resources.requests.as_ref());
    let own_limits = resources.and_then(|resources| resources.limits.as_ref());
    let limits = &qos::limits_of(pod.pod_spec(), own_limits);
    let limits = Some(limits);
    let cpu_limit = milli_of(limits, "cpu");
    let cpu_request = milli_of(requests, "cpu").or_else(|| milli_of(own_limits, "cpu")).unwrap_or(0);
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
        unified: unified(
            pod,
            node,
            value_of(requests, "memory"),
            value_of(own_limits, "memory"),
            value_of(limits, "memory"),
        ),
        hugepage_limits,
        ..Default::default()
    }
}

/// How much swap space a container gets: nothing of pods that the node or the cluster cannot do without, and of those
/// that do not say how much memory they need, or that no more than that is theirs anyway.
fn swap(pod: &Pod, node: &NodeDefaults, request: Option<i64>, limit: Option<i64>) -> Option<i64> {
    let all = match node.swap {
        Swap::Unsaid => return None,
        Swap::None => return Some(0),
        Swap::Share(all) => all,
    };
    let request = request.or(limit).unwrap_or(0);
    if preemption::is_critical(pod)
        || qos::class(pod.pod_spec()) != Class::Burstable
        || limit == Some(request)
    {
        return Some(0);
    }
    let share = i128::from(request) * i128::from(all) / i128::from(node.memory_capacity.max(1));
    i64::try_from(share).ok().map(|share| share.max(0))
}

/// `own_limit` is the container's, `limit` what holds for it, be it only the pod's.
fn unified(
    pod: &Pod,
    node: &NodeDefaults,
    request: Option<i64>,
    own_limit: Option<i64>,
    limit: Option<i64>,
) -> std::collections::HashMap<String, String> {
    let class = qos::class(pod.pod_spec());
    let mut files = std::collections::HashMap::new();
    if node.oom_group {
        files.insert("memory.oom.group".to_owned(), "1".to_owned());
    }
    if let Some(swap) = swap(pod, node, request, own_limit) {
        files.insert("memory.swap.max".to_owned(), swap.to_string());
    }
    let request = request.or(own_limit).unwrap_or(0);
    if let Some(hundredths) = node.throttled
        && class != Class::Guaranteed
    {
        let most = limit.unwrap_or(node.memory_allocatable);
        let room = most.saturating_sub(request).max(0);
        let high = request.saturating_add(room / 100 * hundredths) / PAGE * PAGE;
        if high > request {
            files.insert("memory.high".to_owned(), high.to_string());
        }
    }
    if node.tiers && request > 0 {
        match class {
            Class::Guaranteed => drop(files.insert("memory.min".to_owned(), request.to_string())),
            Class::Burstable => drop(files.insert("memory.low".to_owned(), request.to_string())),
            Class::BestEffort => {}
        }
    }
    files
}

/// As the kernel names hugepage sizes: `2MB`, `1GB`.
pub fn page_size(bytes: i64) -> String {
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
            swap: Swap::Unsaid,
            throttled: None,
            tiers: false,
            memory_allocatable: 1 << 30,
        };
        let linux = linux(&pod, &pod.pod_spec().containers[0], &node);
        assert_eq!(linux.unified, [("memory.oom.group".to_owned(), "1".to_owned())].into());
        assert_eq!((linux.cpu_period, linux.cpu_quota, linux.cpu_shares), (100_000, 50_000, 256));
        assert_eq!(linux.memory_limit_in_bytes, 64 << 20);
        assert_eq!(linux.oom_score_adj, 969);
        assert_eq!(linux.hugepage_limits[0].page_size, "2MB");
    }

    #[test]
    fn memory_by_class() {
        let check = |resources: serde_json::Value, expected: &[(&str, &str)]| {
            let pod: Pod = serde_json::from_value(
                json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}),
            )
            .unwrap();
            let node = NodeDefaults {
                memory_capacity: 1 << 30,
                cfs_quota: true,
                cfs_period: 100_000,
                oom_group: false,
                swap: Swap::Unsaid,
                throttled: Some(90),
                tiers: true,
                memory_allocatable: 1 << 30,
            };
            let mut files: Vec<(String, String)> =
                linux(&pod, &pod.pod_spec().containers[0], &node).unified.into_iter().collect();
            files.sort();
            let expected: Vec<(String, String)> =
                expected.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
            assert_eq!(files, expected, "{resources}");
        };
        check(json!({"limits": {"cpu": "1", "memory": "512Mi"}}), &[("memory.min", "536870912")]);
        check(
            json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}}),
            &[("memory.high", "199229440"), ("memory.low", "104857600")],
        );
        check(json!({}), &[("memory.high", "966365184")]);
    }

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn a_pods_limits_hold_for_containers_without_their_own() {
        let pod = pod(json!({
            "resources": {"limits": {"cpu": "1", "memory": "200Mi"}, "requests": {"cpu": "500m", "memory": "100Mi"}},
            "containers": [
                {"name": "own", "resources": {"limits": {"cpu": "250m", "memory": "50Mi"}, "requests": {"cpu": "100m"}}},
                {"name": "none"},
            ],
        }));
        let node = node(Swap::Unsaid);
        let knobs = |index: usize| {
            let linux = linux(&pod, &pod.pod_spec().containers[index], &node);
            (linux.cpu_shares, linux.cpu_quota, linux.memory_limit_in_bytes)
        };
        assert_eq!(knobs(0), (102, 25_000, 50 << 20));
        assert_eq!(knobs(1), (2, 100_000, 200 << 20));
    }

    #[test]
    fn who_is_killed_first() {
        let check = |spec: serde_json::Value, expected: &[i64]| {
            let pod = pod(spec);
            let all = pod.pod_spec().init_containers.iter().flatten().chain(&pod.pod_spec().containers);
            let scores: Vec<i64> = all.map(|container| oom_score_adj(&pod, container, 1000 << 20)).collect();
            assert_eq!(scores, expected, "{:?}", pod.spec);
        };
        let asks = |amount: &str| json!({"requests": {"memory": amount}});
        // A sidecar is spared as long as any of the others.
        check(
            json!({
                "initContainers": [
                    {"name": "s", "restartPolicy": "Always", "resources": asks("10Mi")},
                    {"name": "i", "resources": asks("10Mi")},
                ],
                "containers": [{"name": "a", "resources": asks("300Mi")}, {"name": "b", "resources": asks("200Mi")}],
            }),
            &[800, 990, 700, 800],
        );
        // What the pod asks for beyond its containers counts for all of them alike.
        check(
            json!({
                "resources": asks("500Mi"),
                "containers": [{"name": "a", "resources": asks("100Mi")}, {"name": "b"}],
            }),
            &[700, 800],
        );
        check(json!({"containers": [{"name": "a"}]}), &[1000]);
    }

    #[test]
    fn shares_of_the_swap_space() {
        let check = |spec: serde_json::Value, swap: Swap, expected: Option<&str>| {
            let pod = pod(spec);
            let linux = linux(&pod, &pod.pod_spec().containers[0], &node(swap));
            let file = linux.unified.get("memory.swap.max").map(String::as_str);
            assert_eq!(file, expected, "{:?} {swap:?}", pod.spec);
        };
        let one =
            |resources: serde_json::Value| json!({"containers": [{"name": "a", "resources": resources}]});
        let burstable = || one(json!({"requests": {"memory": "256Mi"}}));
        check(burstable(), Swap::Unsaid, None);
        check(burstable(), Swap::None, Some("0"));
        check(burstable(), Swap::Share(1000), Some("250"));
        check(one(json!({})), Swap::Share(1000), Some("0"));
        check(one(json!({"requests": {"cpu": "1"}})), Swap::Share(1000), Some("0"));
        let guaranteed =
            json!({"limits": {"memory": "256Mi", "cpu": "1"}, "requests": {"memory": "256Mi", "cpu": "1"}});
        check(one(guaranteed), Swap::Share(1000), Some("0"));
        check(
            one(json!({"limits": {"memory": "256Mi"}, "requests": {"memory": "256Mi"}})),
            Swap::Share(1000),
            Some("0"),
        );
        let mut critical = burstable();
        critical["priority"] = json!(2_000_000_000);
        check(critical, Swap::Share(1000), Some("0"));
    }

    fn node(swap: Swap) -> NodeDefaults {
        NodeDefaults {
            memory_capacity: 1 << 30,
            cfs_quota: true,
            cfs_period: 100_000,
            oom_group: false,
            swap,
            throttled: None,
            tiers: false,
            memory_allocatable: 1 << 30,
        }
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
