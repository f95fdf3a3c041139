use super::*;
use proptest::prelude::*;
use serde_json::json;

fn defaulted(api_version: &str, kind: &str, mut object: Value) -> Value {
    let gvk = api_version.parse::<crate::gvk::GroupVersion>().unwrap().with_kind(kind);
    apply(&gvk, &mut object);
    object
}

/// Checks members by JSON pointer, so that each case says only what it is about.
#[track_caller]
fn check(api_version: &str, kind: &str, object: Value, want: &[(&str, Value)]) {
    let got = defaulted(api_version, kind, object);
    for (pointer, value) in want {
        assert_eq!(got.pointer(pointer).unwrap_or(&Value::Null), value, "{kind} {pointer} in {got}");
    }
}

#[test]
fn pods() {
    let pod = json!({"spec": {"containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": "0.5", "memory": 1024}},
        "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
        "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "x"}}, {"name": "h", "hostPath": {"path": "/"}},
                    {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}});
    check(
        "v1",
        "Pod",
        pod,
        &[
            ("/spec/restartPolicy", json!("Always")),
            ("/spec/dnsPolicy", json!("ClusterFirst")),
            ("/spec/schedulerName", json!("default-scheduler")),
            ("/spec/terminationGracePeriodSeconds", json!(30)),
            ("/spec/securityContext", json!({})),
            ("/spec/enableServiceLinks", json!(true)),
            ("/spec/containers/0/imagePullPolicy", json!("Always")),
            ("/spec/containers/0/terminationMessagePath", json!("/dev/termination-log")),
            ("/spec/containers/0/terminationMessagePolicy", json!("File")),
            ("/spec/containers/0/ports/0", json!({"containerPort": 80, "protocol": "TCP"})),
            ("/spec/containers/0/env/0/valueFrom/fieldRef/apiVersion", json!("v1")),
            (
                "/spec/containers/0/resources",
                json!({"limits": {"cpu": "500m", "memory": "1024"}, "requests": {"cpu": "500m", "memory": "1024"}}),
            ),
            (
                "/spec/containers/0/readinessProbe",
                json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
            "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}),
            ),
            ("/spec/volumes/0/emptyDir", json!({})),
            ("/spec/volumes/1/secret/defaultMode", json!(420)),
            ("/spec/volumes/2/hostPath/type", json!("")),
            ("/spec/volumes/3/projected/defaultMode", json!(420)),
            ("/spec/volumes/3/projected/sources/0/serviceAccountToken/expirationSeconds", json!(3600)),
            ("/status/phase", json!("Pending")),
        ],
    );
    let host = json!({"spec": {"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}]}]}});
    check("v1", "Pod", host, &[("/spec/containers/0/ports/0/hostPort", json!(80))]);
    let explicit = json!({"spec": {"restartPolicy": "Never", "enableServiceLinks": false, "terminationGracePeriodSeconds": 0, "containers": []}});
    check(
        "v1",
        "Pod",
        explicit,
        &[
            ("/spec/restartPolicy", json!("Never")),
            ("/spec/enableServiceLinks", json!(false)),
            ("/spec/terminationGracePeriodSeconds", json!(0)),
        ],
    );
}

#[test]
fn pull_policies() {
    for (image, want) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("host:5000/nginx", "Always"),
        ("host:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:0", "IfNotPresent"),
        ("nginx:latest@sha256:0", "Always"),
        ("", "IfNotPresent"),
    ] {
        assert_eq!(container::pull_policy(image), want, "{image}");
    }
}

#[test]
fn workloads() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x:1", "resources": {"limits": {"cpu": 1}}}]}});
    check(
        "apps/v1",
        "Deployment",
        json!({"spec": {"template": template}}),
        &[
            ("/spec/replicas", json!(1)),
            (
                "/spec/strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}),
            ),
            ("/spec/revisionHistoryLimit", json!(10)),
            ("/spec/progressDeadlineSeconds", json!(600)),
            ("/spec/template/spec/restartPolicy", json!("Always")),
            // Only pods get these.
            ("/spec/template/spec/enableServiceLinks", Value::Null),
            ("/spec/template/spec/containers/0/resources", json!({"limits": {"cpu": "1"}})),
        ],
    );
    check(
        "apps/v1",
        "Deployment",
        json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}}),
        &[("/spec/replicas", json!(0)), ("/spec/strategy", json!({"type": "Recreate"}))],
    );
    check(
        "apps/v1",
        "StatefulSet",
        json!({"spec": {"template": template, "volumeClaimTemplates": [{"spec": {}}]}}),
        &[
            ("/spec/podManagementPolicy", json!("OrderedReady")),
            ("/spec/updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})),
            (
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
            ),
            ("/spec/volumeClaimTemplates/0/spec/volumeMode", json!("Filesystem")),
        ],
    );
    check(
        "apps/v1",
        "DaemonSet",
        json!({"spec": {"template": template}}),
        &[(
            "/spec/updateStrategy",
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        )],
    );
    check(
        "v1",
        "ReplicationController",
        json!({"metadata": {}, "spec": {"template": template}}),
        &[
            ("/spec/selector", json!({"a": "b"})),
            ("/metadata/labels", json!({"a": "b"})),
            ("/spec/replicas", json!(1)),
        ],
    );
    check(
        "batch/v1",
        "Job",
        json!({"metadata": {}, "spec": {"template": template}}),
        &[
            ("/spec/completions", json!(1)),
            ("/spec/parallelism", json!(1)),
            ("/spec/backoffLimit", json!(6)),
            ("/spec/completionMode", json!("NonIndexed")),
            ("/spec/suspend", json!(false)),
            ("/spec/podReplacementPolicy", json!("TerminatingOrFailed")),
            ("/metadata/labels", json!({"a": "b"})),
        ],
    );
    check("batch/v1", "Job", json!({"spec": {"parallelism": 2}}), &[("/spec/completions", Value::Null)]);
    check(
        "batch/v1",
        "CronJob",
        json!({"spec": {"jobTemplate": {"spec": {"template": template}}}}),
        &[
            ("/spec/concurrencyPolicy", json!("Allow")),
            ("/spec/successfulJobsHistoryLimit", json!(3)),
            ("/spec/failedJobsHistoryLimit", json!(1)),
            ("/spec/jobTemplate/spec/template/spec/dnsPolicy", json!("ClusterFirst")),
        ],
    );
}

