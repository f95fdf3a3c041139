//! Keeps pods off nodes that lack a feature they need. Nodes declare features that are new, so that those of an older version
//! are left alone (`status.declaredFeatures`).

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Local, Refusal};
use crate::cluster::NodeState;
use crate::pod::PodInfo;

/// A feature, and whether a pod can only run where it is.
type Feature = (&'static str, fn(&PodSpec) -> bool);

/// By name, in order.
const FEATURES: [Feature; 2] = [
    ("RestartAllContainersOnContainerExits", |spec| {
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        containers.any(restarts_all)
    }),
    ("UserNamespacesHostNetworkSupport", |spec| {
        spec.host_network == Some(true) && spec.host_users == Some(false)
    }),
];

fn restarts_all(container: &Container) -> bool {
    let rules = container.restart_policy_rules.iter().flatten();
    rules.into_iter().any(|rule| rule.action == "RestartAllContainers")
}

/// The features that a pod needs.
pub fn needed(pod: &PodInfo) -> Vec<&'static str> {
    let needed = |spec| FEATURES.iter().filter(move |(_, needs)| needs(spec)).map(|(name, _)| *name);
    pod.spec().into_iter().flat_map(needed).collect()
}

pub struct Needed(Vec<&'static str>);

impl Needed {
    /// None if the pod runs anywhere.
    pub fn new(pod: &PodInfo) -> Option<Self> {
        Some(needed(pod)).filter(|needed| !needed.is_empty()).map(Self)
    }
}

impl Local for Needed {
    fn filter(&self, node: &NodeState) -> Result<(), Refusal> {
        let status = node.node.as_ref().and_then(|node| node.status.as_ref());
        let declared = status.and_then(|status| status.declared_features.as_deref()).unwrap_or_default();
        let lacks = |feature: &&&str| !declared.iter().any(|known| known == **feature);
        let missing: Vec<&str> = self.0.iter().filter(lacks).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Refusal::for_good(format!(
            "node declared features check failed - unsatisfied requirements: {}",
            missing.join(", ")
        )))
    }
}
