//! What the kubelet counts and times of its own work, by upstream's names: the part of `/metrics` that has a past.
//!
//! A family is described once, in the table below; whoever does the work says [`count`] or [`observe`] with its labels. One
//! process has one kubelet, so they are kept in one place.

pub mod calls;

use std::time::Duration;

use exposition::{Family, Kind, Meters, Page};

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
const STORAGE: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];
/// In milliseconds.
const ADMISSIONS: &[f64] =
    &[0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2];
/// What has never happened is told of, too.
const FROM_THE_START: &[&str] = &[
    "kubelet_cpu_manager_pinning_errors_total",
    "kubelet_cpu_manager_pinning_requests_total",
    "kubelet_image_volume_mounted_errors_total",
    "kubelet_image_volume_mounted_succeed_total",
    "kubelet_image_volume_requested_total",
    "kubelet_lifecycle_handler_sleep_terminated_total",
    "kubelet_memory_manager_pinning_errors_total",
    "kubelet_memory_manager_pinning_requests_total",
    "kubelet_started_pods_errors_total",
    "kubelet_started_pods_total",
    "kubelet_started_user_namespaced_pods_errors_total",
    "kubelet_started_user_namespaced_pods_total",
    "kubelet_topology_manager_admission_errors_total",
    "kubelet_topology_manager_admission_requests_total",
];
const PULLS: &[f64] =
    &[1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 180.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0];