#[test]
fn services() {
    check(
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}, {"port": 1, "targetPort": "http", "protocol": "UDP"}]}}),
        &[
            ("/spec/type", json!("ClusterIP")),
            ("/spec/sessionAffinity", json!("None")),
            ("/spec/internalTrafficPolicy", json!("Cluster")),
            ("/spec/externalTrafficPolicy", Value::Null),
            (
                "/spec/ports",
                json!([{"port": 80, "targetPort": 80, "protocol": "TCP"}, {"port": 1, "targetPort": "http", "protocol": "UDP"}]),
            ),
        ],
    );
    check(
        "v1",
        "Service",
        json!({"spec": {"type": "NodePort", "sessionAffinity": "ClientIP"}}),
        &[
            ("/spec/externalTrafficPolicy", json!("Cluster")),
            ("/spec/sessionAffinityConfig/clientIP/timeoutSeconds", json!(10800)),
        ],
    );
    check(
        "v1",
        "Service",
        json!({"spec": {"type": "ExternalName"}}),
        &[("/spec/internalTrafficPolicy", Value::Null)],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"ports": [{"port": 1}]}),
        &[("/ports/0", json!({"name": "", "port": 1, "protocol": "TCP"}))],
    );
}

#[test]
fn small_kinds() {
    check("v1", "Secret", json!({}), &[("/type", json!("Opaque"))]);
    let both = json!({"data": {"a": "MQ==", "b": "MQ=="}, "stringData": {"a": "two"}});
    check(
        "v1",
        "Secret",
        both,
        &[("/data", json!({"a": "dHdv", "b": "MQ=="})), ("/stringData", json!(null))],
    );
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "n"}}),
        &[
            ("/metadata/labels", json!({"kubernetes.io/metadata.name": "n"})),
            ("/spec/finalizers", json!(["kubernetes"])),
            ("/status/phase", json!("Active")),
        ],
    );
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "n", "uid": "u"}, "spec": {}}),
        &[("/spec/finalizers", Value::Null)],
    );
    check(
        "v1",
        "LimitRange",
        json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}),
        &[
            ("/spec/limits/0/default", json!({"cpu": "2"})),
            ("/spec/limits/0/defaultRequest", json!({"cpu": "2", "memory": "1Mi"})),
        ],
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "x"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
        &[
            ("/roleRef/apiGroup", json!("rbac.authorization.k8s.io")),
            ("/subjects/0/apiGroup", json!("rbac.authorization.k8s.io")),
            ("/subjects/1/apiGroup", Value::Null),
        ],
    );
    check(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
        &[
            ("/spec/policyTypes", json!(["Ingress", "Egress"])),
            ("/spec/egress/0/ports/0/protocol", json!("TCP")),
        ],
    );
    check(
        "storage.k8s.io/v1",
        "StorageClass",
        json!({}),
        &[("/reclaimPolicy", json!("Delete")), ("/volumeBindingMode", json!("Immediate"))],
    );
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {}}),
        &[("/spec/minReplicas", json!(1)), ("/spec/metrics/0/resource/target/averageUtilization", json!(80))],
    );
    check(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        json!({"spec": {"names": {"kind": "CronTab"}}}),
        &[
            ("/spec/names", json!({"kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"})),
            ("/spec/conversion", json!({"strategy": "None"})),
        ],
    );
    check(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        json!({"webhooks": [{"clientConfig": {"service": {}}, "rules": [{}]}]}),
        &[
            ("/webhooks/0/failurePolicy", json!("Fail")),
            ("/webhooks/0/reinvocationPolicy", json!("Never")),
            ("/webhooks/0/rules/0/scope", json!("*")),
            ("/webhooks/0/clientConfig/service/port", json!(443)),
        ],
    );
}

proptest! {
    #[test]
    fn twice_is_once_and_nothing_panics((kind, object) in crate::validation::fuzz::any_object()) {
        let mut once = object;
        apply(&kind, &mut once);
        let mut twice = once.clone();
        apply(&kind, &mut twice);
        prop_assert_eq!(once, twice);
    }
}
