//! Defaults that the API server fills in, one file for each family of kinds.
//!
//! They run on every write, after the schema has checked the types, and change the object in place. All of them are
//! idempotent, and a value of an unexpected type is left alone for validation to complain about. "Missing" means what it
//! means to upstream's Go types: absent, `null`, or, for plain strings and numbers, empty and zero.

mod admission;
mod apps;
mod autoscaling;
mod batch;
mod container;
mod core;
mod edit;
mod extensions;
pub mod label_keys;
mod networking;
mod pod;
mod quantities;
mod service;
mod storage;
mod volume;

use crate::gvk::GroupVersionKind;
use serde_json::Value;

/// Fills in every documented default that the object leaves out.
pub fn apply(gvk: &GroupVersionKind, object: &mut Value) {
    let Value::Object(o) = object else { return };
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::pod(o),
        ("", "PodTemplate") => pod::template(o),
        ("", "ReplicationController") => core::replication_controller(o),
        ("", "Service") => service::service(o),
        ("", "Endpoints") => service::endpoints(o),
        ("", "Secret") => core::secret(o),
        ("", "Namespace") => core::namespace(o),
        ("", "Node") => core::node(o),
        ("", "LimitRange") => core::limit_range(o),
        ("", "ResourceQuota") => core::resource_quota(o),
        ("", "PersistentVolume") => storage::persistent_volume(o),
        ("", "PersistentVolumeClaim") => storage::persistent_volume_claim(o),
        ("apps", "Deployment") => apps::deployment(o),
        ("apps", "ReplicaSet") => apps::replica_set(o),
        ("apps", "StatefulSet") => apps::stateful_set(o),
        ("apps", "DaemonSet") => apps::daemon_set(o),
        ("batch", "Job") => batch::job(o),
        ("batch", "CronJob") => batch::cron_job(o),
        ("discovery.k8s.io", "EndpointSlice") => service::endpoint_slice(o),
        ("networking.k8s.io", "NetworkPolicy") => networking::network_policy(o),
        ("networking.k8s.io", "IngressClass") => networking::ingress_class(o),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => core::role_binding(o),
        ("storage.k8s.io", "StorageClass") => storage::storage_class(o),
        ("storage.k8s.io", "CSIDriver") => storage::csi_driver(o),
        ("storage.k8s.io", "CSINode") => storage::csi_node(o),
        ("scheduling.k8s.io", "PriorityClass") => core::priority_class(o),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::horizontal_pod_autoscaler(&gvk.version, o),
        ("authentication.k8s.io", "TokenRequest") => core::token_request(o),
        ("admissionregistration.k8s.io", kind) => admission::configuration(kind, o),
        ("apiregistration.k8s.io", "APIService") => extensions::api_service(o),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => extensions::custom_resource_definition(o),
        ("flowcontrol.apiserver.k8s.io", kind) => extensions::flow_control(kind, o),
        ("resource.k8s.io", kind) => extensions::resource_claim(kind, o),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
