//! The resources of a default v1.36 server, as data. Groups are in the order in which upstream's discovery lists them.

use super::{Resource, Subresource};
use crate::gvk::GroupVersionKind;
use crate::schema::{SchemaRef, builtin};

/// One line of the table. `kind` and `plural` cannot be derived from each other; everything else has a usual value.
struct Row {
    plural: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    verbs: &'static [&'static str],
    subresources: &'static [Sub],
    /// Beside `metadata.name` and `metadata.namespace`.
    selectable_fields: &'static [&'static str],
}

/// A subresource. An empty kind stands for that of the resource itself.
struct Sub {
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
}

const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CREATE: &[&str] = &["create"];
const GET_PUT: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];
const ANY_METHOD: &[&str] = &["create", "delete", "get", "patch", "update"];

const fn namespaced(plural: &'static str, kind: &'static str) -> Row {
    Row {
        plural,
        kind,
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: ALL_VERBS,
        subresources: &[],
        selectable_fields: &[],
    }
}

const fn cluster(plural: &'static str, kind: &'static str) -> Row {
    Row { namespaced: false, ..namespaced(plural, kind) }
}

impl Row {
    const fn short(self, short_names: &'static [&'static str]) -> Row {
        Row { short_names, ..self }
    }

    /// Shown by `kubectl get all`.
    const fn in_all(self) -> Row {
        Row { categories: &["all"], ..self }
    }

    const fn categories(self, categories: &'static [&'static str]) -> Row {
        Row { categories, ..self }
    }

    const fn verbs(self, verbs: &'static [&'static str]) -> Row {
        Row { verbs, ..self }
    }

    const fn subs(self, subresources: &'static [Sub]) -> Row {
        Row { subresources, ..self }
    }

    const fn select(self, selectable_fields: &'static [&'static str]) -> Row {
        Row { selectable_fields, ..self }
    }
}

const fn sub(name: &'static str, verbs: &'static [&'static str]) -> Sub {
    Sub { name, group: "", version: "", kind: "", verbs }
}

const fn sub_of(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    verbs: &'static [&'static str],
) -> Sub {
    Sub { name, group, version, kind, verbs }
}

const STATUS: Sub = sub("status", GET_PUT);
const SCALE: Sub = sub_of("scale", "autoscaling", "v1", "Scale", GET_PUT);
const JUST_STATUS: &[Sub] = &[STATUS];
const STATUS_AND_SCALE: &[Sub] = &[SCALE, STATUS];

const CORE_V1: &[Row] = &[
    namespaced("bindings", "Binding").verbs(CREATE),
    cluster("componentstatuses", "ComponentStatus").short(&["cs"]).verbs(&["get", "list"]),
    namespaced("configmaps", "ConfigMap").short(&["cm"]),
    namespaced("endpoints", "Endpoints").short(&["ep"]),
    namespaced("events", "Event").short(&["ev"]).select(&[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ]),
    namespaced("limitranges", "LimitRange").short(&["limits"]),
    cluster("namespaces", "Namespace")
        .short(&["ns"])
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .subs(&[sub("finalize", &["update"]), STATUS])
        .select(&["status.phase"]),
    cluster("nodes", "Node")
        .short(&["no"])
        .subs(&[sub_of("proxy", "", "v1", "NodeProxyOptions", ANY_METHOD), STATUS])
        .select(&["spec.unschedulable"]),
    namespaced("persistentvolumeclaims", "PersistentVolumeClaim").short(&["pvc"]).subs(JUST_STATUS),
    cluster("persistentvolumes", "PersistentVolume").short(&["pv"]).subs(JUST_STATUS),
    namespaced("pods", "Pod")
        .short(&["po"])
        .in_all()
        .subs(&[
            sub_of("attach", "", "v1", "PodAttachOptions", CONNECT),
            sub_of("binding", "", "v1", "Binding", CREATE),
            sub("ephemeralcontainers", GET_PUT),
            sub_of("eviction", "policy", "v1", "Eviction", CREATE),
            sub_of("exec", "", "v1", "PodExecOptions", CONNECT),
            sub("log", &["get"]),
            sub_of("portforward", "", "v1", "PodPortForwardOptions", CONNECT),
            sub_of("proxy", "", "v1", "PodProxyOptions", ANY_METHOD),
            sub("resize", GET_PUT),
            STATUS,
        ])
        .select(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ]),
    namespaced("podtemplates", "PodTemplate"),
    namespaced("replicationcontrollers", "ReplicationController")
        .short(&["rc"])
        .in_all()
        .subs(STATUS_AND_SCALE)
        .select(&["status.replicas"]),
    namespaced("resourcequotas", "ResourceQuota").short(&["quota"]).subs(JUST_STATUS),
    namespaced("secrets", "Secret").select(&["type"]),
    namespaced("serviceaccounts", "ServiceAccount").short(&["sa"]).subs(&[sub_of(
        "token",
        "authentication.k8s.io",
        "v1",
        "TokenRequest",
        CREATE,
    )]),
    namespaced("services", "Service")
        .short(&["svc"])
        .in_all()
        .subs(&[sub_of("proxy", "", "v1", "ServiceProxyOptions", ANY_METHOD), STATUS])
        .select(&["spec.clusterIP", "spec.type"]),
];

