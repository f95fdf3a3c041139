//! The part of upstream's `KubeletConfiguration` that this kubelet honours.
//!
//! Fields without effect are not an error (files are shared with upstream's kubelet); they are named in a warning
//! with the reason ([`fields`]), so that nobody believes a setting to be in force that is not.

mod fields;
pub mod flags;
mod load;
mod parts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(test)]
pub use fields::WITHOUT_EFFECT;
pub use load::ConfigError;
pub use parts::{
    Authentication, Authorization, CrashLoopBackOff, MemoryReservation, MemorySwap, ShutdownPeriod,
    UserNamespaces,
};

/// `kubelet.config.k8s.io/v1beta1`, `KubeletConfiguration`; defaults are upstream's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    pub api_version: String,
    pub kind: String,
    /// Whether the kubelet's API is served at all.
    pub enable_server: bool,
    /// Where it is served; the command line's when nothing is said.
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub tls_cert_file: PathBuf,
    pub tls_private_key_file: PathBuf,
    pub authentication: Authentication,
    pub authorization: Authorization,
    /// Whether logs, exec, attach and port-forward are served.
    pub enable_debugging_handlers: bool,
    /// Whether `/var/log` is served.
    pub enable_system_log_handler: bool,
    /// `/healthz` without TLS; off when zero.
    pub healthz_port: u16,
    pub healthz_bind_address: IpAddr,
    /// Over the command line's.
    pub cluster_domain: String,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<IpAddr>,
    /// `unix:///run/...`; the command line's when empty.
    pub container_runtime_endpoint: String,
    /// Pods beyond this number are rejected and not advertised.
    pub max_pods: u32,
    /// No limit when zero.
    pub pods_per_core: u32,
    /// The cgroup under which `kubepods` is made; several nodes on one machine need different ones.
    pub cgroup_root: String,
    /// `cgroupfs` or `systemd`, where the runtime does not say which.
    pub cgroup_driver: String,
    /// Whether pod and QoS cgroups are made by the kubelet.
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod")]
    pub cpu_cfs_quota_period: String,
    /// Kill one process, not its whole container, when memory is short.
    #[serde(rename = "singleProcessOOMKill")]
    pub single_process_oom_kill: Option<bool>,
    pub memory_swap: MemorySwap,
    /// `pods`: they are held to what the node has for them, as a whole. Reserved cgroups are only counted.
    pub enforce_node_allocatable: Vec<String>,
    /// With the feature gate `MemoryQoS`: where between request and limit reclaiming begins.
    pub memory_throttling_factor: Option<f64>,
    /// With the feature gate `MemoryQoS`: `TieredReservation` protects what pods ask for, by QoS class.
    pub memory_reservation_policy: String,
    /// Resources kept from pods: `cpu`, `memory`, `ephemeral-storage`.
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    /// CPUs kept from pods, as a list; over `cpu` of the two above.
    #[serde(rename = "reservedSystemCPUs")]
    pub reserved_system_cpus: String,
    pub eviction_hard: BTreeMap<String, String>,
    pub eviction_soft: BTreeMap<String, String>,
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    pub eviction_pressure_transition_period: String,
    pub eviction_max_pod_grace_period: i64,
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    /// Thresholds that `evictionHard` does not name are upstream's defaults, not off.
    pub merge_default_eviction_settings: bool,
    /// Where container logs go. When empty: `/var/log/pods`, and `<rootDir>/logs/pods` where several nodes share a machine.
    pub pod_logs_dir: String,
    pub container_log_max_size: String,
    pub container_log_max_files: u32,
    pub container_log_monitor_interval: String,
    #[serde(rename = "imageMinimumGCAge")]
    pub image_minimum_gc_age: String,
    /// Unused images older than this go even when there is room; never when zero.
    #[serde(rename = "imageMaximumGCAge")]
    pub image_maximum_gc_age: String,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    pub node_lease_duration_seconds: i32,
    pub node_status_update_frequency: String,
    pub node_status_report_frequency: String,
    /// Images that the node reports; all when negative.
    pub node_status_max_images: i32,
    pub node_labels: BTreeMap<String, String>,
    pub register_with_taints: Vec<k8s_openapi::api::core::v1::Taint>,
    pub register_node: bool,
    #[serde(rename = "providerID")]
    pub provider_id: String,
    /// The file that `dnsPolicy: Default` copies.
    pub resolv_conf: PathBuf,
    /// Manifests of pods that run whatever the API server says; empty for none.
    pub static_pod_path: PathBuf,
    /// Besides the safe ones; `net.ipv4.*` stands for all below.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Processes of a pod at most; no limit when not positive.
    pub pod_pids_limit: i64,
    /// Containers that name no seccomp profile get the runtime's.
    pub seccomp_default: bool,
    pub crash_loop_back_off: CrashLoopBackOff,
    pub user_namespaces: UserNamespaces,
    /// `none`, or `static`: whole CPUs for containers of Guaranteed pods that ask for such.
    pub cpu_manager_policy: String,
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    /// `None`, or `Static`: memory of certain NUMA nodes for containers of Guaranteed pods.
    pub memory_manager_policy: String,
    /// Memory kept from pods, by NUMA node; for the policy `Static`.
    pub reserved_memory: Vec<MemoryReservation>,
    /// `none`, `best-effort`, `restricted`, `single-numa-node`: how near to each other a container's resources are.
    pub topology_manager_policy: String,
    /// `container` or `pod`: whose resources are to be near each other.
    pub topology_manager_scope: String,
    pub topology_manager_policy_options: BTreeMap<String, String>,
    /// Of those that are asked about; what is released is on, whatever they say.
    pub feature_gates: BTreeMap<String, bool>,
    /// How long a shutdown of the machine waits for its pods; not at all when zero.
    pub shutdown_grace_period: String,
    /// The part of it that critical pods have for themselves, at the end.
    pub shutdown_grace_period_critical_pods: String,
    /// Instead of the two: how long pods have by their priority.
    pub shutdown_grace_period_by_pod_priority: Vec<ShutdownPeriod>,
    /// Whether images are pulled one at a time: so, unless `maxParallelImagePulls` is two or more.
    pub serialize_image_pulls: Option<bool>,
    pub max_parallel_image_pulls: Option<usize>,
    /// Who has to show credentials for an image that is there.
    pub image_pull_credentials_verification_policy: String,
    pub preloaded_images_verification_allowlist: Vec<String>,
    /// Upstream's flags `--image-credential-provider-config` and `--image-credential-provider-bin-dir`.
    #[serde(skip)]
    pub image_credential_provider_config: PathBuf,
    #[serde(skip)]
    pub image_credential_provider_bin_dir: PathBuf,
    /// The client certificate is renewed in time.
    pub rotate_certificates: bool,
    /// The serving certificate is asked of the API.
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    /// Everything else in the file, to be warned about.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

