//! What the API server refuses, one file for each family of kinds.
//!
//! Runs after the schema has checked types and defaults have been filled in, on every write. Messages are those of
//! kube-apiserver. Nothing here fails on a value of an unexpected type: it is treated as absent.

mod addresses;
mod admission;
mod admission_policy;
mod autoscaler;
mod batch;
mod certificates;
mod claims;
mod cluster;
mod config;
mod container;
pub mod crd;
pub mod cron;
mod csi;
mod dra;
mod endpoints;
mod env;
mod events;
mod extensions;
mod flow_control;
#[cfg(test)]
pub mod fuzz;
mod host;
pub mod ip;
mod job_policy;
mod job_status;
mod metadata;
pub mod names;
mod networking;
mod placement;
mod pod;
mod pod_resize;
mod pod_resources;
mod pod_status;
mod pod_update;
mod policy;
mod probe;
mod projected;
pub mod quota;
mod rbac;
pub mod read;
mod resources;
mod restart;
mod scheduling;
mod security;
mod selector;
mod service;
mod sources;
mod status;
mod storage;
mod volume;
mod windows;
mod workloads;

use crate::field::FieldErrors;
use crate::gvk::GroupVersionKind;
use serde_json::Value;

/// What is wrong with a new object.
pub fn create(gvk: &GroupVersionKind, object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    metadata::create(gvk, &object["metadata"], &mut errors);
    contents(gvk, object, true, &mut errors);
    errors
}

/// What is wrong with a change of the object itself.
pub fn update(gvk: &GroupVersionKind, new: &Value, old: &Value) -> FieldErrors {
    let mut errors = FieldErrors::new();
    metadata::update(gvk, &new["metadata"], &old["metadata"], &mut errors);
    contents(gvk, new, false, &mut errors);
    let e = &mut errors;
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd::update(new, old, e),
        ("", "Pod") => pod_update::update(new, old, e),
        ("", "Service") => service::service_update(new, old, e),
        ("", "ConfigMap") => config::config_map_update(new, old, e),
        ("", "Secret") => config::secret_update(new, old, e),
        ("", "Node") => cluster::node_update(new, old, e),
        ("", "PersistentVolumeClaim") => storage::claim_update(new, old, e),
        ("", "PersistentVolume") => storage::volume_update(new, old, e),
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet") => workloads::selector_update(new, old, e),
        ("apps", "StatefulSet") => workloads::stateful_set_update(new, old, e),
        ("batch", "Job") => batch::job_update(new, old, e),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            rbac::binding_update(new, old, e)
        }
        ("storage.k8s.io", "StorageClass") => storage::class_update(new, old, e),
        ("scheduling.k8s.io", "PriorityClass") => cluster::priority_class_update(new, old, e),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::endpoint_slice_update(new, old, e),
        ("node.k8s.io", "RuntimeClass") => cluster::runtime_class_update(new, old, e),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler::update(new, old, e),
        ("", "ResourceQuota") => quota::resource_quota_update(new, old, e),
        ("events.k8s.io", "Event") => events::update(gvk, new, old, e),
        ("apps", "ControllerRevision") => extensions::revision_update(new, old, e),
        ("networking.k8s.io", "IngressClass") => addresses::ingress_class_update(new, old, e),
        ("networking.k8s.io", "IPAddress") => addresses::ip_address_update(new, old, e),
        ("networking.k8s.io", "ServiceCIDR") => addresses::service_cidr_update(new, old, e),
        ("resource.k8s.io", "ResourceClaim" | "ResourceClaimTemplate") => dra::immutable_spec(new, old, e),
        ("resource.k8s.io", "ResourceSlice") => dra::slice_update(new, old, e),
        ("storage.k8s.io", "CSIDriver") => csi::driver_update(new, old, e),
        ("storage.k8s.io", "CSINode") => csi::node_update(new, old, e),
        ("storage.k8s.io", "CSIStorageCapacity") => csi::capacity_update(new, old, e),
        ("storage.k8s.io", "VolumeAttachment") => csi::attachment_update(new, old, e),
        ("storage.k8s.io", "VolumeAttributesClass") => csi::attributes_class_update(new, old, e),
        _ => {}
    }
    kept(gvk, old, errors)
}

/// Without what is said of values that were taken once and stay as they are.
fn kept(gvk: &GroupVersionKind, old: &Value, errors: FieldErrors) -> FieldErrors {
    if !errors.iter().any(|error| ip::was_taken_before(&error.detail)) {
        return errors;
    }
    let mut before = FieldErrors::new();
    contents(gvk, old, false, &mut before);
    let mut left = FieldErrors::new();
    for error in errors.iter() {
        if !ip::was_taken_before(&error.detail) || !before.iter().any(|known| known == error) {
            left.push(error.clone());
        }
    }
    left
}

/// What is wrong with a change through a subresource (`status`, `ephemeralcontainers`, `resize`, ...).
pub fn update_subresource(
    gvk: &GroupVersionKind,
    subresource: &str,
    new: &Value,
    old: &Value,
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    metadata::update(gvk, &new["metadata"], &old["metadata"], &mut errors);
    if gvk.kind == "CustomResourceDefinition" && gvk.group == "apiextensions.k8s.io" {
        crd::update_status(new, &mut errors);
    }
    match (gvk.kind.as_str(), subresource) {
        (_, "status") => status::status(gvk, new, old, &mut errors),
        ("CertificateSigningRequest", "approval") => certificates::approval(new, old, &mut errors),
        ("Namespace", "finalize") => cluster::namespace(new, &mut errors),
        ("Pod", "ephemeralcontainers") => {
            contents(gvk, new, false, &mut errors);
            pod_update::ephemeral_containers(new, old, &mut errors);
        }
        ("Pod", "resize") => {
            contents(gvk, new, false, &mut errors);
            pod_resize::resize(new, old, &mut errors);
        }
        _ => {}
    }
    errors
}

