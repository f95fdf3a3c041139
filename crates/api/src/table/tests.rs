use serde_json::json;

use super::*;
use crate::gvk::GroupVersionKind;
use crate::registry::Registry;

const NOW: &str = "2026-01-01T01:00:00Z";

fn table(kind: &str, objects: &[Value]) -> Value {
    let registry = Registry::builtin();
    let resource = registry.iter().find(|resource| resource.gvk.kind == kind).unwrap();
    render(resource, objects, Options::new(NOW.parse().unwrap(), IncludeObject::Metadata))
}

/// The cells of one object, as `-o wide` shows them.
#[track_caller]
fn check(kind: &str, mut object: Value, want: &str) {
    object["metadata"]["name"] = "x".into();
    object["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
    let table = table(kind, &[object]);
    let cells: Vec<String> = table["rows"][0]["cells"].as_array().unwrap().iter().map(cells::plain).collect();
    assert_eq!(cells.join(" | "), want);
    assert_eq!(cells.len(), table["columnDefinitions"].as_array().unwrap().len());
}

#[track_caller]
fn pod(pod: Value, want: &str) {
    check("Pod", pod, &format!("x | {want} | 60m | <none> | <none> | <none> | <none>"));
}

#[test]
fn the_status_of_a_pod_is_what_users_know() {
    let two = json!([{"name": "a"}, {"name": "b"}]);
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    pod(json!({"spec": {"containers": two}, "status": {"phase": "Pending"}}), "0/2 | Pending | 0");
    pod(
        json!({"spec": {"containers": two}, "status": {"phase": "Running", "containerStatuses": [running, running]}}),
        "2/2 | Running | 0",
    );
    let creating = json!({"state": {"waiting": {"reason": "ContainerCreating"}}});
    pod(
        json!({"spec": {"containers": two}, "status": {"phase": "Pending", "containerStatuses": [creating, creating]}}),
        "0/2 | ContainerCreating | 0",
    );
    let crashing = json!({
        "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}},
    });
    pod(
        json!({"spec": {"containers": two}, "status": {"phase": "Running", "containerStatuses": [running, crashing]}}),
        "1/2 | CrashLoopBackOff | 3 (5m ago)",
    );
    let done = json!({"state": {"terminated": {"reason": "Completed", "exitCode": 0}}});
    pod(
        json!({"spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Succeeded", "containerStatuses": [done]}}),
        "0/1 | Completed | 0",
    );
    pod(
        json!({"spec": {"containers": two}, "status": {"phase": "Running", "containerStatuses": [done, running]}}),
        "1/2 | NotReady | 0",
    );
    let ready = json!([{"type": "Ready", "status": "True"}]);
    pod(
        json!({"spec": {"containers": two}, "status": {"phase": "Running", "conditions": ready, "containerStatuses": [done, running]}}),
        "1/2 | Running | 0",
    );
    let failed = json!({"state": {"terminated": {"exitCode": 3}}});
    pod(
        json!({"spec": {"containers": [{}]}, "status": {"phase": "Failed", "containerStatuses": [failed]}}),
        "0/1 | ExitCode:3 | 0",
    );
    let killed = json!({"state": {"terminated": {"exitCode": 137, "signal": 9}}});
    pod(
        json!({"spec": {"containers": [{}]}, "status": {"phase": "Failed", "containerStatuses": [killed]}}),
        "0/1 | Signal:9 | 0",
    );
    pod(
        json!({"spec": {"containers": [{}]}, "status": {"phase": "Failed", "reason": "Evicted"}}),
        "0/1 | Evicted | 0",
    );
    let deleted = json!({"deletionTimestamp": NOW});
    pod(
        json!({"metadata": deleted, "spec": {"containers": [{}]}, "status": {"phase": "Running", "containerStatuses": [running]}}),
        "1/1 | Terminating | 0",
    );
    pod(
        json!({"metadata": deleted, "spec": {"containers": [{}]}, "status": {"phase": "Running", "reason": "NodeLost"}}),
        "0/1 | Unknown | 0",
    );
    let gated = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    pod(
        json!({"spec": {"containers": [{}]}, "status": {"phase": "Pending", "conditions": gated}}),
        "0/1 | SchedulingGated | 0",
    );
}

