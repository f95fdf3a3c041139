//! Flags of upstream's kubelet that say what a field of its configuration says: scripts of distributions and clouds pass
//! them. Each is laid over the file's field; whether the field has an effect is the field's business.

use serde_json::{Map, Value};

/// How the text of a flag is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Switch,
    /// `a,b`
    List,
    /// `key=value,key=value`
    Pairs,
    /// `signal<bound,signal<bound`
    Thresholds,
    /// `name=true,name=false`
    Switches,
    /// `node:type=amount,type=amount;node:...`
    MemoryByNode,
    /// Means nothing here, for this reason.
    Nothing(&'static str),
}

#[derive(Debug)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// The field, with dots between its parts.
    pub field: &'static str,
    pub kind: Kind,
}

/// A flag cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("--{name}={text}: expected {expected}")]
pub struct FlagError {
    name: &'static str,
    text: String,
    expected: &'static str,
}

const fn flag(name: &'static str, field: &'static str, kind: Kind) -> Flag {
    Flag { name, field, kind }
}

const fn nothing(name: &'static str, reason: &'static str) -> Flag {
    Flag { name, field: "", kind: Kind::Nothing(reason) }
}

const LOGS: &str = "logs are set up by RUST_LOG";

pub const FLAGS: &[Flag] = &[
    flag("address", "address", Kind::Text),
    flag("anonymous-auth", "authentication.anonymous.enabled", Kind::Switch),
    flag("authentication-token-webhook", "authentication.webhook.enabled", Kind::Switch),
    flag("authentication-token-webhook-cache-ttl", "authentication.webhook.cacheTTL", Kind::Text),
    flag("authorization-mode", "authorization.mode", Kind::Text),
    flag(
        "authorization-webhook-cache-authorized-ttl",
        "authorization.webhook.cacheAuthorizedTTL",
        Kind::Text,
    ),
    flag(
        "authorization-webhook-cache-unauthorized-ttl",
        "authorization.webhook.cacheUnauthorizedTTL",
        Kind::Text,
    ),
    flag("cgroups-per-qos", "cgroupsPerQOS", Kind::Switch),
    nothing("cloud-config", "clouds have controllers of their own"),
    nothing("cloud-provider", "clouds have controllers of their own"),
    flag("container-log-max-files", "containerLogMaxFiles", Kind::Number),
    flag("container-log-max-size", "containerLogMaxSize", Kind::Text),
    flag("contention-profiling", "enableContentionProfiling", Kind::Switch),
    flag("cpu-cfs-quota", "cpuCFSQuota", Kind::Switch),
    flag("cpu-cfs-quota-period", "cpuCFSQuotaPeriod", Kind::Text),
    flag("cpu-manager-policy", "cpuManagerPolicy", Kind::Text),
    flag("cpu-manager-policy-options", "cpuManagerPolicyOptions", Kind::Pairs),
    flag("cpu-manager-reconcile-period", "cpuManagerReconcilePeriod", Kind::Text),
    flag("enable-controller-attach-detach", "enableControllerAttachDetach", Kind::Switch),
    flag("enable-debugging-handlers", "enableDebuggingHandlers", Kind::Switch),
    flag("enable-server", "enableServer", Kind::Switch),
    flag("enforce-node-allocatable", "enforceNodeAllocatable", Kind::List),
    flag("event-burst", "eventBurst", Kind::Number),
    flag("event-qps", "eventRecordQPS", Kind::Number),
    flag("eviction-hard", "evictionHard", Kind::Thresholds),
    flag("eviction-max-pod-grace-period", "evictionMaxPodGracePeriod", Kind::Number),
    flag("eviction-minimum-reclaim", "evictionMinimumReclaim", Kind::Pairs),
    flag("eviction-pressure-transition-period", "evictionPressureTransitionPeriod", Kind::Text),
    flag("eviction-soft", "evictionSoft", Kind::Thresholds),
    flag("eviction-soft-grace-period", "evictionSoftGracePeriod", Kind::Pairs),
    nothing("exit-on-lock-contention", "there is no lock file"),
    nothing("experimental-allocatable-ignore-eviction", "it was never more than an experiment"),
    nothing("experimental-mounter-path", "it was never more than an experiment"),
    flag("fail-cgroupv1", "failCgroupV1", Kind::Switch),
    flag("fail-swap-on", "failSwapOn", Kind::Switch),
    flag("feature-gates", "featureGates", Kind::Switches),
    flag("file-check-frequency", "fileCheckFrequency", Kind::Text),
    flag("hairpin-mode", "hairpinMode", Kind::Text),
    flag("healthz-bind-address", "healthzBindAddress", Kind::Text),
    flag("healthz-port", "healthzPort", Kind::Number),
    flag("http-check-frequency", "httpCheckFrequency", Kind::Text),
    flag("image-gc-high-threshold", "imageGCHighThresholdPercent", Kind::Number),
    flag("image-gc-low-threshold", "imageGCLowThresholdPercent", Kind::Number),
    flag("image-service-endpoint", "imageServiceEndpoint", Kind::Text),
    nothing("keep-terminated-pod-volumes", "volumes go with their pods"),
    flag("kernel-memcg-notification", "kernelMemcgNotification", Kind::Switch),
    flag("kube-api-burst", "kubeAPIBurst", Kind::Number),
    flag("kube-api-content-type", "contentType", Kind::Text),
    flag("kube-api-qps", "kubeAPIQPS", Kind::Number),
    flag("kube-reserved", "kubeReserved", Kind::Pairs),
    flag("kube-reserved-cgroup", "kubeReservedCgroup", Kind::Text),
    flag("kubelet-cgroups", "kubeletCgroups", Kind::Text),
    flag("local-storage-capacity-isolation", "localStorageCapacityIsolation", Kind::Switch),
    nothing("lock-file", "there is no lock file"),
    nothing("log-flush-frequency", LOGS),
    nothing("log-json-info-buffer-size", LOGS),
    nothing("log-json-split-stream", LOGS),
    nothing("log-text-info-buffer-size", LOGS),
    nothing("log-text-split-stream", LOGS),
    nothing("logging-format", LOGS),
    flag("make-iptables-util-chains", "makeIPTablesUtilChains", Kind::Switch),
    flag("manifest-url", "staticPodURL", Kind::Text),
    nothing("manifest-url-header", "manifests come from files only"),
    flag("max-open-files", "maxOpenFiles", Kind::Number),
    nothing("maximum-dead-containers", "one dead container stays, for its log"),
    nothing("maximum-dead-containers-per-container", "one dead container stays, for its log"),
    flag("memory-manager-policy", "memoryManagerPolicy", Kind::Text),
    nothing("minimum-container-ttl-duration", "one dead container stays, for its log"),
    flag("minimum-image-ttl-duration", "imageMinimumGCAge", Kind::Text),
    flag("node-status-max-images", "nodeStatusMaxImages", Kind::Number),
    flag("node-status-update-frequency", "nodeStatusUpdateFrequency", Kind::Text),
    flag("oom-score-adj", "oomScoreAdj", Kind::Number),
    flag("pod-cidr", "podCIDR", Kind::Text),
    nothing("pod-infra-container-image", "the runtime knows how it makes sandboxes"),
    flag("pod-max-pids", "podPidsLimit", Kind::Number),
    flag("pods-per-core", "podsPerCore", Kind::Number),
    flag("port", "port", Kind::Number),
    flag("protect-kernel-defaults", "protectKernelDefaults", Kind::Switch),
    flag("qos-reserved", "qosReserved", Kind::Pairs),
    flag("read-only-port", "readOnlyPort", Kind::Number),
    nothing("register-schedulable", "say it by a taint"),
    flag("registry-burst", "registryBurst", Kind::Number),
    flag("registry-qps", "registryPullQPS", Kind::Number),
    flag("reserved-cpus", "reservedSystemCPUs", Kind::Text),
    flag("reserved-memory", "reservedMemory", Kind::MemoryByNode),
    flag("runonce", "runOnce", Kind::Switch),
    nothing("runtime-cgroups", "the runtime stays in the cgroup that it was started in"),
    flag("runtime-request-timeout", "runtimeRequestTimeout", Kind::Text),
    flag("serialize-image-pulls", "serializeImagePulls", Kind::Switch),
    flag("streaming-connection-idle-timeout", "streamingConnectionIdleTimeout", Kind::Text),
    flag("sync-frequency", "syncFrequency", Kind::Text),
    flag("system-cgroups", "systemCgroups", Kind::Text),
    flag("system-reserved", "systemReserved", Kind::Pairs),
    flag("system-reserved-cgroup", "systemReservedCgroup", Kind::Text),
    flag("tls-cipher-suites", "tlsCipherSuites", Kind::List),
    flag("tls-min-version", "tlsMinVersion", Kind::Text),
    flag("topology-manager-policy", "topologyManagerPolicy", Kind::Text),
    flag("topology-manager-policy-options", "topologyManagerPolicyOptions", Kind::Pairs),
    flag("topology-manager-scope", "topologyManagerScope", Kind::Text),
    nothing("v", LOGS),
    nothing("vmodule", LOGS),
    flag("volume-plugin-dir", "volumePluginDir", Kind::Text),
    flag("volume-stats-agg-period", "volumeStatsAggPeriod", Kind::Text),
];

