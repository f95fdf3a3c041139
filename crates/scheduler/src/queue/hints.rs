//! Whether an event may help a pod that was refused: first by the sort of event, then by looking at both.

use super::events::{Event, Kinds};
use crate::classes::local::judge;
use crate::cluster::Cluster;
use crate::config::Profile;
use crate::plugins::pod_topology_spread::Constraints;
use crate::plugins::{PluginId, PluginSet};
use crate::pod::PodInfo;
use crate::storage::claim_names;

/// After which events a pod that the plugin refused may be worth another try.
pub const fn kinds(id: PluginId) -> Kinds {
    use Kinds as K;
    let node = K::NODE_ADDED.or(K::NODE_LABELS);
    match id {
        PluginId::NodeUnschedulable | PluginId::TaintToleration => K::NODE_ADDED.or(K::NODE_TAINTS),
        PluginId::NodeName => K::NODE_ADDED,
        PluginId::NodeAffinity => node,
        PluginId::NodePorts => K::NODE_ADDED.or(K::POD_REMOVED),
        PluginId::NodeResourcesFit => {
            K::NODE_ADDED.or(K::NODE_RESOURCES).or(K::POD_REMOVED).or(K::DEVICE_CLASS)
        }
        PluginId::NodeDeclaredFeatures => K::NODE_ADDED.or(K::NODE_FEATURES),
        PluginId::VolumeRestrictions => K::POD_REMOVED.or(K::NODE_ADDED).or(K::CLAIM),
        PluginId::NodeVolumeLimits => {
            K::NODE_ADDED.or(K::CSI_NODE).or(K::POD_REMOVED).or(K::CLAIM).or(K::VOLUME)
        }
        PluginId::VolumeBinding | PluginId::VolumeZone => node
            .or(K::CLAIM)
            .or(K::VOLUME)
            .or(K::STORAGE_CLASS)
            .or(K::CSI_NODE)
            .or(K::CSI_DRIVER)
            .or(K::CSI_CAPACITY),
        PluginId::PodTopologySpread | PluginId::InterPodAffinity => {
            node.or(K::NODE_TAINTS).or(K::POD_ADDED).or(K::POD_REMOVED)
        }
        PluginId::DynamicResources => node
            .or(K::NODE_RESOURCES)
            .or(K::NODE_TAINTS)
            .or(K::POD_REMOVED)
            .or(K::RESOURCE_CLAIM)
            .or(K::RESOURCE_SLICE)
            .or(K::DEVICE_CLASS),
        // Nobody knows what an extender looks at.
        PluginId::Extender => Kinds::NODE_ADDED
            .or(K::NODE_RESOURCES)
            .or(K::NODE_LABELS)
            .or(K::NODE_TAINTS)
            .or(K::POD_REMOVED)
            .or(K::POD_ADDED),
        PluginId::SchedulingGates
        | PluginId::PrioritySort
        | PluginId::DefaultPreemption
        | PluginId::NodeResourcesBalancedAllocation
        | PluginId::ImageLocality
        | PluginId::DefaultBinder => Kinds::NONE,
    }
}

/// Whether the event makes one of those who refused the pod think again.
pub fn helps(
    refused_by: PluginSet,
    event: Event<'_>,
    pod: &PodInfo,
    profile: &Profile,
    cluster: &Cluster,
) -> bool {
    let mut asked = refused_by.iter().filter(|id| kinds(*id).intersects(event.kinds()));
    asked.any(|id| match event {
        Event::Node(_, node) => match judge(id, pod, profile, cluster) {
            // Who judges single nodes can judge this one.
            Some(judge) => judge.filter(node).is_ok(),
            None => true,
        },
        Event::PodRemoved(other) => pod_removed(id, pod, other, profile, cluster),
        Event::PodAdded(other) => pod_added(id, pod, other, profile, cluster),
        Event::Claim(namespace, name) => uses(pod, namespace, name),
        Event::ResourceClaim(..) | Event::Other(_) => true,
    })
}

fn uses(pod: &PodInfo, namespace: &str, name: &str) -> bool {
    pod.namespace() == namespace && claim_names(&pod.pod).any(|claim| claim == name)
}

fn pod_removed(id: PluginId, pod: &PodInfo, other: &PodInfo, profile: &Profile, cluster: &Cluster) -> bool {
    match id {
        PluginId::NodePorts => other
            .host_ports
            .iter()
            .any(|freed| pod.host_ports.iter().any(|wanted| wanted.clashes_with(freed))),
        PluginId::VolumeRestrictions => {
            claim_names(&other.pod).any(|name| uses(pod, other.namespace(), &name))
                || other.spec().is_some_and(|spec| spec.volumes.is_some())
        }
        PluginId::NodeVolumeLimits => claim_names(&other.pod).next().is_some(),
        PluginId::PodTopologySpread => is_spread_with(pod, other, profile, cluster),
        PluginId::InterPodAffinity => {
            let refused = pod.terms.iter().flat_map(|terms| &terms.anti);
            let refusing = other.terms.iter().flat_map(|terms| &terms.anti);
            let labels = |pod: &PodInfo| pod.pod.metadata.labels.clone();
            refused
                .into_iter()
                .any(|term| term.picks(other.namespace(), labels(other).as_ref(), &cluster.namespaces))
                || refusing
                    .into_iter()
                    .any(|term| term.picks(pod.namespace(), labels(pod).as_ref(), &cluster.namespaces))
        }
        _ => true,
    }
}

fn pod_added(id: PluginId, pod: &PodInfo, other: &PodInfo, profile: &Profile, cluster: &Cluster) -> bool {
    match id {
        PluginId::PodTopologySpread => is_spread_with(pod, other, profile, cluster),
        PluginId::InterPodAffinity => pod.terms.iter().flat_map(|terms| &terms.required).any(|term| {
            term.picks(other.namespace(), other.pod.metadata.labels.as_ref(), &cluster.namespaces)
        }),
        PluginId::Extender => true,
        _ => false,
    }
}

fn is_spread_with(pod: &PodInfo, other: &PodInfo, profile: &Profile, cluster: &Cluster) -> bool {
    pod.namespace() == other.namespace() && {
        let constraints =
            Constraints::of(pod, &profile.spread_defaults, || cluster.workloads.selector_of(pod));
        constraints.all.iter().any(|constraint| constraint.counts(other.pod.metadata.labels.as_ref()))
    }
}