const EVICTION_HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];

impl Default for KubeletConfiguration {
    fn default() -> Self {
        Self {
            api_version: "kubelet.config.k8s.io/v1beta1".into(),
            kind: "KubeletConfiguration".into(),
            enable_server: true,
            address: None,
            port: None,
            tls_cert_file: PathBuf::new(),
            tls_private_key_file: PathBuf::new(),
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            enable_debugging_handlers: true,
            enable_system_log_handler: true,
            healthz_port: 10248,
            healthz_bind_address: IpAddr::from([127, 0, 0, 1]),
            cluster_domain: String::new(),
            cluster_dns: Vec::new(),
            container_runtime_endpoint: String::new(),
            max_pods: 110,
            pods_per_core: 0,
            cgroup_root: "/".into(),
            cgroup_driver: "cgroupfs".into(),
            cgroups_per_qos: true,
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: "100ms".into(),
            single_process_oom_kill: None,
            memory_swap: MemorySwap::default(),
            enforce_node_allocatable: vec!["pods".into()],
            memory_throttling_factor: Some(0.9),
            memory_reservation_policy: "None".into(),
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            reserved_system_cpus: String::new(),
            eviction_hard: EVICTION_HARD.map(|(signal, bound)| (signal.into(), bound.into())).into(),
            eviction_soft: BTreeMap::new(),
            eviction_soft_grace_period: BTreeMap::new(),
            eviction_pressure_transition_period: "5m".into(),
            eviction_max_pod_grace_period: 0,
            eviction_minimum_reclaim: BTreeMap::new(),
            merge_default_eviction_settings: false,
            pod_logs_dir: String::new(),
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            container_log_monitor_interval: "10s".into(),
            image_minimum_gc_age: "2m".into(),
            image_maximum_gc_age: "0s".into(),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            node_lease_duration_seconds: 40,
            node_status_update_frequency: "10s".into(),
            node_status_report_frequency: "5m".into(),
            node_status_max_images: 50,
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            register_node: true,
            provider_id: String::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            static_pod_path: PathBuf::new(),
            allowed_unsafe_sysctls: Vec::new(),
            pod_pids_limit: -1,
            seccomp_default: false,
            crash_loop_back_off: CrashLoopBackOff::default(),
            user_namespaces: UserNamespaces::default(),
            cpu_manager_policy: "none".into(),
            cpu_manager_policy_options: BTreeMap::new(),
            memory_manager_policy: "None".into(),
            reserved_memory: Vec::new(),
            topology_manager_policy: "none".into(),
            topology_manager_scope: "container".into(),
            topology_manager_policy_options: BTreeMap::new(),
            feature_gates: BTreeMap::new(),
            serialize_image_pulls: None,
            max_parallel_image_pulls: None,
            image_pull_credentials_verification_policy: "NeverVerifyPreloadedImages".into(),
            preloaded_images_verification_allowlist: Vec::new(),
            image_credential_provider_config: PathBuf::new(),
            image_credential_provider_bin_dir: PathBuf::new(),
            shutdown_grace_period: "0s".into(),
            shutdown_grace_period_critical_pods: "0s".into(),
            shutdown_grace_period_by_pod_priority: Vec::new(),
            rotate_certificates: false,
            server_tls_bootstrap: false,
            unknown: BTreeMap::new(),
        }
    }
}