/// The configuration that flags make, each with every text that it was given.
pub fn configuration<'a>(
    given: impl IntoIterator<Item = (&'a str, Vec<String>)>,
) -> Result<Value, FlagError> {
    let mut whole = Value::Object(Map::new());
    for (name, texts) in given {
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else { continue };
        if let Kind::Nothing(why) = flag.kind {
            tracing::warn!(flag = name, why, "a flag has no effect");
            continue;
        }
        for text in texts {
            let value = flag.read(&text)?;
            let value = flag
                .field
                .rsplit('.')
                .fold(value, |value, part| Value::Object(Map::from_iter([(part.to_owned(), value)])));
            super::load::merge(&mut whole, value);
        }
    }
    Ok(whole)
}

impl Flag {
    fn read(&self, text: &str) -> Result<Value, FlagError> {
        let bad = |expected| FlagError { name: self.name, text: text.to_owned(), expected };
        let pairs = |separator: char| {
            let pair = |part: &str| {
                let (key, value) = part.split_once(separator)?;
                Some((key.trim().to_owned(), value.trim().to_owned()))
            };
            parts(text, ',').map(pair).collect::<Option<Vec<_>>>()
        };
        let object = |pairs: Vec<(String, String)>| {
            Value::Object(pairs.into_iter().map(|(key, value)| (key, Value::String(value))).collect())
        };
        match self.kind {
            Kind::Text => Ok(text.into()),
            Kind::Number => text.parse::<i64>().map(Value::from).map_err(|_| bad("a number")),
            Kind::Switch => switch(text).map(Value::from).ok_or_else(|| bad("true or false")),
            Kind::List => Ok(parts(text, ',').map(Value::from).collect()),
            Kind::Pairs => pairs('=').map(object).ok_or_else(|| bad("key=value,key=value")),
            Kind::Thresholds => pairs('<').map(object).ok_or_else(|| bad("signal<bound,signal<bound")),
            Kind::Switches => {
                let one = |(key, value): (String, String)| Some((key, Value::from(switch(&value)?)));
                let all = pairs('=').and_then(|pairs| pairs.into_iter().map(one).collect());
                all.map(Value::Object).ok_or_else(|| bad("name=true,name=false"))
            }
            Kind::MemoryByNode => {
                memory_by_node(text).ok_or_else(|| bad("node:memory=amount,type=amount;node:..."))
            }
            Kind::Nothing(_) => Ok(Value::Null),
        }
    }
}

fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.split(separator).map(str::trim).filter(|part| !part.is_empty())
}

/// As Go reads truth.
fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

fn memory_by_node(text: &str) -> Option<Value> {
    let node = |part: &str| {
        let (node, limits) = part.split_once(':')?;
        let limit = |pair: &str| {
            let (kind, amount) = pair.split_once('=')?;
            Some((kind.to_owned(), Value::from(amount)))
        };
        let limits: Map<String, Value> = parts(limits, ',').map(limit).collect::<Option<_>>()?;
        Some(serde_json::json!({"numaNode": node.trim().parse::<u32>().ok()?, "limits": limits}))
    };
    parts(text, ';').map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_flags_say() {
        let check = |name: &str, text: &str, expected: Option<Value>| {
            let found = configuration([(name, vec![text.to_owned()])]);
            assert_eq!(found.ok(), expected, "--{name}={text}");
        };
        check("anonymous-auth", "false", Some(json!({"authentication": {"anonymous": {"enabled": false}}})));
        check("anonymous-auth", "no", None);
        check(
            "eviction-hard",
            "memory.available<100Mi,nodefs.available<10%",
            Some(json!({"evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%"}})),
        );
        check(
            "kube-reserved",
            "cpu=100m,memory=1Gi",
            Some(json!({"kubeReserved": {"cpu": "100m", "memory": "1Gi"}})),
        );
        check("kube-reserved", "cpu", None);
        check("feature-gates", "A=true,B=false", Some(json!({"featureGates": {"A": true, "B": false}})));
        check("enforce-node-allocatable", "", Some(json!({"enforceNodeAllocatable": []})));
        check(
            "reserved-memory",
            "0:memory=1Gi,hugepages-1Gi=2Gi;1:memory=2Gi",
            Some(json!({"reservedMemory": [
                {"numaNode": 0, "limits": {"memory": "1Gi", "hugepages-1Gi": "2Gi"}},
                {"numaNode": 1, "limits": {"memory": "2Gi"}}]})),
        );
        check("registry-qps", "10", Some(json!({"registryPullQPS": 10})));
        check("v", "2", Some(json!({})));
    }

    #[test]
    fn each_field_is_one_that_is_known() {
        let known = serde_json::to_value(crate::KubeletConfiguration::default()).unwrap();
        for flag in FLAGS.iter().filter(|flag| !flag.field.is_empty()) {
            let honoured = known.pointer(&format!("/{}", flag.field.replace('.', "/"))).is_some();
            let reason = super::super::fields::reason(flag.field);
            assert!(honoured || reason.is_some(), "--{}: {}", flag.name, flag.field);
        }
        assert!(FLAGS.is_sorted_by_key(|flag| flag.name));
    }
}