/// What is wrong with the metadata of an object within another.
pub fn metadata_contents(metadata: &Value, path: &crate::field::Path<'_>, errors: &mut FieldErrors) {
    metadata::labels(&metadata["labels"], &path.child("labels"), errors);
    metadata::annotations(&metadata["annotations"], &path.child("annotations"), errors);
}

fn contents(gvk: &GroupVersionKind, object: &Value, new: bool, e: &mut FieldErrors) {
    let spec = crate::field::Path::new("spec");
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") if new => crd::create(object, e),
        ("", "Pod") if new => pod::create(object, e),
        ("", "Pod") => pod::spec(&object["spec"], &spec, e),
        ("", "PodTemplate") => pod::template(object, &crate::field::Path::ROOT, e),
        ("", "Service") => service::service(object, e),
        ("", "Endpoints") => endpoints::endpoints(object, e),
        ("", "ConfigMap") => config::config_map(object, e),
        ("", "Secret") => config::secret(object, e),
        ("", "Namespace") => cluster::namespace(object, e),
        ("", "Node") => cluster::node(object, e),
        ("", "ReplicationController") => workloads::replication_controller(object, e),
        ("", "ResourceQuota") => quota::resource_quota(object, e),
        ("", "LimitRange") => quota::limit_range(object, e),
        ("", "PersistentVolume") => storage::volume(object, e),
        ("", "PersistentVolumeClaim") => storage::claim(object, e),
        ("apps", "Deployment") => workloads::deployment(object, e),
        ("apps", "ReplicaSet") => workloads::replica_set(object, e),
        ("apps", "StatefulSet") if new => workloads::stateful_set_create(object, e),
        ("apps", "StatefulSet") => workloads::stateful_set(object, e),
        ("apps", "DaemonSet") => workloads::daemon_set(object, e),
        ("batch", "Job") if new => batch::job_create(object, e),
        ("batch", "Job") => batch::job(object, e),
        ("batch", "CronJob") if new => batch::cron_job_create(object, e),
        ("batch", "CronJob") => batch::cron_job(object, e),
        ("rbac.authorization.k8s.io", "Role") => rbac::role(object, true, e),
        ("rbac.authorization.k8s.io", "ClusterRole") => rbac::role(object, false, e),
        ("rbac.authorization.k8s.io", "RoleBinding") => rbac::binding(object, true, e),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rbac::binding(object, false, e),
        ("networking.k8s.io", "Ingress") if new => networking::ingress_create(object, e),
        ("networking.k8s.io", "Ingress") => networking::ingress(object, e),
        ("networking.k8s.io", "NetworkPolicy") => networking::network_policy(object, e),
        ("storage.k8s.io", "StorageClass") => storage::class(object, e),
        ("discovery.k8s.io", "EndpointSlice") => endpoints::endpoint_slice(object, e),
        ("coordination.k8s.io", "Lease") => cluster::lease(object, e),
        ("scheduling.k8s.io", "PriorityClass") => cluster::priority_class(object, e),
        ("node.k8s.io", "RuntimeClass") => cluster::runtime_class(object, e),
        ("policy", "PodDisruptionBudget") => policy::disruption_budget(object, e),
        ("autoscaling", "HorizontalPodAutoscaler") if new => autoscaler::create(object, e),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaler::autoscaler(object, e),
        ("", "Event") | ("events.k8s.io", "Event") => events::event(gvk, object, new, e),
        ("apps", "ControllerRevision") => extensions::revision(object, e),
        ("apiregistration.k8s.io", "APIService") => extensions::api_service(object, e),
        ("certificates.k8s.io", "CertificateSigningRequest") if new => certificates::request(object, e),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flow_control::flow_schema(object, e),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => {
            flow_control::priority_level(object, e);
        }
        ("networking.k8s.io", "IngressClass") => addresses::ingress_class(object, e),
        ("networking.k8s.io", "IPAddress") => addresses::ip_address(object, e),
        ("networking.k8s.io", "ServiceCIDR") => addresses::service_cidr(object, e),
        ("resource.k8s.io", "ResourceClaim") if new => dra::claim(object, e),
        ("resource.k8s.io", "ResourceClaimTemplate") => dra::claim_template(object, e),
        ("resource.k8s.io", "DeviceClass") => dra::class(object, e),
        ("resource.k8s.io", "ResourceSlice") => dra::slice(object, e),
        ("storage.k8s.io", "CSIDriver") => csi::driver(object, e),
        ("storage.k8s.io", "CSINode") => csi::node(object, e),
        ("storage.k8s.io", "CSIStorageCapacity") => csi::capacity(object, e),
        ("storage.k8s.io", "VolumeAttachment") => csi::attachment(object, e),
        ("storage.k8s.io", "VolumeAttributesClass") => csi::attributes_class(object, e),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => {
            admission::webhooks(object, e);
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => {
            admission_policy::validating(object, e)
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => admission_policy::mutating(object, e),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            admission_policy::validating_binding(object, e);
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding") => {
            admission_policy::mutating_binding(object, e);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
