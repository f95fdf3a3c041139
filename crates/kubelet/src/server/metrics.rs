//! `/metrics` and `/metrics/probes`, in Prometheus' text form, by upstream's names.

use exposition::{Page, float};
use http::{Response, StatusCode, header};
use k8s_cri::v1 as cri;

use super::{Body, manager_metrics, node_metrics, text, volume_metrics};
use crate::context::Context;
use crate::meters;
use crate::pod::ext::PodExt;
use crate::probe::counts::{BUCKETS, Probe};

/// The page as it is sent.
pub fn answer(page: Page) -> Response<Body> {
    let mut response = text(StatusCode::OK, page.text());
    let kind = header::HeaderValue::from_static(exposition::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

pub fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

pub async fn kubelet(ctx: &Context) -> Response<Body> {
    let mut page = Page::default();
    page.family("kubelet_node_name", "gauge", "The node's name. The count is always 1.");
    page.sample("kubelet_node_name", &[("node", &ctx.options.node_name)], 1.0);
    let list = ctx.cri.list_containers(cri::ListContainersRequest::default()).await;
    if let Ok(list) = list {
        page.family("kubelet_running_containers", "gauge", "Number of containers currently running");
        for (state, name) in [
            (cri::ContainerState::ContainerCreated, "created"),
            (cri::ContainerState::ContainerRunning, "running"),
            (cri::ContainerState::ContainerExited, "exited"),
            (cri::ContainerState::ContainerUnknown, "unknown"),
        ] {
            let count = list.containers.iter().filter(|container| container.state == state as i32).count();
            page.sample("kubelet_running_containers", &[("container_state", name)], float(count as u64));
        }
    }
    page.family("kubelet_active_pods", "gauge", "The number of pods the kubelet considers active and which are being considered when admitting new pods");
    let statics = ctx.statics.lock().len() as u64;
    let others = ctx
        .pods
        .list()
        .iter()
        .filter(|pod| !pod.is_mirror() && !matches!(pod.phase(), "Succeeded" | "Failed"))
        .count();
    page.sample("kubelet_active_pods", &[("static", "")], float(others as u64));
    page.sample("kubelet_active_pods", &[("static", "true")], float(statics));
    page.family(
        "kubelet_mirror_pods",
        "gauge",
        "The number of mirror pods the kubelet will try to create (one per admitted static pod)",
    );
    page.sample("kubelet_mirror_pods", &[], float(statics));
    let list = ctx.cri.list_pod_sandbox(cri::ListPodSandboxRequest::default()).await;
    if let Ok(list) = list {
        let ready = |sandbox: &&cri::PodSandbox| sandbox.state == cri::PodSandboxState::SandboxReady as i32;
        let count = list.items.iter().filter(ready).count();
        page.family("kubelet_running_pods", "gauge", "Number of pods that have a running pod sandbox");
        page.sample("kubelet_running_pods", &[], float(count as u64));
    }
    page.family("kubelet_desired_pods", "gauge", "The number of pods the kubelet is being instructed to run");
    page.sample("kubelet_desired_pods", &[], float(ctx.pods.len() as u64));
    let at = |time: Option<jiff::Timestamp>| time.map_or(0.0, |time| time.as_duration().as_secs_f64());
    let (began, ended) = *ctx.shutdown.times.lock();
    page.family(
        "kubelet_graceful_shutdown_start_time_seconds",
        "gauge",
        "Last graceful shutdown start time since unix epoch in seconds",
    );
    page.sample("kubelet_graceful_shutdown_start_time_seconds", &[], at(began));
    page.family(
        "kubelet_graceful_shutdown_end_time_seconds",
        "gauge",
        "Last graceful shutdown end time since unix epoch in seconds",
    );
    page.sample("kubelet_graceful_shutdown_end_time_seconds", &[], at(ended));
    meters::add(&mut page);
    node_metrics::add(ctx, &mut page);
    manager_metrics::add(ctx, &mut page);
    volume_metrics::add(ctx, &mut page).await;
    exposition::write_common(&mut page, &api::version::LABELS);
    answer(page)
}

/// How probes of this node's containers end.
pub fn probes(ctx: &Context) -> Response<Body> {
    let counts = ctx.probes.all();
    let mut page = Page::default();
    let labels = |probe: &Probe| -> Vec<(&'static str, String)> {
        vec![
            ("container", probe.container.clone()),
            ("namespace", probe.namespace.clone()),
            ("pod", probe.pod.clone()),
            ("probe_type", probe.kind.title().to_owned()),
        ]
    };
    page.family(
        "prober_probe_total",
        "counter",
        "Cumulative number of a liveness, readiness or startup probe for a container by result.",
    );
    for (probe, count) in &counts {
        for (result, number) in
            [("failed", count.failed), ("successful", count.successful), ("unknown", count.unknown)]
        {
            if number > 0 {
                let mut labels = labels(probe);
                labels.insert(3, ("pod_uid", probe.uid.clone()));
                labels.push(("result", result.to_owned()));
                page.sample("prober_probe_total", &borrowed(&labels), float(number));
            }
        }
    }
    page.family("prober_probe_duration_seconds", "histogram", "Duration in seconds for a probe response.");
    for (probe, count) in &counts {
        let labels = labels(probe);
        page.histogram("prober_probe_duration_seconds", &borrowed(&labels), &BUCKETS, &count.took);
    }
    answer(page)
}

fn borrowed<'a>(labels: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    labels.iter().map(|(key, value)| (*key, value.as_str())).collect()
}
