use super::*;
use crate::gvk::GroupVersion;
use proptest::prelude::*;
use serde_json::json;

fn gvk(api_version: &str, kind: &str) -> GroupVersionKind {
    api_version.parse::<GroupVersion>().unwrap().with_kind(kind)
}

/// The object defaulted, with a name and, where it takes one, a namespace.
fn prepared(gvk: &GroupVersionKind, mut object: Value) -> Value {
    let metadata = object.as_object_mut().unwrap().entry("metadata").or_insert(json!({}));
    if metadata.get("name").is_none() && metadata.get("generateName").is_none() {
        metadata["name"] = json!("x");
    }
    if crate::registry::Registry::builtin().kind(gvk).unwrap().namespaced
        && metadata.get("namespace").is_none()
    {
        metadata["namespace"] = json!("default");
    }
    crate::defaults::apply(gvk, &mut object);
    object
}

#[track_caller]
pub fn check(api_version: &str, kind: &str, object: Value, want: &[&str]) {
    let gvk = gvk(api_version, kind);
    let object = prepared(&gvk, object);
    let got: Vec<String> = create(&gvk, &object).iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "{kind}");
}

#[track_caller]
pub fn check_update(api_version: &str, kind: &str, old: Value, new: Value, want: &[&str]) {
    let gvk = gvk(api_version, kind);
    let (old, new) = (prepared(&gvk, old), prepared(&gvk, new));
    let got: Vec<String> = update(&gvk, &new, &old).iter().map(ToString::to_string).collect();
    assert_eq!(got, want, "{kind}");
}

/// A pod with the container changed, and with the spec changed.
fn pod(container: Value, spec: Value) -> Value {
    let mut c = json!({"name": "c", "image": "i"});
    c.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let mut s = json!({"containers": [c]});
    s.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": s})
}

#[test]
fn metadata_of_all_kinds() {
    check("v1", "ConfigMap", json!({}), &[]);
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": ""}}),
        &["metadata.name: Required value: name or generateName is required"],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": "A"}}),
        &[
            r#"metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"#,
        ],
    );
    check("v1", "ConfigMap", json!({"metadata": {"name": "a", "generateName": "a-"}}), &[]);
    check(
        "v1",
        "Namespace",
        json!({"metadata": {"name": "a", "namespace": "b"}}),
        &["metadata.namespace: Forbidden: not allowed on this type"],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"name": "a", "labels": {"x": "a b", "": "y"}}}),
        &[
            r#"metadata.labels: Invalid value: "": name part must be non-empty"#,
            r#"metadata.labels: Invalid value: "a b": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"#,
        ],
    );
    let large = "a".repeat(256 << 10);
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"annotations": {"a": large}}}),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}}),
        &["metadata.ownerReferences[0].uid: Invalid value: \"\": uid must not be empty"],
    );
    check(
        "v1",
        "ConfigMap",
        json!({"metadata": {"finalizers": ["mine"]}}),
        &[
            r#"metadata.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified"#,
        ],
    );
}

