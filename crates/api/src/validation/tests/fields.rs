//! Bounds of single fields, as the API reference states them.

use super::*;

#[track_caller]
fn container(fields: Value, want: &[&str]) {
    let mut c = json!({"name": "c", "image": "i"});
    c.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let volumes =
        json!([{"name": "v", "emptyDir": {}}, {"name": "p", "persistentVolumeClaim": {"claimName": "p"}}]);
    check("v1", "Pod", json!({"spec": {"containers": [c], "volumes": volumes}}), want);
}

#[track_caller]
fn pod(fields: Value, want: &[&str]) {
    let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    check("v1", "Pod", json!({"spec": spec}), want);
}

#[test]
fn probes() {
    let exec = json!({"command": ["true"]});
    container(json!({"livenessProbe": {"exec": exec, "terminationGracePeriodSeconds": 5}}), &[]);
    container(
        json!({"readinessProbe": {"exec": exec, "terminationGracePeriodSeconds": 5}}),
        &[
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
        ],
    );
    const RANGE: &str = "Invalid value: 0: must be between 1 and 65535, inclusive";
    container(
        json!({"livenessProbe": {"httpGet": {}}}),
        &[&format!("spec.containers[0].livenessProbe.httpGet.port: {RANGE}")],
    );
    container(
        json!({"livenessProbe": {"grpc": {}}}),
        &[&format!("spec.containers[0].livenessProbe.grpc.port: {RANGE}")],
    );
}

#[test]
fn environments() {
    const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    container(
        json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "B_C", "key": "k"}}}]}),
        &[&format!(
            "spec.containers[0].env[0].valueFrom.secretKeyRef.name: Invalid value: \"B_C\": {SUBDOMAIN}"
        )],
    );
    container(
        json!({"envFrom": [{"configMapRef": {"name": "B_C"}}]}),
        &[&format!("spec.containers[0].envFrom[0].configMapRef.name: Invalid value: \"B_C\": {SUBDOMAIN}")],
    );
    let of = |resource: &str, divisor: &str| json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": divisor}}}]});
    container(of("limits.cpu", "1m"), &[]);
    container(of("limits.memory", "1Mi"), &[]);
    container(of("limits.memory", "0"), &[]);
    container(
        of("limits.cpu", "2"),
        &[
            r#"spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource"#,
        ],
    );
    container(
        of("requests.memory", "3Mi"),
        &[
            r#"spec.containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "requests.memory": only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"#,
        ],
    );
}

#[test]
fn amounts() {
    container(
        json!({"resources": {"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}}),
        &[
            r#"spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
            r#"spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi"#,
        ],
    );
    container(
        json!({"resources": {"requests": {"hugepages-2Mi": "2Mi", "cpu": "1"}}}),
        &[
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ],
    );
    container(
        json!({"resources": {"limits": {"requests.example.com/gpu": "1"}}}),
        &[
            r#"spec.containers[0].resources.limits[requests.example.com/gpu]: Invalid value: "requests.example.com/gpu": doesn't follow extended resource name standard"#,
            r#"spec.containers[0].resources.requests[requests.example.com/gpu]: Invalid value: "requests.example.com/gpu": doesn't follow extended resource name standard"#,
        ],
    );
    container(json!({"resources": {"limits": {"example.com/gpu": "1", "kubernetes.io/x": "1500m"}}}), &[]);
}

#[test]
fn mounts() {
    container(
        json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "readOnly": true, "recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"}]}),
        &[
            "spec.containers[0].volumeMounts[0].recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
        ],
    );
    container(
        json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}], "volumeDevices": [{"name": "p", "devicePath": "/a"}]}),
        &[
            r#"spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/a": must not already exist as a path in volumeMounts"#,
        ],
    );
    pod(
        json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "-1"}}]}),
        &["spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"],
    );
}

