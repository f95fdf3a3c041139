//! Fields of upstream's `KubeletConfiguration` that have no effect here, and why: what a warning says, and what
//! `docs/node.md` lists beside those that [`super::KubeletConfiguration`] honours.

/// Field and reason, sorted by field.
pub const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("configMapAndSecretChangeDetectionStrategy", "objects are always watched"),
    ("containerLogMaxWorkers", "rotating a log is a rename: one worker does them all"),
    ("contentType", "the client decides"),
    ("cpuManagerReconcilePeriod", "containers are moved when the CPUs that they share change"),
    ("enableContentionProfiling", "there is no Go profiler"),
    ("enableControllerAttachDetach", "attaching is the controller's"),
    ("enableDebugFlagsHandler", "the log level is set by RUST_LOG"),
    ("enableProfilingHandler", "there is no Go profiler"),
    ("enableSystemLogQuery", "the journal is not read"),
    ("eventBurst", "each object has a bucket of its own: 25 at once"),
    ("eventRecordQPS", "each object has a bucket of its own: one in five minutes"),
    ("failCgroupV1", "both versions are supported"),
    ("failSwapOn", "swap is no reason to fail"),
    ("fileCheckFrequency", "manifests are watched"),
    ("hairpinMode", "the runtime's bridge always lets pods reach themselves"),
    ("httpCheckFrequency", "manifests come from files only"),
    ("imageServiceEndpoint", "images are asked for at the runtime's endpoint"),
    ("iptablesDropBit", "no iptables rules are made"),
    ("iptablesMasqueradeBit", "no iptables rules are made"),
    ("kernelMemcgNotification", "pressure is looked at every ten seconds"),
    ("kubeAPIBurst", "the kubelet is not throttled by itself"),
    ("kubeAPIQPS", "the kubelet is not throttled by itself"),
    ("kubeReservedCgroup", "what is reserved is only counted"),
    ("kubeletCgroups", "the kubelet stays in the cgroup that it was started in"),
    ("localStorageCapacityIsolation", "always on"),
    ("logging", "logs are set up by RUST_LOG"),
    ("makeIPTablesUtilChains", "no iptables rules are made"),
    ("maxOpenFiles", "limits are the service manager's"),
    ("oomScoreAdj", "scores are the service manager's"),
    ("podCIDR", "addresses come from the Node object"),
    ("protectKernelDefaults", "kernel settings are neither checked nor changed"),
    ("qosReserved", "requests are not reserved by class"),
    ("readOnlyPort", "the API is served with authentication only"),
    ("registryBurst", "pulls are not throttled"),
    ("registryPullQPS", "pulls are not throttled"),
    ("runOnce", "deprecated: a kubelet runs on"),
    ("runtimeRequestTimeout", "two minutes, four for sandboxes"),
    ("showHiddenMetricsForVersion", "no metric is hidden"),
    ("staticPodURL", "manifests come from files only"),
    ("staticPodURLHeader", "manifests come from files only"),
    ("streamingConnectionIdleTimeout", "a stream lives as long as its ends do"),
    ("syncFrequency", "pods follow events"),
    ("systemCgroups", "processes of the system stay where they are"),
    ("systemReservedCgroup", "what is reserved is only counted"),
    ("tlsCipherSuites", "rustls offers the safe ones"),
    ("tlsCurvePreferences", "rustls offers the safe ones"),
    ("tlsMinVersion", "TLS 1.2 at least"),
    ("tracing", "no spans are exported"),
    ("volumePluginDir", "flexVolume is not supported"),
    ("volumeStatsAggPeriod", "volumes are measured when somebody asks"),
];

/// Why a field has no effect, if it is one that upstream knows.
pub fn reason(field: &str) -> Option<&'static str> {
    let at = WITHOUT_EFFECT.binary_search_by_key(&field, |(name, _)| name).ok()?;
    WITHOUT_EFFECT.get(at).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(WITHOUT_EFFECT.is_sorted_by_key(|(name, _)| *name));
        assert!(reason("volumePluginDir").is_some());
        assert_eq!(reason("nonsense"), None);
    }
}
