//! Plays scheduler and kubelet: pods are bound, said to run, and vanish when they are deleted.
//!
//! What a pod does is said by its annotation `play`: `run` (the default), `pending` (bound, never ready), `succeed`,
//! `fail` (with exit code 1), `exit:N`, or `nothing` (left entirely to the test).

use std::collections::HashSet;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub const NODE: &str = "node-0";

pub async fn play(client: kube::Client, stop: CancellationToken) {
    let pods: Api<Pod> = Api::all(client.clone());
    let events = watcher::watcher(pods, watcher::Config::default());
    tokio::pin!(events);
    let mut played = HashSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let Some(event) = event else { return };
        let pod = match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => pod,
            _ => continue,
        };
        let play = pod.annotations().get("play").map_or("run", String::as_str).to_owned();
        if play == "nothing" {
            continue;
        }
        let uid = pod.uid().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() {
            if pod.metadata.deletion_grace_period_seconds != Some(0) {
                tokio::spawn(end(client.clone(), pod));
            }
        } else if played.insert(uid) {
            tokio::spawn(begin(client.clone(), pod, play, played.len()));
        }
    }
}

async fn begin(client: kube::Client, pod: Pod, play: String, number: usize) {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
        let wanted = pod.spec.as_ref().and_then(wanted_node);
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": wanted.unwrap_or_else(|| NODE.to_owned())}});
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/binding");
        let request = http::Request::post(path).header("content-type", "application/json");
        let _ = client.request::<Value>(request.body(binding.to_string().into_bytes()).unwrap()).await;
    }
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let status = status(&pod, &play, number);
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
    let _ = pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
}

/// The node that a daemon is bound for.
fn wanted_node(spec: &k8s_openapi::api::core::v1::PodSpec) -> Option<String> {
    let required = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let terms = &required.required_during_scheduling_ignored_during_execution.as_ref()?.node_selector_terms;
    terms.iter().flat_map(|term| term.match_fields.iter().flatten()).next()?.values.as_ref()?.first().cloned()
}

/// The status of a pod as its kubelet would tell it.
pub fn status(pod: &Pod, play: &str, number: usize) -> Value {
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (phase, ready, state) = match play {
        "run" => ("Running", true, json!({"running": {"startedAt": now}})),
        "pending" => ("Pending", false, json!({"waiting": {"reason": "ImagePullBackOff"}})),
        "succeed" => (
            "Succeeded",
            false,
            json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": now}}),
        ),
        other => {
            let code: i32 = other.strip_prefix("exit:").and_then(|code| code.parse().ok()).unwrap_or(1);
            ("Failed", false, json!({"terminated": {"exitCode": code, "reason": "Error", "finishedAt": now}}))
        }
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers: Vec<_> = containers
        .map(|container| {
            json!({"name": container.name, "image": container.image, "imageID": "x", "ready": ready,
            "restartCount": 0, "state": state})
        })
        .collect();
    let ip = format!("10.244.{}.{}", number / 250, number % 250 + 1);
    let told = if ready { "True" } else { "False" };
    json!({"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "startTime": now, "containerStatuses": containers,
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": now},
            {"type": "Ready", "status": told, "lastTransitionTime": now},
            {"type": "ContainersReady", "status": told, "lastTransitionTime": now}]})
}

async fn end(client: kube::Client, pod: Pod) {
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
}