#[test]
fn init_containers_are_counted() {
    let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "one"}, {"name": "two"}]});
    let waiting = json!([{"state": {"waiting": {"reason": "PodInitializing"}}}]);
    let init = |statuses: Value| json!({"spec": spec, "status": {"phase": "Pending", "initContainerStatuses": statuses, "containerStatuses": waiting}});
    let done = json!({"name": "one", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let running = json!({"name": "two", "state": {"running": {}}});
    let pending = json!({"name": "one", "state": {"waiting": {"reason": "PodInitializing"}}});
    pod(init(json!([pending, pending])), "0/1 | Init:0/2 | 0");
    pod(init(json!([done, running])), "0/1 | Init:1/2 | 0");
    pod(
        init(
            json!([{"name": "one", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
        ),
        "0/1 | Init:CrashLoopBackOff | 2",
    );
    pod(
        init(json!([{"name": "one", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}])),
        "0/1 | Init:Error | 0",
    );
    pod(
        init(json!([{"name": "one", "state": {"terminated": {"exitCode": 4}}}])),
        "0/1 | Init:ExitCode:4 | 0",
    );
    pod(init(json!([done, done])), "0/1 | PodInitializing | 0");
    // A sidecar counts among the containers once it has started.
    pod(
        json!({
            "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
            "status": {
                "phase": "Running",
                "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
                "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}],
            },
        }),
        "2/2 | Running | 1",
    );
}

#[test]
fn wide_columns_of_pods() {
    check(
        "Pod",
        json!({
            "spec": {"nodeName": "n", "containers": [{}], "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
            "status": {
                "phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd::1"}], "podIP": "10.0.0.1",
                "nominatedNodeName": "m", "conditions": [{"type": "a", "status": "True"}],
            },
        }),
        "x | 0/1 | Running | 0 | 60m | 10.0.0.1 | n | m | 1/2",
    );
}

#[test]
fn workloads() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}], "nodeSelector": {"disk": "ssd"}}});
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}]});
    let spec = json!({"replicas": 3, "template": template, "selector": selector});
    check(
        "Deployment",
        json!({"spec": spec, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
        "x | 2/3 | 3 | 1 | 60m | a,b | i,j | app=web,tier in (a,b)",
    );
    check(
        "ReplicaSet",
        json!({"spec": spec, "status": {"replicas": 3, "readyReplicas": 1}}),
        "x | 3 | 3 | 1 | 60m | a,b | i,j | app=web,tier in (a,b)",
    );
    check("StatefulSet", json!({"spec": spec}), "x | 0/3 | 60m | a,b | i,j");
    check(
        "DaemonSet",
        json!({"spec": spec, "status": {"desiredNumberScheduled": 1, "numberReady": 1}}),
        "x | 1 | 0 | 1 | 0 | 0 | disk=ssd | 60m | a,b | i,j | app=web,tier in (a,b)",
    );
    check(
        "ReplicationController",
        json!({"spec": {"replicas": 1, "selector": {"app": "web"}, "template": template}}),
        "x | 1 | 0 | 0 | 60m | a,b | i,j | app=web",
    );
}

#[test]
fn jobs() {
    let job = |completions: Value, status: Value| json!({"spec": {"completions": completions, "parallelism": 1}, "status": status});
    check(
        "Job",
        job(json!(2), json!({"succeeded": 1, "startTime": "2026-01-01T00:59:00Z"})),
        "x | Running | 1/2 | 60s | 60m |  |  | <none>",
    );
    check(
        "Job",
        job(
            json!(1),
            json!({
                "succeeded": 1, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:05Z",
                "conditions": [{"type": "Complete", "status": "True"}],
            }),
        ),
        "x | Complete | 1/1 | 5s | 60m |  |  | <none>",
    );
    check(
        "Job",
        job(Value::Null, json!({"conditions": [{"type": "Failed", "status": "True"}]})),
        "x | Failed | 0/1 |  | 60m |  |  | <none>",
    );
    check(
        "CronJob",
        json!({"spec": {"schedule": "* * * * *"}, "status": {"lastScheduleTime": "2026-01-01T00:59:30Z", "active": [{}]}}),
        "x | * * * * * | <none> | False | 1 | 30s | 60m |  |  | <none>",
    );
}

#[test]
fn services_and_endpoints() {
    check(
        "Service",
        json!({"spec": {"type": "NodePort", "clusterIPs": ["10.96.0.5"], "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b"}}}),
        "x | NodePort | 10.96.0.5 | <none> | 80:30080/TCP,53/UDP | 60m | a=b",
    );
    check(
        "Service",
        json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.5"}}),
        "x | LoadBalancer | 10.96.0.5 | <pending> | <none> | 60m | <none>",
    );
    check(
        "Service",
        json!({"spec": {"type": "ExternalName", "externalName": "example.com"}}),
        "x | ExternalName | <none> | example.com | <none> | 60m | <none>",
    );
    check(
        "Service",
        json!({"spec": {"type": "ClusterIP", "clusterIP": "None"}}),
        "x | ClusterIP | None | <none> | <none> | 60m | <none>",
    );
    check(
        "Endpoints",
        json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}], "ports": [{"port": 80}, {"port": 81}]}]}),
        "x | 1.1.1.1:80,2.2.2.2:80,1.1.1.1:81 + 1 more... | 60m",
    );
    check(
        "EndpointSlice",
        json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1.1.1.1"]}]}),
        "x | IPv4 | 80 | 1.1.1.1 | 60m",
    );
    check("EndpointSlice", json!({"addressType": "IPv4"}), "x | IPv4 | <unset> | <unset> | 60m");
}

