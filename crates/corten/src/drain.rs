//! `corten node drain`: pods leave a node by evictions, which disruption budgets may put off.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::cli::{DrainArgs, NodeClientArgs};
use crate::join::Files;
use crate::layout::Layout;
use crate::roles;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Between attempts while a budget says no, as kubectl waits.
const RETRY: Duration = Duration::from_secs(5);
/// Between looks at whether pods have gone.
const LOOK: Duration = Duration::from_millis(500);

struct Target {
    client: kube::Client,
    name: String,
}

async fn target(layout: &Layout, args: &NodeClientArgs) -> Result<Target> {
    let candidates = [layout.admin_kubeconfig(), Files::of(layout).kubeconfig()];
    let kubeconfig = match &args.kubeconfig {
        Some(path) => path.clone(),
        None => candidates
            .into_iter()
            .find(|path| path.exists())
            .context("this machine has no kubeconfig of a cluster; name one with --kubeconfig")?,
    };
    let name = match &args.node {
        Some(name) => name.clone(),
        None => roles::hostname()?,
    };
    Ok(Target { client: client::from_kubeconfig(&kubeconfig, "corten").await?, name })
}

impl Target {
    async fn set_unschedulable(&self, value: bool) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patch = json!({"spec": {"unschedulable": value}});
        nodes
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .with_context(|| format!("cannot change node {}", self.name))?;
        Ok(())
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let parameters = ListParams::default().fields(&format!("spec.nodeName={}", self.name));
        Ok(pods
            .list(&parameters)
            .await
            .with_context(|| format!("cannot list the pods of {}", self.name))?
            .items)
    }
}

pub async fn uncordon(layout: &Layout, args: NodeClientArgs) -> Result<()> {
    let target = target(layout, &args).await?;
    target.set_unschedulable(false).await?;
    println!("node/{} uncordoned", target.name);
    Ok(())
}

pub async fn drain(layout: &Layout, args: DrainArgs) -> Result<()> {
    let target = target(layout, &args.node).await?;
    target.set_unschedulable(true).await?;
    println!("node/{} cordoned", target.name);
    let deadline = (!args.timeout.is_zero()).then(|| Instant::now() + args.timeout);
    let mut evict: Vec<Pod> = Vec::new();
    let mut refused = Vec::new();
    for pod in target.pods().await? {
        match judge(&pod, &args) {
            Judgement::Stays => {}
            Judgement::Goes => evict.push(pod),
            Judgement::Refused(why) => refused.push(format!("{}: {why}", title(&pod))),
        }
    }
    if !refused.is_empty() {
        bail!("the node is cordoned, but has pods that are not evicted:\n  {}", refused.join("\n  "));
    }
    let mut waiting = BTreeSet::new();
    while let Some(pod) = evict.pop() {
        let (namespace, name) = parts(&pod);
        let pods: Api<Pod> = Api::namespaced(target.client.clone(), namespace);
        let parameters = EvictParams {
            delete_options: Some(DeleteParams {
                grace_period_seconds: args.grace_period.and_then(|seconds| seconds.try_into().ok()),
                ..DeleteParams::default()
            }),
            ..EvictParams::default()
        };
        match pods.evict(name, &parameters).await {
            Ok(_) => {
                println!("evicting pod {}", title(&pod));
                waiting.extend(pod.metadata.uid.clone());
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(kube::Error::Api(status)) if status.code == 429 => {
                println!("pod {} must wait: {}", title(&pod), status.message);
                check(deadline)?;
                // The others first.
                evict.insert(0, pod);
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot evict pod {}", title(&pod))),
        }
    }
    while target
        .pods()
        .await?
        .iter()
        .any(|pod| pod.metadata.uid.as_ref().is_some_and(|uid| waiting.contains(uid)))
    {
        check(deadline)?;
        tokio::time::sleep(LOOK).await;
    }
    println!("node/{} drained", target.name);
    Ok(())
}

fn check(deadline: Option<Instant>) -> Result<()> {
    if deadline.is_some_and(|deadline| Instant::now() > deadline) {
        bail!("not all pods have left in time; the node stays cordoned");
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// It belongs to the node.
    Stays,
    Goes,
    Refused(&'static str),
}

fn judge(pod: &Pod, args: &DrainArgs) -> Judgement {
    let metadata = &pod.metadata;
    if metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)) {
        return Judgement::Stays;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Judgement::Goes;
    }
    let controller = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    match controller {
        Some(owner) if owner.kind == "DaemonSet" => return Judgement::Stays,
        None if !args.force => {
            return Judgement::Refused("no controller makes it again (--force deletes it)");
        }
        _ => {}
    }
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    if volumes.iter().any(|volume| volume.empty_dir.is_some()) && !args.delete_emptydir_data {
        return Judgement::Refused("it has data in an emptyDir (--delete-emptydir-data deletes it)");
    }
    Judgement::Goes
}

fn parts(pod: &Pod) -> (&str, &str) {
    let metadata = &pod.metadata;
    (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
}

fn title(pod: &Pod) -> String {
    let (namespace, name) = parts(pod);
    format!("{namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_pods_go() {
        let args = |force, data| DrainArgs {
            node: NodeClientArgs { node: None, kubeconfig: None },
            force,
            delete_emptydir_data: data,
            grace_period: None,
            timeout: Duration::ZERO,
        };
        let check = |pod: serde_json::Value, force, data, goes: Option<bool>| {
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let judged = judge(&pod, &args(force, data));
            let expected = match &judged {
                Judgement::Goes => Some(true),
                Judgement::Stays => Some(false),
                Judgement::Refused(_) => None,
            };
            assert_eq!(expected, goes, "{judged:?}");
        };
        let owned = |kind: &str| json!({"ownerReferences": [{"apiVersion": "apps/v1", "kind": kind, "name": "o", "uid": "u", "controller": true}]});
        check(json!({"metadata": {}}), false, false, None);
        check(json!({"metadata": {}}), true, false, Some(true));
        check(json!({"metadata": {"annotations": {MIRROR: "x"}}}), true, true, Some(false));
        check(json!({"metadata": owned("DaemonSet")}), true, true, Some(false));
        check(json!({"metadata": owned("ReplicaSet")}), false, false, Some(true));
        let data = json!({"containers": [], "volumes": [{"name": "v", "emptyDir": {}}]});
        check(json!({"metadata": owned("ReplicaSet"), "spec": data}), false, false, None);
        check(json!({"metadata": owned("ReplicaSet"), "spec": data}), false, true, Some(true));
        check(json!({"metadata": {}, "status": {"phase": "Succeeded"}}), false, false, Some(true));
    }
}
