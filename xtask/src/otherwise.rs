//! What the published crates leave out or the general rules get wrong, one by one: facts of the API's Go types
//! (`omitempty`, pointers, field numbers), found by comparing all fields of v1.36 with them.

use api::schema::Object;

/// True if the rule about zeroes holds the other way around for this field.
pub fn zero_is_otherwise(name: &str, field: &str) -> bool {
    ZEROES.iter().any(|(kind, fields)| *kind == name && fields.contains(&field))
}

/// Gives fields that are newer than k8s-pb their numbers.
pub fn number(name: &str, object: &mut Object) {
    for (_, field, tag) in NUMBERS.iter().filter(|(kind, ..)| *kind == name) {
        if let Some(field) = object.fields.iter_mut().find(|known| known.name == *field && known.tags.is_empty()) {
            field.tags = [*tag].into();
        }
    }
}

#[rustfmt::skip]
const NUMBERS: &[(&str, &str, u32)] = &[
    ("io.k8s.api.core.v1.ImageVolumeStatus", "imageRef", 1),
    ("io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", "resourceClaimName", 1),
    ("io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", "containers", 2),
    ("io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", "resources", 3),
    ("io.k8s.api.core.v1.PodSchedulingGroup", "podGroupName", 1),
    ("io.k8s.api.core.v1.PodSpec", "schedulingGroup", 43),
    ("io.k8s.api.core.v1.PodStatus", "nodeAllocatableResourceClaimStatuses", 21),
    ("io.k8s.api.core.v1.ResourceHealth", "message", 6),
    ("io.k8s.api.core.v1.VolumeMountStatus", "volumeStatus", 5),
    ("io.k8s.api.core.v1.VolumeStatus", "image", 1),
    ("io.k8s.api.resource.v1.Device", "nodeAllocatableResourceMappings", 13),
    ("io.k8s.api.resource.v1.DeviceAttribute", "ints", 6),
    ("io.k8s.api.resource.v1.DeviceAttribute", "bools", 7),
    ("io.k8s.api.resource.v1.DeviceAttribute", "strings", 8),
    ("io.k8s.api.resource.v1.DeviceAttribute", "versions", 9),
    ("io.k8s.api.resource.v1.NodeAllocatableResourceMapping", "capacityKey", 1),
    ("io.k8s.api.resource.v1.NodeAllocatableResourceMapping", "allocationMultiplier", 2),
    ("io.k8s.api.storage.v1.CSIDriverSpec", "preventPodSchedulingIfMissing", 11),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta", "shardInfo", 5),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ShardInfo", "selector", 1),
];

