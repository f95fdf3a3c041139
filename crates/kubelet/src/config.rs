//! The part of upstream's `KubeletConfiguration` that this kubelet honours.
//!
//! Fields it does not know are not an error (files are shared with upstream's kubelet); they are named in a
//! warning, so that nobody believes a setting to be in force that is not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `kubelet.config.k8s.io/v1beta1`, `KubeletConfiguration`; defaults are upstream's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    pub api_version: String,
    pub kind: String,
    /// Pods beyond this number are rejected and not advertised.
    pub max_pods: u32,
    /// The cgroup under which `kubepods` is made; several nodes on one machine need different ones.
    pub cgroup_root: String,
    /// Whether pod and QoS cgroups are made by the kubelet.
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    /// Resources kept from pods: `cpu`, `memory`, `ephemeral-storage`.
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    pub eviction_hard: BTreeMap<String, String>,
    /// Where container logs go; `<rootDir>/logs/pods` when empty.
    pub pod_logs_dir: String,
    pub container_log_max_size: String,
    pub container_log_max_files: u32,
    pub image_minimum_gc_age: String,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: u8,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: u8,
    pub node_lease_duration_seconds: i32,
    pub node_status_report_frequency: String,
    pub node_labels: BTreeMap<String, String>,
    pub register_with_taints: Vec<k8s_openapi::api::core::v1::Taint>,
    pub register_node: bool,
    /// The file that `dnsPolicy: Default` copies.
    pub resolv_conf: PathBuf,
    /// Manifests of pods that run whatever the API server says; empty for none.
    pub static_pod_path: PathBuf,
    /// Besides the safe ones; `net.ipv4.*` stands for all below.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Processes of a pod at most; no limit when not positive.
    pub pod_pids_limit: i64,
    /// Everything else in the file, to be warned about.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

impl Default for KubeletConfiguration {
    fn default() -> Self {
        Self {
            api_version: "kubelet.config.k8s.io/v1beta1".into(),
            kind: "KubeletConfiguration".into(),
            max_pods: 110,
            cgroup_root: "/".into(),
            cgroups_per_qos: true,
            cpu_cfs_quota: true,
            system_reserved: BTreeMap::new(),
            kube_reserved: BTreeMap::new(),
            eviction_hard: [
                ("memory.available", "100Mi"),
                ("nodefs.available", "10%"),
                ("nodefs.inodesFree", "5%"),
                ("imagefs.available", "15%"),
            ]
            .map(|(signal, threshold)| (signal.to_owned(), threshold.to_owned()))
            .into(),
            pod_logs_dir: String::new(),
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            image_minimum_gc_age: "2m".into(),
            image_gc_high_threshold_percent: 85,
            image_gc_low_threshold_percent: 80,
            node_lease_duration_seconds: 40,
            node_status_report_frequency: "5m".into(),
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            register_node: true,
            resolv_conf: "/etc/resolv.conf".into(),
            static_pod_path: PathBuf::new(),
            allowed_unsafe_sysctls: Vec::new(),
            pod_pids_limit: -1,
            unknown: BTreeMap::new(),
        }
    }
}

/// A configuration file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the kubelet configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot understand the kubelet configuration {path}: {reason}")]
    Parse { path: PathBuf, reason: String },
}

impl KubeletConfiguration {
    /// Reads a YAML or JSON file and warns about what is not honoured.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config =
            Self::parse(&text).map_err(|reason| ConfigError::Parse { path: path.to_owned(), reason })?;
        for field in config.unknown.keys() {
            tracing::warn!(path = %path.display(), field, "this kubelet does not know the field; it has no effect");
        }
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if config.kind != "KubeletConfiguration" {
            return Err(format!("kind is {:?}, not KubeletConfiguration", config.kind));
        }
        if config.api_version != "kubelet.config.k8s.io/v1beta1" {
            return Err(format!("apiVersion is {:?}, not kubelet.config.k8s.io/v1beta1", config.api_version));
        }
        Ok(config)
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

    #[test]
    fn reads_what_it_knows_and_keeps_the_rest_for_a_warning() {
        let config = KubeletConfiguration::parse(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 7\ncgroupsPerQOS: false\nfancy: {a: 1}\n",
        )
        .unwrap();
        assert_eq!(config.max_pods, 7);
        assert!(!config.cgroups_per_qos);
        assert_eq!(config.unknown.keys().collect::<Vec<_>>(), ["fancy"]);
        assert_eq!(config.eviction_hard["memory.available"], "100Mi");
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
        let error = KubeletConfiguration::parse("apiVersion: v1\nkind: Pod\n").unwrap_err();
        assert!(error.contains("\"Pod\""), "{error}");
    }
}