#[test]
fn places() {
    let affinity = |list: &str, term: Value| json!({"affinity": {"nodeAffinity": {list: term}}});
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a b"]}]});
    let required = affinity(
        "requiredDuringSchedulingIgnoredDuringExecution",
        json!({"nodeSelectorTerms": [term.clone()]}),
    );
    pod(
        required,
        &[
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values[0]: Invalid value: \"a b\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ],
    );
    // What is only preferred was never looked at so closely.
    let preferred = json!([{"weight": 1, "preference": term}]);
    pod(affinity("preferredDuringSchedulingIgnoredDuringExecution", preferred), &[]);
    pod(
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 0}]}),
        &["spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero"],
    );
    pod(json!({"os": {"name": ""}}), &["spec.os.name: Required value: cannot be empty"]);
}

#[test]
fn workloads() {
    let set = |name: &str, fields: Value| {
        let mut spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"metadata": {"name": name}, "spec": spec})
    };
    const LABEL: &str = "must not contain dots";
    check(
        "apps/v1",
        "StatefulSet",
        set("a.b", json!({"serviceName": "x.y"})),
        &[
            &format!("metadata.name: Invalid value: \"a.b\": {LABEL}"),
            &format!("spec.serviceName: Invalid value: \"x.y\": {LABEL}"),
        ],
    );
    check("apps/v1", "Deployment", set("a.b", json!({})), &[]);
    // What is there can still be scaled.
    let old = set("a.b", json!({"serviceName": "x.y"}));
    check_update(
        "apps/v1",
        "StatefulSet",
        old,
        set("a.b", json!({"serviceName": "x.y", "replicas": 3})),
        &[],
    );
    check(
        "apps/v1",
        "StatefulSet",
        set(
            "s",
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "101%"}}}),
        ),
        &[
            r#"spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%"#,
        ],
    );
    let job = json!({"completionMode": "Indexed", "completions": 200_000, "parallelism": 100_001, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
    check(
        "batch/v1",
        "Job",
        json!({"spec": job}),
        &["spec.parallelism: Invalid value: 100001: must be less than or equal to 100000"],
    );
}

#[test]
fn services() {
    check(
        "v1",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 10250}]}}),
        &[
            "spec.ports[0]: Invalid value: 10250: may not expose port 10250 externally since it is used by kubelet",
        ],
    );
    check(
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}], "externalIPs": ["169.254.169.254", "127.0.0.1"]}}),
        &[
            r#"spec.externalIPs[0]: Invalid value: "169.254.169.254": may not be in the link-local range (169.254.0.0/16, fe80::/10)"#,
            r#"spec.externalIPs[1]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
        ],
    );
    // Two ways to name a class have to agree from the start; later it is for whoever made it so.
    let ingress = |class: &str| json!({"metadata": {"name": "i", "annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {"ingressClassName": class, "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    check(
        "networking.k8s.io/v1",
        "Ingress",
        ingress("b"),
        &[
            r#"annotations.kubernetes.io/ingress.class: Invalid value: "a": must match `ingressClassName` when both are specified"#,
        ],
    );
    check_update("networking.k8s.io/v1", "Ingress", ingress("a"), ingress("b"), &[]);
}

#[test]
fn names_of_services() {
    check("v1", "Service", json!({"metadata": {"name": "1st"}, "spec": {"ports": [{"port": 80}]}}), &[]);
    check(
        "v1",
        "Service",
        json!({"metadata": {"name": "a.b"}, "spec": {"ports": [{"port": 80}]}}),
        &[r#"metadata.name: Invalid value: "a.b": must not contain dots"#],
    );
    let backend = json!({"service": {"name": "1st", "port": {"number": 80}}});
    check("networking.k8s.io/v1", "Ingress", json!({"spec": {"defaultBackend": backend}}), &[]);
}

#[test]
fn resources_of_rules() {
    #[track_caller]
    fn resources(list: Value, want: &[&str]) {
        let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": list});
        let hook = json!({"name": "a.b.c", "clientConfig": {"url": "https://x"}, "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule]});
        check(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": [hook]}),
            want,
        );
    }
    resources(json!(["*/*"]), &[]);
    resources(json!(["*", "pods/*", "*/scale"]), &[]);
    resources(
        json!(["pods/*", "pods/log"]),
        &[
            r#"webhooks[0].rules[0].resources[1]: Invalid value: "pods/log": if 'pods/*' is present, must not specify pods/log"#,
        ],
    );
    resources(
        json!(["*/*", "pods"]),
        &[
            r#"webhooks[0].rules[0].resources: Invalid value: ["*/*","pods"]: if '*/*' is present, must not specify other resources"#,
        ],
    );
    resources(
        json!(["*", "pods"]),
        &[
            r#"webhooks[0].rules[0].resources: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources without subresources"#,
        ],
    );
}

#[test]
fn what_may_change() {
    let driver = |policy: &str, attach: bool| json!({"metadata": {"name": "a.b"}, "spec": {"fsGroupPolicy": policy, "attachRequired": attach}});
    check_update("storage.k8s.io/v1", "CSIDriver", driver("File", true), driver("None", true), &[]);
    check_update(
        "storage.k8s.io/v1",
        "CSIDriver",
        driver("File", true),
        driver("File", false),
        &["spec.attachedRequired: Invalid value: false: field is immutable"],
    );
    let quota = |class: &str| json!({"spec": {"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": [class]}]}}});
    check_update("v1", "ResourceQuota", quota("low"), quota("high"), &[]);
    let class = |policy: &str| json!({"value": 1, "preemptionPolicy": policy});
    check_update(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        class("PreemptLowerPriority"),
        class("Never"),
        &[r#"preemptionPolicy: Invalid value: "Never": field is immutable"#],
    );
    let claim = |class: Value| json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeAttributesClassName": class}});
    check_update("v1", "PersistentVolumeClaim", claim(json!("a")), claim(json!("b")), &[]);
    check_update(
        "v1",
        "PersistentVolumeClaim",
        claim(json!("a")),
        claim(json!(null)),
        &["spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"],
    );
}

#[test]
fn metadata() {
    let long = "a".repeat(64);
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": long}}),
        &[
            &format!("metadata.name: Invalid value: \"{long}\": must be no more than 63 characters"),
            // Its name is a label of it, too.
            &format!("metadata.labels: Invalid value: \"{long}\": must be no more than 63 bytes"),
        ],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"labels": {"a": long}}}),
        &[&format!("metadata.labels: Invalid value: \"{long}\": must be no more than 63 bytes")],
    );
    let owner =
        |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true});
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"ownerReferences": [owner("a"), owner("b")]}}),
        &[&format!(
            "metadata.ownerReferences: Invalid value: {}: Only one reference can have Controller set to true. Found \"true\" in references for Pod/a and Pod/b",
            json!([owner("a"), owner("b")])
        )],
    );
}

