//! Pods and what of them may change.

use super::*;

/// A pod with the container changed, and with the spec changed.
fn pod(container: Value, spec: Value) -> Value {
    let mut c = json!({"name": "c", "image": "i"});
    c.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let mut s = json!({"containers": [c]});
    s.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": s})
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
            r#"spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified"#,
            r#"spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers"#,
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

#[test]
fn restarts_and_resizing_policies() {
    #[track_caller]
    fn container(c: Value, want: &[&str]) {
        check("v1", "Pod", pod(c, json!({"restartPolicy": "Never"})), want);
    }
    let rule = json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}});
    container(json!({"restartPolicy": "Never", "restartPolicyRules": [rule]}), &[]);
    container(
        json!({"restartPolicyRules": [{"action": "Stop"}]}),
        &[
            "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used",
            r#"spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart", "RestartAllContainers""#,
            "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
        ],
    );
    container(
        json!({"resizePolicy": [{"resourceName": "disk", "restartPolicy": "NotRequired"}, {"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}),
        &[
            r#"spec.containers[0].resizePolicy[0].resourceName: Unsupported value: "disk": supported values: "cpu", "memory""#,
            r#"spec.containers[0].resizePolicy[1].restartPolicy: Invalid value: "RestartContainer": must be 'NotRequired' when `restartPolicy` is 'Never'"#,
        ],
    );
    container(
        json!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
        &[
            "spec.containers[0].lifecycle.preStop.sleep.seconds: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ],
    );
}

#[test]
fn resources_of_a_whole_pod() {
    let container = json!({"resources": {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}});
    let whole = |resources: Value| pod(container.clone(), json!({"resources": resources}));
    check("v1", "Pod", whole(json!({"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}})), &[]);
    check(
        "v1",
        "Pod",
        whole(json!({"requests": {"cpu": "1", "disk": "1"}, "limits": {"memory": "1Gi"}})),
        &[
            r#"spec.resources.requests[disk]: Unsupported value: "disk": supported values: "cpu", "hugepages-", "memory""#,
            r#"spec.resources.requests[disk]: Invalid value: "disk": must be a standard resource type or fully qualified"#,
            r#"spec.resources.requests[disk]: Invalid value: "disk": must be a standard resource for containers"#,
            r#"spec.resources.requests: Invalid value: "2Gi": must be less than or equal to memory limit of 1Gi"#,
            r#"spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2"#,
            r#"spec.containers[0].resources.limits[memory]: Invalid value: "2Gi": must be less than or equal to pod limits of 1Gi"#,
        ],
    );
}

#[test]
fn resizing() {
    let sized = |requests: Value, limits: Value| {
        pod(json!({"resources": {"requests": requests, "limits": limits}}), json!({}))
    };
    let resize = |old: Value, new: Value, want: &[&str]| check_subresource("resize", "Pod", old, new, want);
    let old = || sized(json!({"cpu": "1", "memory": "1Gi"}), json!({"cpu": "2"}));
    resize(old(), sized(json!({"cpu": "2", "memory": "2Gi"}), json!({"cpu": "3"})), &[]);
    resize(
        old(),
        sized(json!({"cpu": "1"}), json!({"cpu": "2"})),
        &["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"],
    );
    resize(
        old(),
        sized(json!({"cpu": "1", "memory": "1Gi"}), json!({"cpu": "1", "memory": "1Gi"})),
        &[r#"spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing"#],
    );
    let mut other = old();
    other["spec"]["containers"][0]["image"] = json!("another");
    resize(old(), other, &["spec: Forbidden: only cpu and memory resources are mutable"]);
    let mut mirror = old();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    resize(
        mirror.clone(),
        mirror,
        &["metadata.annotations[kubernetes.io/config.mirror]: Forbidden: static pods cannot be resized"],
    );
}

#[test]
fn gated_pods_may_be_told_more() {
    let term =
        |values: &[&str]| json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": values}]});
    let gated = |selector: Value, terms: Value| {
        let required = json!({"nodeSelectorTerms": terms});
        let affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": required});
        let spec = json!({"schedulingGates": [{"name": "a.b/c"}], "nodeSelector": selector,
            "affinity": {"nodeAffinity": affinity}});
        pod(json!({}), spec)
    };
    let old = || gated(json!({"a": "b"}), json!([term(&["x"])]));
    let mut more = term(&["x"]);
    let list = more["matchExpressions"].as_array_mut().unwrap();
    list.push(json!({"key": "disk", "operator": "Exists"}));
    check_update("v1", "Pod", old(), gated(json!({"a": "b", "c": "d"}), json!([more])), &[]);
    check_update(
        "v1",
        "Pod",
        old(),
        gated(json!({"a": "z"}), json!([term(&["y"])])),
        &[
            r#"spec.nodeSelector: Invalid value: {"a":"z"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)"#,
            r#"spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: {"matchExpressions":[{"key":"zone","operator":"In","values":["y"]}]}: only additions are allowed (no mutations or deletions)"#,
        ],
    );
}

#[test]
fn projections_and_devices() {
    let projected = |source: Value| {
        pod(json!({}), json!({"volumes": [{"name": "v", "projected": {"sources": [source]}}]}))
    };
    let at = "spec.volumes[0].projected.sources[0]";
    check("v1", "Pod", projected(json!({"clusterTrustBundle": {"name": "a:b", "path": "ca.pem"}})), &[]);
    check(
        "v1",
        "Pod",
        projected(json!({"clusterTrustBundle": {"path": "/ca.pem"}})),
        &[
            &format!("{at}.clusterTrustBundle: Required value: either name or signerName must be specified"),
            &format!("{at}.clusterTrustBundle.path: Invalid value: \"/ca.pem\": must be a relative path"),
        ],
    );
    let certificate = json!({"signerName": "a.b/c", "keyType": "ED25519", "credentialBundlePath": "c.pem"});
    check("v1", "Pod", projected(json!({"podCertificate": certificate})), &[]);
    check(
        "v1",
        "Pod",
        projected(
            json!({"podCertificate": {"signerName": "a.b/c", "keyType": "DSA", "maxExpirationSeconds": 60}}),
        ),
        &[
            &format!(
                "{at}.podCertificate.keyType: Unsupported value: \"DSA\": supported values: \"ECDSAP256\", \"ECDSAP384\", \"ECDSAP521\", \"ED25519\", \"RSA3072\", \"RSA4096\""
            ),
            &format!(
                "{at}.podCertificate.maxExpirationSeconds: Invalid value: 60: must be between 3600 and 7862400, inclusive"
            ),
            &format!(
                "{at}.podCertificate: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
            ),
        ],
    );
    check(
        "v1",
        "Pod",
        pod(
            json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}),
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        ),
        &[
            r#"spec.containers[0].volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#,
        ],
    );
}

#[test]
fn label_keys_need_a_selector() {
    let spread = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["a"]}]);
    check(
        "v1",
        "Pod",
        pod(json!({}), json!({"topologySpreadConstraints": spread})),
        &[
            "spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
        ],
    );
}
