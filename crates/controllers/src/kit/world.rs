//! Everything the controllers share: one view per kind, and the event recorder.

use client::Informers;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceClaimTemplate};
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass, VolumeAttachment, VolumeAttributesClass};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::events::Recorder;
use super::pods;
use super::view::View;

macro_rules! world {
    ($($field:ident: $kind:ty = $view:expr;)*) => {
        /// The views of one process. Controllers register handlers first; then [`World::start`] begins.
        pub struct World {
            pub client: kube::Client,
            pub events: Recorder,
            $(pub $field: View<$kind>,)*
        }

        impl World {
            pub fn new(informers: &Informers) -> Self {
                Self {
                    client: informers.client(),
                    events: Recorder::start(informers.client()),
                    $($field: $view(informers),)*
                }
            }

            /// Follows all watches; resolves when everything that exists is in the views.
            pub async fn start(&self) {
                $(self.$field.start();)*
                $(self.$field.synced().await;)*
            }
        }
    };
}

world! {
    // The Secrets by which service accounts and new nodes prove themselves; no others are looked at.
    account_tokens: Secret = account_tokens;
    bootstrap_tokens: Secret = bootstrap_tokens;
    certificate_signing_requests: CertificateSigningRequest = View::new;
    cluster_roles: ClusterRole = View::new;
    config_maps: ConfigMap = View::new;
    controller_revisions: ControllerRevision = View::new;
    cron_jobs: CronJob = View::new;
    csi_drivers: CSIDriver = View::new;
    custom_resource_definitions: CustomResourceDefinition = View::new;
    daemon_sets: DaemonSet = View::new;
    deployments: Deployment = View::new;
    device_classes: DeviceClass = View::new;
    endpoint_slices: EndpointSlice = View::new;
    endpoints: Endpoints = View::new;
    horizontal_pod_autoscalers: HorizontalPodAutoscaler = View::new;
    ip_addresses: IPAddress = View::new;
    jobs: Job = View::new;
    leases: Lease = View::new;
    namespaces: Namespace = View::new;
    nodes: Node = View::new;
    persistent_volume_claims: PersistentVolumeClaim = View::new;
    persistent_volumes: PersistentVolume = View::new;
    pod_disruption_budgets: PodDisruptionBudget = View::new;
    // Found by the node they run on.
    pods: Pod = pods_by_node;
    replica_sets: ReplicaSet = View::new;
    replication_controllers: ReplicationController = View::new;
    resource_claim_templates: ResourceClaimTemplate = View::new;
    resource_claims: ResourceClaim = View::new;
    resource_quotas: ResourceQuota = View::new;
    service_accounts: ServiceAccount = View::new;
    service_cidrs: ServiceCIDR = View::new;
    services: Service = View::new;
    stateful_sets: StatefulSet = View::new;
    storage_classes: StorageClass = View::new;
    validating_admission_policies: ValidatingAdmissionPolicy = View::new;
    // Found by the node they are for.
    volume_attachments: VolumeAttachment = attachments_by_node;
    volume_attributes_classes: VolumeAttributesClass = View::new;
}

fn pods_by_node(informers: &Informers) -> View<Pod> {
    View::with_index(informers, |pod| pods::node_name(pod).map(str::to_owned))
}

fn account_tokens(informers: &Informers) -> View<Secret> {
    View::of_fields(informers, "type=kubernetes.io/service-account-token")
}

fn bootstrap_tokens(informers: &Informers) -> View<Secret> {
    View::of_fields(informers, "type=bootstrap.kubernetes.io/token")
}

fn attachments_by_node(informers: &Informers) -> View<VolumeAttachment> {
    View::with_index(informers, |attachment| Some(attachment.spec.node_name.clone()))
}