impl KubeletConfiguration {
    /// The threshold of a signal at which pods are evicted at once.
    pub fn hard_threshold(&self, signal: &str) -> Option<&str> {
        let default = || EVICTION_HARD.iter().find(|(name, _)| *name == signal).map(|(_, bound)| *bound);
        let named = self.eviction_hard.get(signal).map(String::as_str);
        named.or_else(|| if self.merge_default_eviction_settings { default() } else { None })
    }

    pub fn gate(&self, name: &str, default: bool) -> bool {
        self.feature_gates.get(name).copied().unwrap_or(default)
    }

    /// Microseconds that CPU limits are counted over.
    pub fn cfs_period(&self) -> i64 {
        let period = duration(&self.cpu_cfs_quota_period);
        period.and_then(|period| i64::try_from(period.as_micros()).ok()).unwrap_or(100_000)
    }

    /// Hundredths of what is between request and limit; nothing unless asked for.
    pub fn throttling(&self) -> Option<i64> {
        let factor = self.memory_throttling_factor.filter(|factor| (0.0..=1.0).contains(factor))?;
        #[allow(clippy::cast_possible_truncation)]
        let hundredths = (factor * 100.0).round() as i64;
        self.gate("MemoryQoS", false).then_some(hundredths)
    }

    pub fn protects_memory(&self) -> bool {
        self.gate("MemoryQoS", false) && self.memory_reservation_policy == "TieredReservation"
    }

    /// Pods that the node takes.
    pub fn pod_limit(&self, cpus: i64) -> u32 {
        let by_core = u32::try_from(cpus).unwrap_or(u32::MAX).saturating_mul(self.pods_per_core);
        if by_core == 0 { self.max_pods } else { self.max_pods.min(by_core) }
    }
}

/// A duration as Go writes it: `1m30s`, `100ms`, `2h`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(digits);
        let number: f64 = number.parse().ok()?;
        let (unit, length) = match after {
            after if after.starts_with("ms") => (1e-3, 2),
            after if after.starts_with("us") => (1e-6, 2),
            after if after.starts_with("ns") => (1e-9, 2),
            after if after.starts_with('s') => (1.0, 1),
            after if after.starts_with('m') => (60.0, 1),
            after if after.starts_with('h') => (3600.0, 1),
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
        rest = after.get(length..)?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<KubeletConfiguration, String> {
        let value = load::read(text)?;
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_what_it_knows_and_keeps_the_rest_for_a_warning() {
        let config = parse(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 7\ncgroupsPerQOS: false\nfancy: {a: 1}\nauthentication: {anonymous: {enabled: true}}\nclusterDNS: [10.96.0.10]\nimageMinimumGCAge: 7s\n",
        )
        .unwrap();
        assert_eq!((config.max_pods, config.pod_limit(4)), (7, 7));
        assert_eq!(config.image_minimum_gc_age, "7s");
        assert!(!config.cgroups_per_qos && config.authentication.anonymous.enabled);
        assert_eq!(config.unknown.keys().collect::<Vec<_>>(), ["fancy"]);
        assert_eq!(config.hard_threshold("memory.available"), Some("100Mi"));
    }

    #[test]
    fn thresholds_are_replaced_or_merged() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nevictionHard: {memory.available: 1Gi}\n";
        let config = parse(head).unwrap();
        assert_eq!(config.hard_threshold("nodefs.available"), None);
        let config = parse(&format!("{head}mergeDefaultEvictionSettings: true\n")).unwrap();
        assert_eq!(config.hard_threshold("nodefs.available"), Some("10%"));
        assert_eq!(config.hard_threshold("memory.available"), Some("1Gi"));
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("5m", Some(300_000)),
            ("1m30s", Some(90_000)),
            ("100ms", Some(100)),
            ("2h", Some(7_200_000)),
            ("", None),
            ("5", None),
            ("5x", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), expected, "{text}");
        }
    }

    #[test]
    fn another_kind_is_refused() {
        let error = parse("apiVersion: v1\nkind: Pod\n").unwrap_err();
        assert!(error.contains("\"Pod\""), "{error}");
    }
}
