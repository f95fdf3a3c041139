//! What the kubelet counts and times of its own work, by upstream's names: the part of `/metrics` that has a past.
//!
//! A family is described once, in the table below; whoever does the work says [`count`] or [`observe`] with its labels. One
//! process has one kubelet, so they are kept in one place.

pub mod calls;
pub mod requests;

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::server::metrics::{Page, float};

/// Upper bounds, in seconds. Those of Prometheus' clients, and upstream's for starts of pods.
const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const CALLS: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
];
const STARTS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
const REQUESTS: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const STORAGE: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];
const PULLS: &[f64] =
    &[1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 180.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0];

/// Name, help, bounds; a counter has none.
const FAMILIES: &[(&str, &str, &[f64])] = &[
    ("kubelet_admission_rejections_total", "Cumulative number pod admission rejections by the Kubelet.", &[]),
    (
        "kubelet_certificate_manager_client_expiration_renew_errors",
        "Counter of certificate renewal errors.",
        &[],
    ),
    (
        "kubelet_cgroup_manager_duration_seconds",
        "Duration in seconds for cgroup manager operations. Broken down by method.",
        USUAL,
    ),
    ("kubelet_evictions", "Cumulative number of pod evictions by eviction signal", &[]),
    ("kubelet_http_requests_duration_seconds", "Duration in seconds to serve http requests", USUAL),
    ("kubelet_http_requests_total", "Number of the http requests received since the server started", &[]),
    (
        "kubelet_image_garbage_collected_total",
        "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
        &[],
    ),
    ("kubelet_image_pull_duration_seconds", "Duration in seconds to pull an image.", PULLS),
    ("kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG.", USUAL),
    (
        "kubelet_pod_start_duration_seconds",
        "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
        STARTS,
    ),
    (
        "kubelet_pod_start_sli_duration_seconds",
        "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
        STARTS,
    ),
    (
        "kubelet_pod_start_total_duration_seconds",
        "Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
        STARTS,
    ),
    (
        "kubelet_pod_worker_duration_seconds",
        "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
        USUAL,
    ),
    ("kubelet_preemptions", "Cumulative number of pod preemptions by preemption resource", &[]),
    (
        "kubelet_run_podsandbox_duration_seconds",
        "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
        CALLS,
    ),
    (
        "kubelet_run_podsandbox_errors_total",
        "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
        &[],
    ),
    (
        "kubelet_runtime_operations_duration_seconds",
        "Duration in seconds of runtime operations. Broken down by operation type.",
        CALLS,
    ),
    (
        "kubelet_runtime_operations_errors_total",
        "Cumulative number of runtime operation errors by operation type.",
        &[],
    ),
    ("kubelet_runtime_operations_total", "Cumulative number of runtime operations by operation type.", &[]),
    ("kubelet_server_expiration_renew_errors", "Counter of certificate renewal errors.", &[]),
    ("kubelet_started_containers_errors_total", "Cumulative number of errors when starting containers", &[]),
    ("kubelet_started_containers_total", "Cumulative number of containers started", &[]),
    ("kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods", &[]),
    ("kubelet_started_pods_total", "Cumulative number of pods started", &[]),
    (
        "rest_client_request_duration_seconds",
        "Request latency in seconds. Broken down by verb, and host.",
        REQUESTS,
    ),
    (
        "rest_client_request_retries_total",
        "Number of request retries, partitioned by status code, verb, and host.",
        &[],
    ),
    (
        "rest_client_requests_total",
        "Number of HTTP requests, partitioned by status code, method, and host.",
        &[],
    ),
    ("storage_operation_duration_seconds", "Storage operation duration", STORAGE),
];

#[derive(Clone, Debug, Default, PartialEq)]
struct Meter {
    count: u64,
    seconds: f64,
    /// Not cumulative; what took longer than the last bound is in none.
    buckets: Vec<u64>,
}

type Labels = Vec<(&'static str, String)>;

/// By family and labels.
static METERS: Mutex<BTreeMap<(&'static str, Labels), Meter>> = Mutex::new(BTreeMap::new());
/// Labels come from a fixed set of words; should they not, memory is bounded all the same.
const MOST: usize = 4096;

fn change(name: &'static str, labels: &[(&'static str, &str)], change: impl FnOnce(&mut Meter)) {
    let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
    let mut meters = METERS.lock();
    if meters.len() < MOST || meters.contains_key(&(name, Labels::clone(&labels))) {
        change(meters.entry((name, labels)).or_default());
    }
}

pub fn count(name: &'static str, labels: &[(&'static str, &str)]) {
    change(name, labels, |meter| meter.count += 1);
}

pub fn observe(name: &'static str, labels: &[(&'static str, &str)], took: Duration) {
    let bounds = FAMILIES.iter().find(|(known, ..)| *known == name).map_or(USUAL, |(.., bounds)| bounds);
    let seconds = took.as_secs_f64();
    change(name, labels, |meter| {
        meter.count += 1;
        meter.seconds += seconds;
        meter.buckets.resize(bounds.len(), 0);
        let bucket = bounds.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = bucket.and_then(|bucket| meter.buckets.get_mut(bucket)) {
            *bucket += 1;
        }
    });
}

/// Writes everything down.
pub fn add(page: &mut Page) {
    let meters = METERS.lock().clone();
    for (name, help, bounds) in FAMILIES {
        let own =
            || meters.iter().filter(|((of, _), _)| of == name).map(|((_, labels), meter)| (labels, meter));
        if own().next().is_none() {
            continue;
        }
        page.family(name, if bounds.is_empty() { "counter" } else { "histogram" }, help);
        for (labels, meter) in own() {
            let plain: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
            if bounds.is_empty() {
                page.sample(name, &plain, float(meter.count));
                continue;
            }
            let mut sum = 0;
            let bounds = bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            let counts =
                meter.buckets.iter().copied().chain([meter.count - meter.buckets.iter().sum::<u64>()]);
            for (bound, number) in bounds.zip(counts) {
                sum += number;
                let mut labels = plain.clone();
                labels.push(("le", bound.as_str()));
                page.sample(&format!("{name}_bucket"), &labels, float(sum));
            }
            page.sample(&format!("{name}_sum"), &plain, meter.seconds);
            page.sample(&format!("{name}_count"), &plain, float(meter.count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_in_order_and_written() {
        assert!(FAMILIES.is_sorted_by_key(|(name, ..)| *name));
        observe(
            "storage_operation_duration_seconds",
            &[("operation_name", "test")],
            Duration::from_millis(7),
        );
        observe("storage_operation_duration_seconds", &[("operation_name", "test")], Duration::from_secs(60));
        let mut page = Page::default();
        add(&mut page);
        let text = page.text();
        for line in [
            "storage_operation_duration_seconds_bucket{operation_name=\"test\",le=\"0.1\"} 1",
            "storage_operation_duration_seconds_bucket{operation_name=\"test\",le=\"50\"} 1",
            "storage_operation_duration_seconds_bucket{operation_name=\"test\",le=\"+Inf\"} 2",
            "storage_operation_duration_seconds_count{operation_name=\"test\"} 2",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
