//! How many pods a scheduler assigns per second, to nodes that are only said to be there.
//!
//! With a kubeconfig, nodes and pods are made at the cluster and a watch tells when pods have their nodes: creating
//! pods and binding them goes through the API server and counts. With `--core` our scheduler's decisions are measured
//! by themselves: every event that a watch would tell is told, and nothing is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use client::Delta;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, Event};
use scheduler::Config;
use scheduler::core::{Core, Decision};
use serde_json::{Value, json};

#[derive(Parser)]
struct Args {
    #[arg(long, env = "KUBECONFIG", required_unless_present = "core")]
    kubeconfig: Option<std::path::PathBuf>,
    /// Measure the decisions alone, without a cluster
    #[arg(long)]
    core: bool,
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// Pods are spread over zones, and no two of one application share a node
    #[arg(long)]
    constrained: bool,
    /// Applications, each with as many of the pods
    #[arg(long, default_value_t = 20)]
    applications: usize,
    /// Requests under way at once
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

const ZONES: usize = 5;
const LABEL: &str = "bench.corten.io/simulated";
const PATIENCE: Duration = Duration::from_secs(600);

fn node(at: usize) -> Value {
    json!({
        "metadata": {"name": format!("simulated-{at}"), "labels": {
            LABEL: "true",
            "kubernetes.io/hostname": format!("simulated-{at}"),
            "topology.kubernetes.io/zone": format!("zone-{}", at % ZONES),
        }},
        "status": status(),
    })
}

fn status() -> Value {
    let amounts = json!({"cpu": "64", "memory": "256Gi", "pods": "500"});
    json!({"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True", "reason": "Simulated"}]})
}

fn pod(args: &Args, at: usize) -> Value {
    let app = format!("app-{}", at % args.applications.max(1));
    let mut pod = json!({
        "metadata": {"name": format!("pod-{at}"), "labels": {"app": app}},
        "spec": {
            "nodeSelector": {LABEL: "true"},
            // Nobody speaks for the nodes, so that they are thought lost after a while.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": "none", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}],
        },
    });
    if args.constrained {
        let selector = json!({"matchLabels": {"app": app}});
        pod["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]);
        pod["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}]}});
    }
    pod
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    match &args.kubeconfig {
        Some(kubeconfig) if !args.core => cluster(&args, kubeconfig).await,
        _ => core(&args),
    }
}

fn report(args: &Args, what: &str, pods: usize, took: Duration) {
    let kind = if args.constrained { "spread and apart" } else { "unconstrained" };
    let rate = pods as f64 / took.as_secs_f64();
    println!(
        "{what}: {pods} pods ({kind}) on {} nodes in {:.3} s: {rate:.0} pods/s",
        args.nodes,
        took.as_secs_f64()
    );
}

/// One pod's life as the watch tells of it.
struct Told {
    pending: Arc<Pod>,
    running: Pod,
}

fn core(args: &Args) -> Result<()> {
    let mut core = Core::new(&Config::default());
    let now = tokio::time::Instant::now();
    for at in 0..args.nodes {
        core.node_changed(&Delta::Added(Arc::new(serde_json::from_value(node(at))?)), now);
    }
    let mut told = Vec::new();
    for at in 0..args.pods {
        let mut pod = pod(args, at);
        pod["metadata"]["uid"] = json!(at.to_string());
        pod["metadata"]["namespace"] = json!("bench");
        let pending: Pod = serde_json::from_value(pod)?;
        told.push(Told { running: pending.clone(), pending: Arc::new(pending) });
    }
    let begun = Instant::now();
    for told in &told {
        core.pod_changed(&Delta::Added(told.pending.clone()), now);
    }
    let mut assigned = 0;
    while let Some(decision) = core.decide_next(now) {
        let Decision::Bind(assignment) = decision else { continue };
        core.bound(&assignment);
        let at: usize = assignment.waiting.pod.uid.parse()?;
        let Told { pending, running } = told.get_mut(at).context("a pod of ours")?;
        let mut running = std::mem::take(running);
        running.spec.get_or_insert_default().node_name = Some(assignment.node);
        core.pod_changed(&Delta::Updated { old: pending.clone(), new: Arc::new(running) }, now);
        assigned += 1;
    }
    let took = begun.elapsed();
    ensure!(assigned == args.pods, "only {assigned} of {} pods fit", args.pods);
    report(args, "decisions", assigned, took);
    Ok(())
}

async fn cluster(args: &Args, kubeconfig: &std::path::Path) -> Result<()> {
    let client = bench::client(kubeconfig).await?;
    let namespace = bench::namespace_for_pods(&client).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let measured = async {
        make_nodes(args, &nodes).await?;
        assign(args, Api::namespaced(client.clone(), &namespace)).await
    };
    let measured =
        tokio::time::timeout(PATIENCE, measured).await.context("the cluster takes too long").flatten();
    bench::remove_namespace(&client, &namespace).await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    // No kubelet is there to say that they have stopped.
    pods.delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default()).await?;
    nodes.delete_collection(&DeleteParams::default(), &ListParams::default().labels(LABEL)).await?;
    measured
}

async fn make_nodes(args: &Args, nodes: &Api<Node>) -> Result<()> {
    let make = |at: usize| async move {
        let object: Node = serde_json::from_value(node(at))?;
        nodes.create(&PostParams::default(), &object).await.context("cannot make a node")?;
        let status = json!({"status": status()});
        let name = format!("simulated-{at}");
        nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        // The controllers taint nodes that are not ready; these are by now.
        let spec = json!({"spec": {"taints": null}});
        nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&spec)).await.map(drop)?;
        anyhow::Ok(())
    };
    stream::iter(0..args.nodes).map(make).buffer_unordered(args.connections).try_collect::<Vec<()>>().await?;
    Ok(())
}

async fn assign(args: &Args, pods: Api<Pod>) -> Result<()> {
    let events = watcher::watcher(pods.clone(), watcher::Config::default());
    let begun = Instant::now();
    let assigned = async {
        let mut events = std::pin::pin!(events);
        let mut there = std::collections::HashSet::new();
        while there.len() < args.pods {
            let event = events.try_next().await?.context("the watch has ended")?;
            let (Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
            if pod.spec.is_some_and(|spec| spec.node_name.is_some()) {
                there.extend(pod.metadata.name);
            }
        }
        anyhow::Ok(begun.elapsed())
    };
    let made = async {
        let make = |at: usize| {
            let pods = pods.clone();
            async move {
                let object: Pod = serde_json::from_value(pod(args, at))?;
                pods.create(&PostParams::default(), &object).await.context("cannot make a pod")?;
                anyhow::Ok(())
            }
        };
        stream::iter(0..args.pods)
            .map(make)
            .buffer_unordered(args.connections)
            .try_collect::<Vec<()>>()
            .await?;
        anyhow::Ok(begun.elapsed())
    };
    let (made, assigned) = tokio::try_join!(made, assigned)?;
    report(args, "created", args.pods, made);
    report(args, "assigned", args.pods, assigned);
    Ok(())
}
