//! What a kubelet says under `/stats/summary`; of it, what is told on.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
pub struct Summary {
    #[serde(default)]
    pub node: Sample,
    #[serde(default)]
    pub pods: Vec<PodSummary>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Sample {
    pub cpu: Option<Cpu>,
    pub memory: Option<Memory>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    #[serde(default)]
    pub time: String,
    pub usage_nano_cores: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    pub working_set_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSummary {
    pub pod_ref: PodRef,
    #[serde(default)]
    pub containers: Vec<ContainerSummary>,
}

#[derive(Debug, Deserialize)]
pub struct PodRef {
    pub name: String,
    pub namespace: String,
}

#[derive(Debug, Deserialize)]
pub struct ContainerSummary {
    pub name: String,
    #[serde(flatten)]
    pub sample: Sample,
}

/// What something uses: both figures, or it has just begun and there is nothing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub time: String,
    pub nano_cores: u64,
    pub bytes: u64,
}

impl Sample {
    pub fn usage(&self) -> Option<Usage> {
        let (cpu, memory) = (self.cpu.as_ref()?, self.memory.as_ref()?);
        Some(Usage {
            time: cpu.time.clone(),
            nano_cores: cpu.usage_nano_cores?,
            bytes: memory.working_set_bytes?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_known_is_not_told() {
        let check = |text: &str, known: bool| {
            let sample: Sample = serde_json::from_str(text).unwrap();
            assert_eq!(sample.usage().is_some(), known, "{text}");
        };
        check(
            r#"{"cpu": {"time": "t", "usageNanoCores": 5}, "memory": {"workingSetBytes": 7, "rssBytes": 1}}"#,
            true,
        );
        check(
            r#"{"cpu": {"time": "t", "usageCoreNanoSeconds": 5}, "memory": {"workingSetBytes": 7}}"#,
            false,
        );
        check(r#"{"cpu": {"time": "t", "usageNanoCores": 5}, "memory": {}}"#, false);
        check(r#"{"memory": {"workingSetBytes": 7}}"#, false);
        check("{}", false);
    }

    #[test]
    fn a_summary() {
        let text = r#"{"node": {"nodeName": "n", "cpu": {"time": "t", "usageNanoCores": 1}, "memory": {"workingSetBytes": 2}},
            "pods": [{"podRef": {"name": "p", "namespace": "ns", "uid": "u"}, "containers": [
                {"name": "c", "cpu": {"time": "t", "usageNanoCores": 3}, "memory": {"workingSetBytes": 4}, "rootfs": {}}]}]}"#;
        let summary: Summary = serde_json::from_str(text).unwrap();
        assert_eq!(summary.node.usage().unwrap().bytes, 2);
        assert_eq!(summary.pods[0].containers[0].sample.usage().unwrap().nano_cores, 3);
        assert!(serde_json::from_str::<Summary>("{}").unwrap().pods.is_empty());
    }
}