#[test]
fn nodes_and_events() {
    check(
        "Node",
        json!({
            "metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.18", "containerRuntimeVersion": "corten://0.1"},
            },
        }),
        "x | Ready,SchedulingDisabled | control-plane,edge | 60m | v1.36.0 | 1.2.3.4 | <none> | Debian | 6.18 | corten://0.1",
    );
    check(
        "Event",
        json!({
            "type": "Normal", "reason": "Started", "message": "Started container ", "count": 4,
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
            "firstTimestamp": "2026-01-01T00:50:00Z", "lastTimestamp": "2026-01-01T00:59:00Z", "source": {"component": "kubelet", "host": "n"},
        }),
        "60s | Normal | Started | pod/p | spec.containers{a} | kubelet, n | Started container | 10m | 4 | x",
    );
}

#[test]
fn other_kinds() {
    check("ConfigMap", json!({"data": {"a": "", "b": ""}, "binaryData": {"c": ""}}), "x | 3 | 60m");
    check("Secret", json!({"type": "Opaque", "data": {"a": ""}}), "x | Opaque | 1 | 60m");
    check("Role", json!({}), "x | 2026-01-01T00:00:00Z");
    check(
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]}),
        "x | Role/r | 60m | u |  | n/s",
    );
    check(
        "PersistentVolumeClaim",
        json!({"spec": {"volumeName": "v", "volumeMode": "Filesystem"}, "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
        "x | Bound | v | 1Gi | RWO |  | <unset> | 60m | Filesystem",
    );
    check(
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 1}}),
        "x | 50% | N/A | 1 | 60m",
    );
    check(
        "Ingress",
        json!({"spec": {"rules": [{"host": "a.example"}], "tls": [{}]}, "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}}}),
        "x | <none> | a.example | 1.1.1.1 | 80, 443 | 60m",
    );
    check(
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}}),
        "x | Deployment/d | cpu: <unknown>/50% | 1 | 5 | 0 | 60m",
    );
    check(
        "CertificateSigningRequest",
        json!({"spec": {"signerName": "s", "username": "u"}, "status": {"conditions": [{"type": "Approved"}], "certificate": "YQ=="}}),
        "x | 60m | s | u | <none> | Approved,Issued",
    );
}

#[test]
fn nothing_is_too_odd_to_be_shown() {
    let odd = [json!({}), json!(null), json!([1]), json!({"metadata": 1, "spec": "x", "status": [null]})];
    for resource in Registry::builtin().iter() {
        let table = render(resource, &odd, Options::new(NOW.parse().unwrap(), IncludeObject::None));
        let columns = table["columnDefinitions"].as_array().unwrap().len();
        for row in table["rows"].as_array().unwrap() {
            assert_eq!(row["cells"].as_array().unwrap().len(), columns, "{}", resource.gvk);
        }
    }
}

#[test]
fn rows_carry_what_was_asked_for() {
    let registry = Registry::builtin();
    let resource = registry.kind(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap();
    let object = json!({"metadata": {"name": "x"}, "data": {"a": "b"}});
    let metadata = json!({"resourceVersion": "7", "continue": "c", "other": 1});
    let row = |include| {
        let options = Options {
            metadata: Some(&metadata),
            headers: false,
            ..Options::new(NOW.parse().unwrap(), include)
        };
        let table = render(&resource, [&object], options);
        assert_eq!(table["metadata"], json!({"resourceVersion": "7", "continue": "c"}));
        assert_eq!(table["columnDefinitions"], json!([]));
        table["rows"][0]["object"].clone()
    };
    assert_eq!(row(IncludeObject::None), Value::Null);
    assert_eq!(row(IncludeObject::Object), object);
    assert_eq!(
        row(IncludeObject::Metadata),
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "x"}})
    );
    assert_eq!(IncludeObject::parse("Nothing"), None);
}