#[test]
fn annotations_of_pods() {
    let annotated = |annotations: Value| json!({"metadata": {"name": "p", "annotations": annotations}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    const COST: &str = r#"metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "": must be a 32bit integer"#;
    let cost = |cost: &str| annotated(json!({"controller.kubernetes.io/pod-deletion-cost": cost}));
    for good in ["0", "-5", "2147483647"] {
        check("v1", "Pod", cost(good), &[]);
    }
    for bad in ["", "+1", "01", "2147483648", "x"] {
        check("v1", "Pod", cost(bad), &[COST]);
    }
    check_update("v1", "Pod", cost("x"), cost("x"), &[]);
    check_update("v1", "Pod", cost("1"), cost("x"), &[COST]);
    let mirror = |hash: &str| {
        let mut pod = annotated(json!({"kubernetes.io/config.mirror": hash}));
        pod["spec"]["nodeName"] = json!("n");
        pod
    };
    check("v1", "Pod", mirror("a"), &[]);
    check(
        "v1",
        "Pod",
        annotated(json!({"kubernetes.io/config.mirror": "a"})),
        &[
            r#"metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "a": must set spec.nodeName if mirror pod annotation is set"#,
        ],
    );
    check_update(
        "v1",
        "Pod",
        mirror("a"),
        mirror("b"),
        &[
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not remove or update mirror pod annotation",
        ],
    );
}