#[test]
fn metadata_is_kept() {
    let meta = |extra: Value| {
        let mut m = json!({"name": "x", "uid": "u", "finalizers": ["a/b"]});
        m.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({"metadata": m})
    };
    check_update("v1", "ConfigMap", meta(json!({})), meta(json!({"labels": {"a": "b"}})), &[]);
    check_update(
        "v1",
        "ConfigMap",
        meta(json!({})),
        meta(json!({"uid": "other"})),
        &[r#"metadata.uid: Invalid value: "other": field is immutable"#],
    );
    check_update(
        "v1",
        "ConfigMap",
        meta(json!({"deletionTimestamp": "t"})),
        meta(json!({"deletionTimestamp": "t", "finalizers": ["a/b", "c/d"]})),
        &[
            r#"metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"c/d"}"#,
        ],
    );
}

#[test]
fn pods() {
    check("v1", "Pod", pod(json!({}), json!({})), &[]);
    check("v1", "Pod", json!({"spec": {}}), &["spec.containers: Required value"]);
    check(
        "v1",
        "Pod",
        json!({"spec": {"containers": [{"name": "a"}, {"image": "i"}, {"name": "a", "image": "i"}]}}),
        &[
            "spec.containers[0].image: Required value",
            "spec.containers[1].name: Required value",
            r#"spec.containers[2].name: Duplicate value: "a""#,
        ],
    );
    #[track_caller]
    fn container(c: Value, want: &[&str]) {
        check("v1", "Pod", pod(c, json!({})), want);
    }
    container(
        json!({"imagePullPolicy": "Sometimes"}),
        &[
            r#"spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never""#,
        ],
    );
    container(
        json!({"ports": [{"containerPort": 0}, {"containerPort": 70000, "name": "a"}, {"containerPort": 1, "name": "a"}]}),
        &[
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            r#"spec.containers[0].ports[2].name: Duplicate value: "a""#,
        ],
    );
    container(
        json!({"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}),
        &[r#"spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//9""#],
    );
    container(
        json!({"env": [{"name": "A=B", "value": "x"}, {"name": "C", "valueFrom": {}}]}),
        &[
            r#"spec.containers[0].env[0].name: Invalid value: "A=B": a valid environment variable name must consist only of printable ASCII characters other than '='"#,
            r#"spec.containers[0].env[1].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"#,
        ],
    );
    container(
        json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['x']"}}}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
        &[
            r#"spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x"#,
        ],
    );
    container(
        json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]}),
        &[r#"spec.containers[0].volumeMounts[0].name: Not found: "v""#],
    );
    container(
        json!({"resources": {"requests": {"cpu": "2", "foo": "1"}, "limits": {"cpu": "1"}}}),
        &[
            r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
            r#"spec.containers[0].resources.requests: Invalid value: "foo": must be a standard resource for containers"#,
        ],
    );
    container(
        json!({"resources": {"limits": {"cpu": "x", "memory": "-1"}}}),
        &[
            "spec.containers[0].resources.limits[cpu]: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            r#"spec.containers[0].resources.limits[memory]: Invalid value: "-1": must be greater than or equal to 0"#,
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"x\": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            r#"spec.containers[0].resources.requests[memory]: Invalid value: "-1": must be greater than or equal to 0"#,
        ],
    );
    container(
        json!({"livenessProbe": {"successThreshold": 2, "exec": {"command": ["a"]}}, "readinessProbe": {}}),
        &[
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ],
    );
    container(
        json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}}),
        &[
            r#"spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true"#,
        ],
    );
}

#[test]
fn pod_specs() {
    #[track_caller]
    fn spec(s: Value, want: &[&str]) {
        check("v1", "Pod", pod(json!({}), s), want);
    }
    spec(
        json!({"restartPolicy": "Maybe"}),
        &[
            r#"spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never""#,
        ],
    );
    spec(
        json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}, {"name": "v", "secret": {}}]}),
        &[
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[1].secret.secretName: Required value",
            r#"spec.volumes[1].name: Duplicate value: "v""#,
        ],
    );
    spec(
        json!({"volumes": [{"name": "v", "hostPath": {"path": "/a/../b", "type": "Odd"}}]}),
        &[
            r#"spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'"#,
            r#"spec.volumes[0].hostPath.type: Unsupported value: "Odd": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket""#,
        ],
    );
    spec(
        json!({"dnsPolicy": "None"}),
        &[
            "spec.dnsConfig: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
        ],
    );
    spec(
        json!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b"}, {"operator": "Equal"}]}),
        &[
            r#"spec.tolerations[0].value: Invalid value: "b": value must be empty when `operator` is 'Exists'"#,
            r#"spec.tolerations[1].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys""#,
        ],
    );
    spec(
        json!({"hostAliases": [{"ip": "300.0.0.1", "hostnames": ["ok"]}]}),
        &[
            r#"spec.hostAliases[0].ip: Invalid value: "300.0.0.1": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
        ],
    );
    spec(
        json!({"activeDeadlineSeconds": 0}),
        &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
    );
    spec(
        json!({"initContainers": [{"name": "i", "image": "i", "livenessProbe": {"exec": {"command": ["a"]}}}]}),
        &[
            "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ],
    );
    spec(
        json!({"ephemeralContainers": [{"name": "e", "image": "i"}]}),
        &["spec.ephemeralContainers: Forbidden: cannot be set on create"],
    );
    spec(
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}),
        &[
            "spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
        ],
    );
}

#[test]
fn pod_updates() {
    let old = || pod(json!({}), json!({"tolerations": [{"key": "a", "operator": "Exists"}]}));
    check_update(
        "v1",
        "Pod",
        old(),
        pod(
            json!({"image": "other", "imagePullPolicy": "Always"}),
            json!({"activeDeadlineSeconds": 5,
        "tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]}),
        ),
        &[],
    );
    check_update(
        "v1",
        "Pod",
        old(),
        pod(json!({"tty": true}), json!({"hostname": "h", "tolerations": []})),
        &[
            "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\nchanged:\n  spec.containers\n  spec.hostname",
        ],
    );
    let two = json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}});
    check_update(
        "v1",
        "Pod",
        old(),
        two,
        &["spec.containers: Forbidden: pod updates may not add or remove containers"],
    );
}

