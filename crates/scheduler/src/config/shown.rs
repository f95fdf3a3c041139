//! The configuration that is in force, in the file's form: what `/configz` tells.

use serde_json::{Value, json};

use super::{Config, Profile};
use crate::plugins::PluginId;

impl Config {
    pub fn shown(&self) -> Value {
        let election = &self.leader_election;
        let seconds = |duration: Option<std::time::Duration>, usual: u64| {
            format!("{}s", duration.map_or(usual, |duration| duration.as_secs()))
        };
        let name =
            |given: &str, usual: &str| if given.is_empty() { usual.to_owned() } else { given.to_owned() };
        json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "parallelism": 16,
            "leaderElection": {
                "leaderElect": election.leader_elect.unwrap_or(true),
                "leaseDuration": seconds(election.lease_duration, 15),
                "renewDeadline": seconds(election.renew_deadline, 10),
                "retryPeriod": seconds(election.retry_period, 2),
                "resourceLock": name(&election.resource_lock, "leases"),
                "resourceName": name(&election.resource_name, "kube-scheduler"),
                "resourceNamespace": name(&election.resource_namespace, "kube-system"),
            },
            "clientConnection": {
                "kubeconfig": self.kubeconfig.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default(),
            },
            "percentageOfNodesToScore": self.percentage_of_nodes_to_score.unwrap_or(0),
            "podInitialBackoffSeconds": self.initial_backoff.as_secs(),
            "podMaxBackoffSeconds": self.longest_backoff.as_secs(),
            "profiles": self.profiles.iter().map(Profile::shown).collect::<Vec<_>>(),
        })
    }
}

impl Profile {
    fn shown(&self) -> Value {
        let enabled = PluginId::ALL.into_iter().filter(|id| match id {
            PluginId::SchedulingGates => self.gates,
            PluginId::DefaultPreemption => self.preempts,
            PluginId::PrioritySort | PluginId::DefaultBinder => true,
            id => self.asks(*id),
        });
        let enabled: Vec<Value> = enabled
            .map(|id| match self.weight(id) {
                0 => json!({"name": id.name()}),
                weight => json!({"name": id.name(), "weight": weight}),
            })
            .collect();
        json!({"schedulerName": self.scheduler_name, "plugins": {"multiPoint": {"enabled": enabled}}})
    }
}
