//! The published types of everything that a default v1.36 server serves. What they refer to comes along.

use schemars::SchemaGenerator;

macro_rules! roots {
    ($($path:ident)::+ => $($kind:ident),+ ; $($rest:tt)*) => {
        /// Puts the schemas of all roots, and of what they refer to, into the generator.
        pub fn add(generator: &mut SchemaGenerator) {
            roots!(@each generator; $($path)::+ => $($kind),+ ; $($rest)*);
        }
    };
    (@each $generator:ident; ) => {};
    (@each $generator:ident; $a:ident :: $b:ident :: $c:ident => $($kind:ident),+ ; $($rest:tt)*) => {
        $( $generator.subschema_for::<k8s_openapi::$a::$b::$c::$kind>(); )+
        roots!(@each $generator; $($rest)*);
    };
    (@each $generator:ident; $a:ident :: $b:ident :: $c:ident :: $d:ident :: $e:ident => $($kind:ident),+ ; $($rest:tt)*) => {
        $( $generator.subschema_for::<k8s_openapi::$a::$b::$c::$d::$e::$kind>(); )+
        roots!(@each $generator; $($rest)*);
    };
}

roots! {
    api::admissionregistration::v1 => MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration;
    api::apps::v1 => ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet;
    api::authentication::v1 => SelfSubjectReview, TokenRequest, TokenReview;
    api::authorization::v1 => LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview;
    api::autoscaling::v1 => HorizontalPodAutoscaler, Scale;
    api::autoscaling::v2 => HorizontalPodAutoscaler;
    api::batch::v1 => CronJob, Job;
    api::certificates::v1 => CertificateSigningRequest;
    api::coordination::v1 => Lease;
    api::core::v1 => Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service, ServiceAccount;
    api::discovery::v1 => EndpointSlice;
    api::events::v1 => Event;
    api::flowcontrol::v1 => FlowSchema, PriorityLevelConfiguration;
    api::networking::v1 => Ingress, IngressClass, IPAddress, NetworkPolicy, ServiceCIDR;
    api::node::v1 => RuntimeClass;
    api::policy::v1 => Eviction, PodDisruptionBudget;
    api::rbac::v1 => ClusterRole, ClusterRoleBinding, Role, RoleBinding;
    api::resource::v1 => DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
    api::scheduling::v1 => PriorityClass;
    api::storage::v1 => CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass;
    apiextensions_apiserver::pkg::apis::apiextensions::v1 => CustomResourceDefinition;
    apimachinery::pkg::apis::meta::v1 => APIGroup, APIGroupList, APIResourceList, APIVersions, DeleteOptions, Status;
    kube_aggregator::pkg::apis::apiregistration::v1 => APIService;
}