fn workload(spec: Value) -> Value {
    let mut s = json!({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    s.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": s})
}

#[test]
fn workloads() {
    for kind in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        check("apps/v1", kind, workload(json!({})), &[]);
        check(
            "apps/v1",
            kind,
            workload(json!({"selector": {"matchLabels": {"a": "c"}}})),
            &[
                r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#,
            ],
        );
        check("apps/v1", kind, workload(json!({"selector": null})), &["spec.selector: Required value"]);
        check_update("apps/v1", kind, workload(json!({})), workload(json!({"minReadySeconds": 1})), &[]);
    }
    check(
        "apps/v1",
        "Deployment",
        workload(json!({"selector": {}})),
        &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
    );
    check(
        "apps/v1",
        "Deployment",
        workload(
            json!({"replicas": -1, "strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
        ),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#,
        ],
    );
    check(
        "apps/v1",
        "Deployment",
        workload(json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}})),
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    let mut never = workload(json!({}));
    never["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    check(
        "apps/v1",
        "Deployment",
        never,
        &[r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#],
    );
    let mut relabelled = workload(json!({"selector": {"matchLabels": {"a": "c"}}}));
    relabelled["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
    check_update(
        "apps/v1",
        "Deployment",
        workload(json!({})),
        relabelled.clone(),
        &[r#"spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable"#],
    );
    check_update(
        "apps/v1",
        "StatefulSet",
        workload(json!({})),
        relabelled,
        &[
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ],
    );
    // A claim template is a volume.
    let mut claims = workload(
        json!({"volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}),
    );
    claims["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/v"}]);
    check("apps/v1", "StatefulSet", claims, &[]);
}

#[test]
fn jobs() {
    let job = |spec: Value| {
        let mut s = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}});
        s.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"spec": s})
    };
    check("batch/v1", "Job", job(json!({})), &[]);
    check(
        "batch/v1",
        "Job",
        job(json!({"template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}})),
        &[r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#],
    );
    check(
        "batch/v1",
        "Job",
        job(json!({"completionMode": "Indexed", "completions": null, "parallelism": 2})),
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    check_update(
        "batch/v1",
        "Job",
        job(json!({"completions": 1})),
        job(json!({"completions": 2, "parallelism": 3})),
        &["spec.completions: Invalid value: 2: field is immutable"],
    );
    let cron = |schedule: &str| json!({"spec": {"schedule": schedule, "jobTemplate": job(json!({}))}});
    check("batch/v1", "CronJob", cron("*/5 * * * *"), &[]);
    check(
        "batch/v1",
        "CronJob",
        cron("x"),
        &[r#"spec.schedule: Invalid value: "x": expected exactly 5 fields, found 1: [x]"#],
    );
}

#[test]
fn services() {
    let service = |spec: Value| json!({"spec": spec});
    check("v1", "Service", service(json!({"ports": [{"port": 80}]})), &[]);
    check("v1", "Service", service(json!({"clusterIP": "None"})), &[]);
    check("v1", "Service", service(json!({})), &["spec.ports: Required value"]);
    check(
        "v1",
        "Service",
        service(json!({"ports": [{"port": 80}, {"port": 80, "name": "a"}]})),
        &[
            "spec.ports[0].name: Required value",
            r#"spec.ports[1]: Duplicate value: {"port":80,"protocol":"TCP"}"#,
        ],
    );
    check(
        "v1",
        "Service",
        service(json!({"type": "Odd", "ports": [{"port": 80}]})),
        &[
            r#"spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort""#,
        ],
    );
    check(
        "v1",
        "Service",
        service(json!({"ports": [{"port": 80, "nodePort": 30000}]})),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    check("v1", "Service", service(json!({"type": "ExternalName"})), &["spec.externalName: Required value"]);
    check(
        "v1",
        "Service",
        json!({"metadata": {"name": "1a"}, "spec": {"ports": [{"port": 1}]}}),
        &[
            "metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
        ],
    );
    let at = |ip: &str| service(json!({"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80}]}));
    check_update(
        "v1",
        "Service",
        at("10.96.0.1"),
        at("10.96.0.2"),
        &[r#"spec.clusterIPs[0]: Invalid value: ["10.96.0.2"]: may not change once set"#],
    );
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}, {"addresses": []}]}),
        &[
            r#"endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ],
    );
}

#[test]
fn configuration() {
    check(
        "v1",
        "ConfigMap",
        json!({"data": {"a/b": "x"}}),
        &[
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
        ],
    );
    let large = "a".repeat((1 << 20) + 1);
    check(
        "v1",
        "ConfigMap",
        json!({"data": {"a": large}}),
        &["data: Too long: may not be more than 1048576 bytes"],
    );
    check(
        "v1",
        "Secret",
        json!({"type": "kubernetes.io/tls"}),
        &["data[tls.crt]: Required value", "data[tls.key]: Required value"],
    );
    check(
        "v1",
        "Secret",
        json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "c2VjcmV0"}}),
        &[
            r#"data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character in JSON"#,
        ],
    );
    let frozen = |value: &str| json!({"immutable": true, "data": {"a": value}});
    check_update("v1", "ConfigMap", frozen("1"), frozen("1"), &[]);
    check_update(
        "v1",
        "ConfigMap",
        frozen("1"),
        frozen("2"),
        &["data: Forbidden: field is immutable when `immutable` is set"],
    );
    check_update(
        "v1",
        "Secret",
        json!({}),
        json!({"type": "a"}),
        &[r#"type: Invalid value: "a": field is immutable"#],
    );
}

#[test]
fn small_kinds() {
    check(
        "rbac.authorization.k8s.io/v1",
        "Role",
        json!({"metadata": {"name": "system:x"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
        &[],
    );
    check(
        "rbac.authorization.k8s.io/v1",
        "Role",
        json!({"rules": [{}]}),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ],
    );
    let binding = |name: &str| json!({"roleRef": {"kind": "ClusterRole", "name": name}, "subjects": [{"kind": "User", "name": "u"}]});
    check("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", binding("a"), &[]);
    check_update(
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        binding("a"),
        binding("b"),
        &[
            r#"roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"b"}: cannot change roleRef"#,
        ],
    );
    check(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
        &["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"],
    );
    check(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"ingress": [{"from": [{}]}]}}),
        &["spec.ingress[0].from[0]: Required value: must specify a peer"],
    );
    check(
        "v1",
        "PersistentVolumeClaim",
        json!({"spec": {}}),
        &[
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources.requests[storage]: Required value",
        ],
    );
    check(
        "v1",
        "PersistentVolume",
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
        &["spec: Required value: must specify a volume type"],
    );
    check("storage.k8s.io/v1", "StorageClass", json!({"provisioner": "x/y"}), &[]);
    check(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"metadata": {"name": "system-mine"}, "value": 1}),
        &[
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only",
        ],
    );
    check(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"value": 2_000_000_000}),
        &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
    );
    check(
        "policy/v1",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": "x"}}),
        &[
            "spec.minAvailable: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
        ],
    );
    check(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 1, "minReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        &["spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`"],
    );
    check(
        "coordination.k8s.io/v1",
        "Lease",
        json!({"spec": {"leaseDurationSeconds": 0}}),
        &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
    );
    check(
        "v1",
        "LimitRange",
        json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}, "defaultRequest": {"cpu": "1"}}]}}),
        &[
            r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#,
            r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than default value 1"#,
        ],
    );
    let node = |cidr: &str| json!({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}});
    check_update(
        "v1",
        "Node",
        node("10.0.0.0/24"),
        node("10.1.0.0/24"),
        &[r#"spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid"#],
    );
    check(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        json!({"webhooks": [{"name": "a.b.c", "clientConfig": {"url": "http://x"}, "sideEffects": "None", "admissionReviewVersions": ["v1"]}]}),
        &[
            r#"webhooks[0].clientConfig.url: Invalid value: "http://x": 'https' is the only allowed URL scheme; desired format: https://host[/path]"#,
        ],
    );
}

#[test]
fn unknown_kinds_have_only_metadata() {
    let custom = gvk("example.com/v1", "Thing");
    assert!(
        create(&custom, &json!({"metadata": {"name": "x", "finalizers": ["mine"]}, "spec": 5})).is_empty()
    );
    assert_eq!(create(&custom, &json!({})).len(), 1);
}

proptest! {
    #[test]
    fn nothing_panics((gvk, old, new) in fuzz::any_pair()) {
        let _ = create(&gvk, &new).to_string();
        let _ = update(&gvk, &new, &old).to_string();
        for subresource in ["status", "ephemeralcontainers", "resize"] {
            let _ = update_subresource(&gvk, subresource, &new, &old).to_string();
        }
    }

    #[test]
    fn what_is_valid_may_be_written_again((gvk, object) in fuzz::any_object()) {
        // An update that changes nothing meets no rule about changes: only what is wrong with the object itself.
        let of_object: Vec<String> = create(&gvk, &object).iter().map(ToString::to_string).collect();
        // What a definition has stored is only looked at once it exists.
        for error in update(&gvk, &object, &object).iter().filter(|error| !error.field.starts_with("status.")) {
            prop_assert!(of_object.contains(&error.to_string()), "{error}");
        }
    }
}
