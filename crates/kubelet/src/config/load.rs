//! Reading configuration: a file, and a directory of further ones that are laid over it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{KubeletConfiguration, fields};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// A configuration file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the kubelet configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot understand the kubelet configuration {path}: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error("the kubelet's flags do not make a configuration: {reason}")]
    Flags { reason: String },
}

/// Numbers that mean "nothing said" when they are zero.
const UNSET_AT_ZERO: [&str; 3] = ["maxPods", "nodeLeaseDurationSeconds", "port"];

/// Takes away what says nothing, as Go's programs write it (kubeadm does): nulls, and zeros and empty words where a default
/// is meant. Maps of the user's own, such as thresholds, are left alone.
fn drop_unset(value: &mut Value, depth: usize) {
    const STRUCTURES: [&str; 7] =
        ["authentication", "authorization", "x509", "webhook", "anonymous", "memorySwap", "crashLoopBackOff"];
    let Value::Object(fields) = value else { return };
    fields.retain(|name, value| match value {
        Value::Null => false,
        // Said to be empty, it means that there is none.
        Value::String(text) => name == "resolvConf" || !matches!(text.as_str(), "" | "0s"),
        Value::Number(number) => number.as_i64() != Some(0) || !UNSET_AT_ZERO.contains(&name.as_str()),
        _ => true,
    });
    for (name, value) in fields {
        if STRUCTURES.contains(&name.as_str()) && depth < STRUCTURES.len() {
            drop_unset(value, depth + 1);
        }
    }
}

impl KubeletConfiguration {
    /// Reads a YAML or JSON file and warns about what is not honoured.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(Some(path), None, Value::Null)
    }

    /// As [`Self::load`]; then the `*.conf` files of `dir`, by name, and what flags say, each over what was before: objects
    /// are merged, everything else is replaced.
    pub fn load_with(path: Option<&Path>, dir: Option<&Path>, flags: Value) -> Result<Self, ConfigError> {
        let mut files: Vec<PathBuf> = path.map(Path::to_owned).into_iter().collect();
        files.extend(dir.map(drop_ins).transpose()?.into_iter().flatten());
        let mut whole = Value::Object(serde_json::Map::new());
        for file in &files {
            let text = std::fs::read_to_string(file)
                .map_err(|source| ConfigError::Read { path: file.clone(), source })?;
            let parse = |reason: String| ConfigError::Parse { path: file.clone(), reason };
            let mut value = read(&text).map_err(parse)?;
            drop_unset(&mut value, 0);
            merge(&mut whole, value);
            // Checked file by file, so that the one with the mistake is named.
            let so_far: Self =
                serde_json::from_value(whole.clone()).map_err(|error| parse(error.to_string()))?;
            for field in so_far.unknown.keys() {
                let why = fields::reason(field).unwrap_or("no such field is known");
                tracing::warn!(path = %file.display(), field, why, "a field of the kubelet's configuration has no effect");
            }
        }
        if let Value::Object(flags) = flags {
            for (field, value) in flags {
                let single = Value::Object(serde_json::Map::from_iter([(field.clone(), value)]));
                merge(&mut whole, single);
                if let Some(why) = fields::reason(&field) {
                    tracing::warn!(field, why, "a field of the kubelet's configuration has no effect");
                }
            }
        }
        // How often is reported follows how often is looked, where only that is said.
        let looked = whole.get("nodeStatusUpdateFrequency").cloned();
        if let (Some(looked), Value::Object(fields)) = (looked, &mut whole) {
            fields.entry("nodeStatusReportFrequency").or_insert(looked);
        }
        serde_json::from_value(whole).map_err(|error| ConfigError::Flags { reason: error.to_string() })
    }
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries =
        std::fs::read_dir(dir).map_err(|source| ConfigError::Read { path: dir.to_owned(), source })?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    files.sort();
    Ok(files)
}

pub(super) fn read(text: &str) -> Result<Value, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let is = |field: &str, wanted: &str| match value.get(field).and_then(Value::as_str) {
        Some(found) if found == wanted => Ok(()),
        Some(found) => Err(format!("{field} is {found:?}, not {wanted}")),
        None => Err(format!("it has no {field}; {wanted} is expected")),
    };
    is("kind", KIND)?;
    is("apiVersion", API_VERSION)?;
    Ok(value)
}

pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{text}")).unwrap();
            path
        };
        let base = file(
            "base.yaml",
            "maxPods: 7\nsystemReserved: {cpu: '1'}\nevictionHard: {memory.available: 1Mi}\n",
        );
        file("10-a.conf", "maxPods: 8\nsystemReserved: {memory: 1Gi}\n");
        file("20-b.conf", "maxPods: 9\n");
        file("30-c.yaml", "maxPods: 10\n");
        let config = KubeletConfiguration::load_with(Some(&base), Some(dir.path()), Value::Null).unwrap();
        assert_eq!(config.max_pods, 9, "only *.conf are drop-ins");
        assert_eq!(config.system_reserved.len(), 2);
        file("40-d.conf", "maxPods: many\n");
        let error = KubeletConfiguration::load_with(Some(&base), Some(dir.path()), Value::Null).unwrap_err();
        assert!(error.to_string().contains("40-d.conf"), "{error}");
    }

    #[test]
    fn what_kubeadm_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        // As marshalled by Go: what was not said is there as zeros.
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous: {enabled: false}
  webhook: {cacheTTL: 0s, enabled: true}
  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}
authorization:
  mode: Webhook
  webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}
cgroupDriver: systemd
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: ''
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionHard: null
evictionPressureTransitionPeriod: 0s
evictionSoftGracePeriod: {memory.available: 0s}
address: ''
healthzBindAddress: 127.0.0.1
healthzPort: 10248
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
kind: KubeletConfiguration
logging: {flushFrequency: 0, options: {json: {infoBufferSize: '0'}}, verbosity: 0}
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
shutdownGracePeriod: 0s
staticPodPath: /etc/kubernetes/manifests
";
        std::fs::write(&path, text).unwrap();
        let config = KubeletConfiguration::load(&path).unwrap();
        let default = KubeletConfiguration::default();
        assert_eq!(config.authentication.webhook.cache_ttl, default.authentication.webhook.cache_ttl);
        assert_eq!(config.authorization.webhook, default.authorization.webhook);
        assert_eq!(config.eviction_hard, default.eviction_hard);
        assert_eq!(config.node_status_update_frequency, default.node_status_update_frequency);
        assert_eq!(config.node_status_report_frequency, default.node_status_report_frequency);
        assert_eq!(config.image_minimum_gc_age, default.image_minimum_gc_age);
        assert_eq!(config.eviction_pressure_transition_period, default.eviction_pressure_transition_period);
        assert_eq!(config.address, None);
        assert_eq!(config.eviction_soft_grace_period.len(), 1, "a user's own zero is one");
        assert!(config.rotate_certificates && config.cgroup_driver == "systemd");
    }

    #[test]
    fn flags_are_laid_over_files() {
        let given = [
            ("max-open-files", vec!["9".to_owned()]),
            ("node-status-update-frequency", vec!["3s".to_owned()]),
        ];
        let flags = super::super::flags::configuration(given).unwrap();
        let config = KubeletConfiguration::load_with(None, None, flags).unwrap();
        assert_eq!(config.node_status_update_frequency, "3s");
        assert_eq!(config.node_status_report_frequency, "3s", "it follows");
        let flags = serde_json::json!({"healthzPort": "many"});
        assert!(KubeletConfiguration::load_with(None, None, flags).is_err());
    }
}