#[rustfmt::skip]
const ZEROES: &[(&str, &[&str])] = &[
    ("io.k8s.api.admissionregistration.v1.MatchResources", &["matchPolicy"]),
    ("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec", &["failurePolicy"]),
    ("io.k8s.api.admissionregistration.v1.NamedRuleWithOperations", &["scope"]),
    ("io.k8s.api.admissionregistration.v1.ParamRef", &["parameterNotFoundAction"]),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec", &["policyName", "validationActions"]),
    ("io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicySpec", &["failurePolicy"]),
    ("io.k8s.api.admissionregistration.v1.Validation", &["reason"]),
    ("io.k8s.api.apps.v1.StatefulSetSpec", &["serviceName"]),
    ("io.k8s.api.apps.v1.StatefulSetStatus", &["availableReplicas"]),
    ("io.k8s.api.authentication.v1.TokenRequestSpec", &["audiences"]),
    ("io.k8s.api.authentication.v1.TokenRequestStatus", &["token"]),
    ("io.k8s.api.authentication.v1.TokenReviewSpec", &["token"]),
    ("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus", &["currentMetrics", "currentReplicas"]),
    ("io.k8s.api.batch.v1.CronJobSpec", &["timeZone"]),
    ("io.k8s.api.batch.v1.JobSpec", &["completionMode", "managedBy", "podReplacementPolicy"]),
    ("io.k8s.api.batch.v1.JobStatus", &["failedIndexes"]),
    ("io.k8s.api.batch.v1.PodFailurePolicyOnExitCodesRequirement", &["containerName"]),
    ("io.k8s.api.batch.v1.PodFailurePolicyOnPodConditionsPattern", &["status"]),
    ("io.k8s.api.batch.v1.SuccessPolicyRule", &["succeededIndexes"]),
    ("io.k8s.api.coordination.v1.LeaseSpec", &["strategy"]),
    ("io.k8s.api.core.v1.AppArmorProfile", &["localhostProfile"]),
    ("io.k8s.api.core.v1.ConfigMapEnvSource", &["name"]),
    ("io.k8s.api.core.v1.ConfigMapKeySelector", &["name"]),
    ("io.k8s.api.core.v1.ConfigMapProjection", &["name"]),
    ("io.k8s.api.core.v1.ConfigMapVolumeSource", &["name"]),
    ("io.k8s.api.core.v1.Container", &["restartPolicy"]),
    ("io.k8s.api.core.v1.ContainerImage", &["names"]),
    ("io.k8s.api.core.v1.ContainerRestartRule", &["action"]),
    ("io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes", &["operator"]),
    ("io.k8s.api.core.v1.ContainerStatus", &["stopSignal"]),
    ("io.k8s.api.core.v1.EphemeralContainer", &["restartPolicy"]),
    ("io.k8s.api.core.v1.Event", &["reportingComponent", "reportingInstance"]),
    ("io.k8s.api.core.v1.ImageVolumeStatus", &["imageRef"]),
    ("io.k8s.api.core.v1.Lifecycle", &["stopSignal"]),
    ("io.k8s.api.core.v1.LoadBalancerIngress", &["ipMode"]),
    ("io.k8s.api.core.v1.LocalObjectReference", &["name"]),
    ("io.k8s.api.core.v1.NodeRuntimeHandler", &["name"]),
    ("io.k8s.api.core.v1.PodCertificateProjection", &["keyType", "signerName"]),
    ("io.k8s.api.core.v1.PodResourceClaim", &["resourceClaimName", "resourceClaimTemplateName"]),
    ("io.k8s.api.core.v1.PodResourceClaimStatus", &["resourceClaimName"]),
    ("io.k8s.api.core.v1.PodSchedulingGroup", &["podGroupName"]),
    ("io.k8s.api.core.v1.PodSecurityContext", &["seLinuxChangePolicy", "supplementalGroupsPolicy"]),
    ("io.k8s.api.core.v1.PodSpec", &["hostnameOverride"]),
    ("io.k8s.api.core.v1.ProjectedVolumeSource", &["sources"]),
    ("io.k8s.api.core.v1.ResourceHealth", &["message"]),
    ("io.k8s.api.core.v1.SecretEnvSource", &["name"]),
    ("io.k8s.api.core.v1.SecretKeySelector", &["name"]),
    ("io.k8s.api.core.v1.SecretProjection", &["name"]),
    ("io.k8s.api.core.v1.ServiceSpec", &["internalTrafficPolicy", "loadBalancerClass", "trafficDistribution"]),
    ("io.k8s.api.core.v1.TopologySpreadConstraint", &["nodeAffinityPolicy", "nodeTaintsPolicy"]),
    ("io.k8s.api.core.v1.VolumeMount", &["recursiveReadOnly"]),
    ("io.k8s.api.core.v1.VolumeMountStatus", &["recursiveReadOnly"]),
    ("io.k8s.api.discovery.v1.Endpoint", &["zone"]),
    ("io.k8s.api.discovery.v1.EndpointSlice", &["endpoints", "ports"]),
    ("io.k8s.api.flowcontrol.v1.FlowSchemaSpec", &["matchingPrecedence"]),
    ("io.k8s.api.flowcontrol.v1.QueuingConfiguration", &["queueLengthLimit", "queues"]),
    ("io.k8s.api.flowcontrol.v1.ResourcePolicyRule", &["namespaces"]),
    ("io.k8s.api.networking.v1.IngressClassParametersReference", &["namespace", "scope"]),
    ("io.k8s.api.networking.v1.IngressPortStatus", &["error"]),
    ("io.k8s.api.networking.v1.ParentReference", &["name", "resource"]),
    ("io.k8s.api.policy.v1.PodDisruptionBudgetSpec", &["unhealthyPodEvictionPolicy"]),
    ("io.k8s.api.rbac.v1.ClusterRole", &["rules"]),
    ("io.k8s.api.rbac.v1.Role", &["rules"]),
    ("io.k8s.api.rbac.v1.RoleRef", &["apiGroup"]),
    ("io.k8s.api.resource.v1.AllocatedDeviceStatus", &["conditions", "shareID"]),
    ("io.k8s.api.resource.v1.CounterSet", &["counters"]),
    ("io.k8s.api.resource.v1.Device", &["nodeName"]),
    ("io.k8s.api.resource.v1.DeviceClaim", &["requests"]),
    ("io.k8s.api.resource.v1.DeviceClassSpec", &["extendedResourceName"]),
    ("io.k8s.api.resource.v1.DeviceConstraint", &["distinctAttribute", "matchAttribute"]),
    ("io.k8s.api.resource.v1.DeviceCounterConsumption", &["counters"]),
    ("io.k8s.api.resource.v1.DeviceRequestAllocationResult", &["shareID"]),
    ("io.k8s.api.resource.v1.NodeAllocatableResourceMapping", &["capacityKey"]),
    ("io.k8s.api.resource.v1.ResourceSliceSpec", &["nodeName"]),
    ("io.k8s.api.storage.v1.CSINodeDriver", &["topologyKeys"]),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus", &["conditions", "storedVersions"]),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.ValidationRule", &["reason"]),
];
