//! Making room for an important pod by sending less important ones away.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tracing::{debug, warn};

use crate::cluster::{Cluster, NodeState};
use crate::outcome;
use crate::plugins::Plugin;
use crate::pod::PodInfo;
use crate::schedule::{Checks, Misfit};

/// The pods that would have to go, and from where.
#[derive(Debug)]
pub struct Victims {
    pub node: String,
    pub pods: Vec<Arc<PodInfo>>,
}

/// The node where the least harm makes room, if there is any.
pub fn find(
    plugins: &[Box<dyn Plugin>],
    pod: &PodInfo,
    cluster: &Cluster,
    misfit: &Misfit,
) -> Option<Victims> {
    if pod.spec().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return None;
    }
    let checks = Checks::prepare(plugins, pod, cluster);
    let nodes = misfit.candidates.iter().filter_map(|name| cluster.node(name));
    let found = nodes.filter_map(|node| {
        let pods = victims(&checks, pod, node)?;
        Some(Victims { node: node.name.clone(), pods })
    });
    found.min_by_key(|victims| {
        let most_important = victims.pods.iter().map(|victim| victim.priority).max();
        let harm: i64 = victims.pods.iter().map(|victim| i64::from(victim.priority)).sum();
        (most_important, harm, victims.pods.len())
    })
}

/// Whom a node has to lose: everybody less important, except those who may stay after all.
fn victims(checks: &Checks<'_>, pod: &PodInfo, node: &NodeState) -> Option<Vec<Arc<PodInfo>>> {
    let mut less: Vec<_> =
        node.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    // Some are on their way out already: what they leave is waited for, rather than sending away more.
    if less.is_empty() || less.iter().any(|other| other.is_terminating()) {
        return None;
    }
    let mut without = node.clone();
    for other in &less {
        without.remove_pod(&other.uid);
    }
    if !checks.fits(&without) {
        return None;
    }
    less.sort_by_key(|other| std::cmp::Reverse(other.priority));
    less.retain(|other| {
        without.add_pod(other.clone());
        let stays = checks.fits(&without);
        if !stays {
            without.remove_pod(&other.uid);
        }
        !stays
    });
    Some(less)
}

pub async fn carry_out(client: &kube::Client, scheduler: &str, pod: &PodInfo, victims: Victims) {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    let patch = json!({"status": {"nominatedNodeName": victims.node}});
    if let Err(error) = api.patch_status(pod.name(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        debug!(pod = pod.name(), %error, "nominated node is not told");
    }
    for victim in &victims.pods {
        if let Err(error) = send_away(client, scheduler, victim).await {
            warn!(pod = victim.name(), namespace = victim.namespace(), %error, "cannot preempt");
            continue;
        }
        outcome::record_preempted(client, scheduler, victim, &victims.node, pod).await;
    }
}

async fn send_away(client: &kube::Client, scheduler: &str, victim: &PodInfo) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), victim.namespace());
    let patch = json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": format!("{scheduler}: preempting to accommodate a higher priority pod"),
        "lastTransitionTime": Time(Timestamp::now()),
    }]}});
    api.patch_status(victim.name(), &PatchParams::default(), &Patch::Strategic(&patch)).await?;
    let exactly = Preconditions { uid: Some(victim.uid.clone()), ..Default::default() };
    api.delete(victim.name(), &DeleteParams::default().preconditions(exactly)).await.map(drop)
}
