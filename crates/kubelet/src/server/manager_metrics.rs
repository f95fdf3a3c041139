//! What `/metrics` tells of the kubelet's parts as they are at this moment: pods that are worked on, CPUs that are given,
//! how the start went.

use std::collections::BTreeMap;

use exposition::{Page, float};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::context::Context;
use crate::pod::ext::PodExt;

pub fn add(ctx: &Context, page: &mut Page) {
    working(ctx, page);
    cgroups(ctx, page);
    cpus(ctx, page);
    start(ctx, page);
}

/// Pods by where they are in their life here.
fn working(ctx: &Context, page: &mut Page) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let statics = ctx.statics.lock().clone();
    let pods = ctx.pods.filter(|pod| !pod.is_mirror());
    let of = |pod: &Pod| match (pod.phase(), pod.deletion()) {
        ("Succeeded" | "Failed", _) => "terminated",
        (_, Some(_)) => "terminating",
        _ => "sync",
    };
    for (pods, is_static) in [(&pods, ""), (&statics, "true")] {
        for life in ["sync", "terminated", "terminating"] {
            let count = pods.iter().filter(|pod| of(pod) == life).count();
            counts.insert((life, is_static), count as u64);
        }
    }
    let name = "kubelet_working_pods";
    page.family(name, "gauge", "Number of pods the kubelet is actually running, broken down by lifecycle phase, whether the pod is desired, orphaned, or runtime only (also orphaned), and whether the pod is static. An orphaned pod has been removed from local configuration or force deleted in the API and consumes resources that are not otherwise visible.");
    for ((life, is_static), count) in counts {
        let labels = [("config", "desired"), ("lifecycle", life), ("static", is_static)];
        page.sample(name, &labels, float(count));
    }
}

fn cgroups(ctx: &Context, page: &mut Page) {
    let name = "kubelet_cgroup_version";
    page.family(name, "gauge", "cgroup version on the hosts.");
    page.sample(name, &[], if ctx.cgroups.is_unified() { 2.0 } else { 1.0 });
}

fn cpus(ctx: &Context, page: &mut Page) {
    let (own, shared) = ctx.cpus.counts();
    let name = "kubelet_cpu_manager_exclusive_cpu_allocation_count";
    page.family(
        name,
        "gauge",
        "The total number of CPUs exclusively allocated to containers running on this node",
    );
    page.sample(name, &[], float(own));
    let name = "kubelet_cpu_manager_shared_pool_size_millicores";
    page.family(name, "gauge", "The size of the shared CPU pool for non-guaranteed QoS pods, in millicores.");
    page.sample(name, &[], float(shared.saturating_mul(1000)));
}

fn booted() -> Option<Timestamp> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Timestamp::from_second(seconds).ok()
}

/// How long it took until the node was there, and until it was ready.
fn start(ctx: &Context, page: &mut Page) {
    let seconds = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64().max(0.0);
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        page.family(name, "gauge", help);
        page.sample(name, &[], value.unwrap_or(0.0));
    };
    let milestones = ctx.milestones.lock().clone();
    let (asked, registered, ready) = (milestones.asked, milestones.registered, milestones.ready);
    let booted = booted();
    let between = |from: Option<Timestamp>, to: Option<Timestamp>| Some(seconds(from?, to?));
    gauge(
        "kubelet_node_startup_pre_kubelet_duration_seconds",
        "Duration in seconds of node startup before kubelet starts.",
        between(booted, Some(ctx.started)),
    );
    gauge(
        "kubelet_node_startup_pre_registration_duration_seconds",
        "Duration in seconds of node startup before registration.",
        between(Some(ctx.started), asked),
    );
    gauge(
        "kubelet_node_startup_registration_duration_seconds",
        "Duration in seconds of node startup during registration.",
        between(asked, registered),
    );
    gauge(
        "kubelet_node_startup_post_registration_duration_seconds",
        "Duration in seconds of node startup after registration.",
        between(registered, ready),
    );
    gauge(
        "kubelet_node_startup_duration_seconds",
        "Duration in seconds of node startup in total.",
        between(booted, ready),
    );
}