/// In the order of their names.
const FAMILIES: &[Family] = &[
    Family {
        name: "csi_operations_seconds",
        kind: Kind::Histogram(STORAGE),
        help: "Container Storage Interface operation duration with gRPC error code status total",
    },
    Family {
        name: "dra_operations_duration_seconds",
        kind: Kind::Histogram(CALLS),
        help: "Latency histogram in seconds for the duration of handling all ResourceClaims referenced by a pod when the pod starts or stops. Identified by the name of the operation (PrepareResources or UnprepareResources) and separated by the success of the operation. The number of failed operations is provided through the histogram's overall count.",
    },
    Family {
        name: "kubelet_admission_rejections_total",
        kind: Kind::Counter,
        help: "Cumulative number pod admission rejections by the Kubelet.",
    },
    Family {
        name: "kubelet_certificate_manager_client_expiration_renew_errors",
        kind: Kind::Counter,
        help: "Counter of certificate renewal errors.",
    },
    Family {
        name: "kubelet_cgroup_manager_duration_seconds",
        kind: Kind::Histogram(USUAL),
        help: "Duration in seconds for cgroup manager operations. Broken down by method.",
    },
    Family {
        name: "kubelet_cpu_manager_pinning_errors_total",
        kind: Kind::Counter,
        help: "The number of cpu core allocations which required pinning failed.",
    },
    Family {
        name: "kubelet_cpu_manager_pinning_requests_total",
        kind: Kind::Counter,
        help: "The number of cpu core allocations which required pinning.",
    },
    Family {
        name: "kubelet_credential_provider_plugin_duration",
        kind: Kind::Histogram(USUAL),
        help: "Duration of execution in seconds for credential provider plugin",
    },
    Family {
        name: "kubelet_credential_provider_plugin_errors",
        kind: Kind::Counter,
        help: "Number of errors from credential provider plugin",
    },
    Family {
        name: "kubelet_device_plugin_alloc_duration_seconds",
        kind: Kind::Histogram(USUAL),
        help: "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
    },
    Family {
        name: "kubelet_device_plugin_registration_total",
        kind: Kind::Counter,
        help: "Cumulative number of device plugin registrations. Broken down by resource name.",
    },
    Family {
        name: "kubelet_evictions",
        kind: Kind::Counter,
        help: "Cumulative number of pod evictions by eviction signal",
    },
    Family {
        name: "kubelet_http_requests_duration_seconds",
        kind: Kind::Histogram(USUAL),
        help: "Duration in seconds to serve http requests",
    },
    Family {
        name: "kubelet_http_requests_total",
        kind: Kind::Counter,
        help: "Number of the http requests received since the server started",
    },
    Family {
        name: "kubelet_image_garbage_collected_total",
        kind: Kind::Counter,
        help: "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
    },
    Family {
        name: "kubelet_image_manager_ensure_image_requests_total",
        kind: Kind::Counter,
        help: "Number of ensure-image requests processed by the kubelet.",
    },
    Family {
        name: "kubelet_image_pull_duration_seconds",
        kind: Kind::Histogram(PULLS),
        help: "Duration in seconds to pull an image.",
    },
    Family {
        name: "kubelet_image_volume_mounted_errors_total",
        kind: Kind::Counter,
        help: "Number of failed image volume mounts.",
    },
    Family {
        name: "kubelet_image_volume_mounted_succeed_total",
        kind: Kind::Counter,
        help: "Number of successful image volume mounts.",
    },
    Family {
        name: "kubelet_image_volume_requested_total",
        kind: Kind::Counter,
        help: "Number of requested image volumes.",
    },
    Family {
        name: "kubelet_lifecycle_handler_sleep_terminated_total",
        kind: Kind::Counter,
        help: "The number of times lifecycle sleep handler got unexpectedly terminated",
    },
    Family {
        name: "kubelet_memory_manager_pinning_errors_total",
        kind: Kind::Counter,
        help: "The number of memory pages allocations which required pinning that failed.",
    },
    Family {
        name: "kubelet_memory_manager_pinning_requests_total",
        kind: Kind::Counter,
        help: "The number of memory pages allocations which required pinning.",
    },
    Family {
        name: "kubelet_pleg_relist_duration_seconds",
        kind: Kind::Histogram(USUAL),
        help: "Duration in seconds for relisting pods in PLEG.",
    },
    Family {
        name: "kubelet_pod_resources_endpoint_errors_get",
        kind: Kind::Counter,
        help: "Number of requests to the PodResource Get endpoint which returned error. Broken down by server api version.",
    },
    Family {
        name: "kubelet_pod_resources_endpoint_requests_get",
        kind: Kind::Counter,
        help: "Number of requests to the PodResource Get endpoint. Broken down by server api version.",
    },
    Family {
        name: "kubelet_pod_resources_endpoint_requests_get_allocatable",
        kind: Kind::Counter,
        help: "Number of requests to the PodResource GetAllocatableResources endpoint. Broken down by server api version.",
    },
    Family {
        name: "kubelet_pod_resources_endpoint_requests_list",
        kind: Kind::Counter,
        help: "Number of requests to the PodResource List endpoint. Broken down by server api version.",
    },
    Family {
        name: "kubelet_pod_resources_endpoint_requests_total",
        kind: Kind::Counter,
        help: "Cumulative number of requests to the PodResource endpoint. Broken down by server api version.",
    },
    Family {
        name: "kubelet_pod_start_duration_seconds",
        kind: Kind::Histogram(STARTS),
        help: "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
    },
    Family {
        name: "kubelet_pod_start_sli_duration_seconds",
        kind: Kind::Histogram(STARTS),
        help: "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
    },
    Family {
        name: "kubelet_pod_start_total_duration_seconds",
        kind: Kind::Histogram(STARTS),
        help: "Duration in seconds to start a pod since creation, including time to pull images and run init containers, measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
    },
    Family {
        name: "kubelet_pod_worker_duration_seconds",
        kind: Kind::Histogram(USUAL),
        help: "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
    },
    Family {
        name: "kubelet_preemptions",
        kind: Kind::Counter,
        help: "Cumulative number of pod preemptions by preemption resource",
    },
    Family {
        name: "kubelet_run_podsandbox_duration_seconds",
        kind: Kind::Histogram(CALLS),
        help: "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
    },
    Family {
        name: "kubelet_run_podsandbox_errors_total",
        kind: Kind::Counter,
        help: "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
    },
    Family {
        name: "kubelet_runtime_operations_duration_seconds",
        kind: Kind::Histogram(CALLS),
        help: "Duration in seconds of runtime operations. Broken down by operation type.",
    },
    Family {
        name: "kubelet_runtime_operations_errors_total",
        kind: Kind::Counter,
        help: "Cumulative number of runtime operation errors by operation type.",
    },
    Family {
        name: "kubelet_runtime_operations_total",
        kind: Kind::Counter,
        help: "Cumulative number of runtime operations by operation type.",
    },
    Family {
        name: "kubelet_server_expiration_renew_errors",
        kind: Kind::Counter,
        help: "Counter of certificate renewal errors.",
    },
    Family {
        name: "kubelet_started_containers_errors_total",
        kind: Kind::Counter,
        help: "Cumulative number of errors when starting containers",
    },
    Family {
        name: "kubelet_started_containers_total",
        kind: Kind::Counter,
        help: "Cumulative number of containers started",
    },
    Family {
        name: "kubelet_started_pods_errors_total",
        kind: Kind::Counter,
        help: "Cumulative number of errors when starting pods",
    },
    Family {
        name: "kubelet_started_pods_total",
        kind: Kind::Counter,
        help: "Cumulative number of pods started",
    },
    Family {
        name: "kubelet_started_user_namespaced_pods_errors_total",
        kind: Kind::Counter,
        help: "Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux.",
    },
    Family {
        name: "kubelet_started_user_namespaced_pods_total",
        kind: Kind::Counter,
        help: "Cumulative number of pods with user namespaces started. This metric will only be collected on Linux.",
    },
    Family {
        name: "kubelet_topology_manager_admission_duration_ms",
        kind: Kind::Histogram(ADMISSIONS),
        help: "Duration in milliseconds to serve a pod admission request.",
    },
    Family {
        name: "kubelet_topology_manager_admission_errors_total",
        kind: Kind::Counter,
        help: "The number of admission request failures where resources could not be aligned.",
    },
    Family {
        name: "kubelet_topology_manager_admission_requests_total",
        kind: Kind::Counter,
        help: "The number of admission requests where resources have to be aligned.",
    },
    Family {
        name: "kubelet_volume_metric_collection_duration_seconds",
        kind: Kind::Histogram(USUAL),
        help: "Duration in seconds to calculate volume stats",
    },
    Family {
        name: "storage_operation_duration_seconds",
        kind: Kind::Histogram(STORAGE),
        help: "Storage operation duration",
    },
];

static METERS: Meters = Meters::new(FAMILIES);

/// Of the requests to the API server.
pub static REQUESTS: Meters = Meters::new(client::REQUESTS);

pub fn count(name: &'static str, labels: &[(&'static str, &str)]) {
    METERS.count(name, labels);
}

pub fn observe(name: &'static str, labels: &[(&'static str, &str)], took: Duration) {
    METERS.took(name, labels, took);
}

/// What is not a time.
pub fn measure(name: &'static str, labels: &[(&'static str, &str)], value: f64) {
    METERS.observe(name, labels, value);
}

/// Writes everything down.
pub fn add(page: &mut Page) {
    for name in FROM_THE_START {
        METERS.add(name, &[], 0);
    }
    METERS.write(page);
    REQUESTS.write(page);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_in_order() {
        assert!(FAMILIES.is_sorted_by_key(|family| family.name));
    }
}