const GROUPS: &[(&str, &str, &[Row])] = &[
    ("", "v1", CORE_V1),
    (
        "apiregistration.k8s.io",
        "v1",
        &[cluster("apiservices", "APIService").categories(&["api-extensions"]).subs(JUST_STATUS)],
    ),
    (
        "apps",
        "v1",
        &[
            namespaced("controllerrevisions", "ControllerRevision"),
            namespaced("daemonsets", "DaemonSet").short(&["ds"]).in_all().subs(JUST_STATUS),
            namespaced("deployments", "Deployment").short(&["deploy"]).in_all().subs(STATUS_AND_SCALE),
            namespaced("replicasets", "ReplicaSet")
                .short(&["rs"])
                .in_all()
                .subs(STATUS_AND_SCALE)
                .select(&["status.replicas"]),
            namespaced("statefulsets", "StatefulSet").short(&["sts"]).in_all().subs(STATUS_AND_SCALE),
        ],
    ),
    (
        "events.k8s.io",
        "v1",
        &[namespaced("events", "Event").short(&["ev"]).select(&[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ])],
    ),
    (
        "authentication.k8s.io",
        "v1",
        &[
            cluster("selfsubjectreviews", "SelfSubjectReview").verbs(CREATE),
            cluster("tokenreviews", "TokenReview").verbs(CREATE),
        ],
    ),
    (
        "authorization.k8s.io",
        "v1",
        &[
            namespaced("localsubjectaccessreviews", "LocalSubjectAccessReview").verbs(CREATE),
            cluster("selfsubjectaccessreviews", "SelfSubjectAccessReview").verbs(CREATE),
            cluster("selfsubjectrulesreviews", "SelfSubjectRulesReview").verbs(CREATE),
            cluster("subjectaccessreviews", "SubjectAccessReview").verbs(CREATE),
        ],
    ),
    (
        "autoscaling",
        "v2",
        &[namespaced("horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .short(&["hpa"])
            .in_all()
            .subs(JUST_STATUS)],
    ),
    (
        "autoscaling",
        "v1",
        &[namespaced("horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .short(&["hpa"])
            .in_all()
            .subs(JUST_STATUS)],
    ),
    (
        "batch",
        "v1",
        &[
            namespaced("cronjobs", "CronJob").short(&["cj"]).in_all().subs(JUST_STATUS),
            namespaced("jobs", "Job").in_all().subs(JUST_STATUS).select(&["status.successful"]),
        ],
    ),
    (
        "certificates.k8s.io",
        "v1",
        &[cluster("certificatesigningrequests", "CertificateSigningRequest")
            .short(&["csr"])
            .subs(&[sub("approval", GET_PUT), STATUS])
            .select(&["spec.signerName"])],
    ),
    (
        "networking.k8s.io",
        "v1",
        &[
            cluster("ingressclasses", "IngressClass"),
            namespaced("ingresses", "Ingress").short(&["ing"]).subs(JUST_STATUS),
            cluster("ipaddresses", "IPAddress").short(&["ip"]),
            namespaced("networkpolicies", "NetworkPolicy").short(&["netpol"]),
            cluster("servicecidrs", "ServiceCIDR").subs(JUST_STATUS),
        ],
    ),
    (
        "policy",
        "v1",
        &[namespaced("poddisruptionbudgets", "PodDisruptionBudget").short(&["pdb"]).subs(JUST_STATUS)],
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        &[
            cluster("clusterrolebindings", "ClusterRoleBinding"),
            cluster("clusterroles", "ClusterRole"),
            namespaced("rolebindings", "RoleBinding"),
            namespaced("roles", "Role"),
        ],
    ),
    (
        "storage.k8s.io",
        "v1",
        &[
            cluster("csidrivers", "CSIDriver"),
            cluster("csinodes", "CSINode"),
            namespaced("csistoragecapacities", "CSIStorageCapacity"),
            cluster("storageclasses", "StorageClass").short(&["sc"]),
            cluster("volumeattachments", "VolumeAttachment").subs(JUST_STATUS),
            cluster("volumeattributesclasses", "VolumeAttributesClass").short(&["vac"]),
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        &[
            cluster("mutatingadmissionpolicies", "MutatingAdmissionPolicy").categories(&["api-extensions"]),
            cluster("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding")
                .categories(&["api-extensions"]),
            cluster("mutatingwebhookconfigurations", "MutatingWebhookConfiguration")
                .categories(&["api-extensions"]),
            cluster("validatingadmissionpolicies", "ValidatingAdmissionPolicy")
                .categories(&["api-extensions"])
                .subs(JUST_STATUS),
            cluster("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding")
                .categories(&["api-extensions"]),
            cluster("validatingwebhookconfigurations", "ValidatingWebhookConfiguration")
                .categories(&["api-extensions"]),
        ],
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        &[cluster("customresourcedefinitions", "CustomResourceDefinition")
            .short(&["crd", "crds"])
            .categories(&["api-extensions"])
            .subs(JUST_STATUS)],
    ),
    ("scheduling.k8s.io", "v1", &[cluster("priorityclasses", "PriorityClass").short(&["pc"])]),
    ("coordination.k8s.io", "v1", &[namespaced("leases", "Lease")]),
    ("node.k8s.io", "v1", &[cluster("runtimeclasses", "RuntimeClass")]),
    ("discovery.k8s.io", "v1", &[namespaced("endpointslices", "EndpointSlice")]),
    (
        "flowcontrol.apiserver.k8s.io",
        "v1",
        &[
            cluster("flowschemas", "FlowSchema").subs(JUST_STATUS),
            cluster("prioritylevelconfigurations", "PriorityLevelConfiguration").subs(JUST_STATUS),
        ],
    ),
    (
        "resource.k8s.io",
        "v1",
        &[
            cluster("deviceclasses", "DeviceClass"),
            namespaced("resourceclaims", "ResourceClaim").subs(JUST_STATUS),
            namespaced("resourceclaimtemplates", "ResourceClaimTemplate"),
            cluster("resourceslices", "ResourceSlice").select(&["spec.driver", "spec.nodeName"]),
        ],
    ),
];

/// The table as resources.
pub(super) fn resources() -> Vec<Resource> {
    GROUPS
        .iter()
        .flat_map(|(group, version, rows)| rows.iter().map(|row| resource(group, version, row)))
        .collect()
}

fn resource(group: &str, version: &str, row: &Row) -> Resource {
    let gvk = GroupVersionKind::new(group, version, row.kind);
    let mut selectable_fields = vec!["metadata.name".to_owned()];
    if row.namespaced {
        selectable_fields.push("metadata.namespace".to_owned());
    }
    selectable_fields.extend(strings(row.selectable_fields));
    Resource {
        plural: row.plural.to_owned(),
        singular: row.kind.to_lowercase(),
        list_kind: format!("{}List", row.kind),
        short_names: strings(row.short_names),
        categories: strings(row.categories),
        namespaced: row.namespaced,
        verbs: strings(row.verbs),
        subresources: row.subresources.iter().map(|sub| subresource(&gvk, sub)).collect(),
        schema: schema_of(&gvk),
        custom: None,
        selectable_fields,
        gvk,
    }
}

fn subresource(parent: &GroupVersionKind, sub: &Sub) -> Subresource {
    let gvk = match sub.kind {
        "" => parent.clone(),
        kind => GroupVersionKind::new(sub.group, sub.version, kind),
    };
    Subresource { name: sub.name.to_owned(), gvk, verbs: strings(sub.verbs) }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The definition of a built-in type.
pub(super) fn schema_of(gvk: &GroupVersionKind) -> Option<SchemaRef> {
    builtin::named(&builtin::name_of(gvk)?)
}
