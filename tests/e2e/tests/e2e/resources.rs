//! Resources that containers have for themselves: devices of plugins, whole CPUs, blocks of user IDs.

use std::process::{Child, Stdio};

use e2e::{Cluster, Options, eventually};

const RESOURCE: &str = "e2e.example/thing";

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pod(name: &str, resources: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: res}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:1.36', command: [sleep, infinity], resources: {resources}}}]}}}}"
    )
}

fn exec(c: &Cluster, pod: &str, script: &str) -> String {
    c.kubectl(&["-n", "res", "exec", pod, "--", "sh", "-c", script])
}

#[test]
fn devices_of_a_plugin() {
    let c = Cluster::start();
    c.namespace("res");
    let dir = c.root().join("kubelet/device-plugins");
    assert!(dir.join("kubelet.sock").exists(), "the kubelet listens");
    let mut command = c.host.command(env!("CARGO_BIN_EXE_device_plugin"));
    command.arg(&dir).arg(RESOURCE).stdin(Stdio::null());
    let _plugin = Process(command.spawn().expect("the plugin runs"));
    let node_has = |wanted: &str| {
        eventually(&format!("a node with {wanted} devices"), || {
            let path = "jsonpath={.items[0].status.capacity.e2e\\.example/thing} {.items[0].status.allocatable.e2e\\.example/thing}";
            let found = c.kubectl(&["get", "node", "-o", path]);
            if found == wanted { Ok(()) } else { Err(format!("{found}\n{}", c.log())) }
        });
    };
    node_has("3 3");
    c.apply(&pod("two", &format!("{{limits: {{{RESOURCE}: 2}}}}")));
    c.wait_pod_ready("res", "two");
    assert_eq!(
        exec(&c, "two", "echo $DEVICES; test -c /dev/e2e && echo there"),
        "device-1,device-2\nthere\n"
    );
    c.apply(&pod("one", &format!("{{limits: {{{RESOURCE}: 1}}}}")));
    c.wait_pod_ready("res", "one");
    assert_eq!(exec(&c, "one", "echo $DEVICES"), "device-0\n");

    // A device falls ill; the kubelet dies; who has what stays as it is.
    std::fs::write(dir.join("broken"), "").unwrap();
    node_has("3 2");
    eventually("the pod's status tells of its device", || {
        let path = "jsonpath={.status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].health}";
        let found = c.kubectl(&["-n", "res", "get", "pod", "one", "-o", path]);
        if found == "Unhealthy" { Ok(()) } else { Err(found) }
    });
    // More than there are that are well: the pod ends at once, and says why. It goes past the scheduler.
    let node = c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
    let greedy = pod("greedy", &format!("{{limits: {{{RESOURCE}: 1}}}}"));
    c.apply(&greedy.replace("spec: {", &format!("spec: {{nodeName: {node}, ")));
    eventually("a pod that cannot have a device is refused", || {
        let found = c.kubectl(&[
            "-n",
            "res",
            "get",
            "pod",
            "greedy",
            "-o",
            "jsonpath={.status.phase} {.status.reason}",
        ]);
        let refused = ["Failed UnexpectedAdmissionError", "Failed OutOfe2e.example/thing"];
        if refused.contains(&found.as_str()) { Ok(()) } else { Err(found) }
    });
    c.kill();
    c.restart();
    node_has("3 2");
    c.kubectl(&["-n", "res", "delete", "pod", "two"]);
    // One of the two that are well counts as taken by the pod whose own is ill.
    // A pod that comes before the plugin is back is refused, as by upstream: whatever made it makes another.
    let again = pod("again", &format!("{{limits: {{{RESOURCE}: 1}}}}"));
    eventually("a pod with a device after the restart", || {
        c.apply(&again);
        let phase = c.kubectl(&["-n", "res", "get", "pod", "again", "-o", "jsonpath={.status.phase}"]);
        if phase == "Failed" {
            c.kubectl(&["-n", "res", "delete", "pod", "again", "--now"]);
        }
        if phase == "Running" { Ok(()) } else { Err(phase) }
    });
    c.wait_pod_ready("res", "again");
    assert_eq!(exec(&c, "again", "echo $DEVICES"), "device-2\n");
}

const CLAIMED: &str = "
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: things}
spec: {selectors: [{cel: {expression: 'device.driver == \"claims.e2e\"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: claim, namespace: res}
spec: {devices: {requests: [{name: thing, exactly: {deviceClassName: things}}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: res}
spec:
  nodeName: test-host
  terminationGracePeriodSeconds: 0
  resourceClaims: [{name: mine, resourceClaimName: claim}]
  containers:
  - {name: c, image: 'busybox:1.36', command: [sleep, infinity], resources: {claims: [{name: mine, request: thing}]}}
  - {name: d, image: 'busybox:1.36', command: [sleep, infinity]}
";

const EXTENDED: &str = "
apiVersion: v1
kind: ResourceQuota
metadata: {name: q, namespace: res}
spec: {hard: {requests.e2e.example/extended: 2, things.deviceclass.resource.k8s.io/devices: 2}}
---
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: things}
spec: {extendedResourceName: e2e.example/extended, selectors: [{cel: {expression: 'device.driver == \"claims.e2e\"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: slice}
spec: {driver: claims.e2e, nodeName: test-host, pool: {name: pool, generation: 1, resourceSliceCount: 1}, devices: [{name: one}, {name: two}]}
---
apiVersion: v1
kind: Pod
metadata: {name: e, namespace: res}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: c, image: 'busybox:1.36', command: [sleep, infinity], resources: {limits: {e2e.example/extended: 1}}}
";

/// Both may write the status: one what is allocated, the other what is told of its devices.
const WRITERS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: allocator, namespace: res}
rules:
- {apiGroups: [resource.k8s.io], resources: [resourceclaims, resourceclaims/status], verbs: [get, patch]}
- {apiGroups: [resource.k8s.io], resources: [resourceclaims/binding], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: driver, namespace: res}
rules:
- {apiGroups: [resource.k8s.io], resources: [resourceclaims, resourceclaims/status], verbs: [get, patch]}
- {apiGroups: [resource.k8s.io], resources: [resourceclaims/driver], resourceNames: [claims.e2e], verbs: ['arbitrary-node:patch']}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: allocator, namespace: res}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: allocator}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: allocator}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: driver, namespace: res}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: driver}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: driver}]
";

const ANOTHER: &str = "
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: another, namespace: res}
spec: {devices: {requests: [{name: thing, exactly: {deviceClassName: things}}]}}
";

#[test]
fn claimed_devices() {
    let c = Cluster::start_with(Options {
        // Of this host alone.
        prepare: "mkdir -p /etc/cdi; mount -t tmpfs tmpfs /etc/cdi\n\
            echo '{\"cdiVersion\": \"0.6.0\", \"kind\": \"e2e.example/thing\", \"devices\": [{\"name\": \"one\", \"containerEdits\": {\"env\": [\"THING=one\"]}}]}' >/etc/cdi/e2e.json"
            .to_owned(),
        ..Options::default()
    });
    c.namespace("res");
    let path = |name: &str| c.root().join("kubelet").join(name).display().to_string();
    let log = c.host.directory().join("calls.log");
    let mut command = c.host.command(env!("CARGO_BIN_EXE_dra_driver"));
    command
        .args(["claims.e2e", &path("plugins/claims.e2e/dra.sock"), &path("plugins_registry/claims.e2e.sock")])
        .arg(&log)
        .stdin(Stdio::null());
    let _driver = Process(command.spawn().expect("the driver runs"));
    c.apply(CLAIMED);
    // What the scheduler does for pods that it places.
    let uid = c.kubectl(&["-n", "res", "get", "pod", "p", "-o", "jsonpath={.metadata.uid}"]);
    let status = format!(
        "{{\"status\": {{\"allocation\": {{\"devices\": {{\"results\": [{{\"request\": \"thing\", \"driver\": \"claims.e2e\", \"pool\": \"pool\", \"device\": \"one\"}}]}}}}, \"reservedFor\": [{{\"resource\": \"pods\", \"name\": \"p\", \"uid\": \"{uid}\"}}]}}}}"
    );
    let as_user = |user: &str, patch: &str| {
        let target = ["-n", "res", "patch", "resourceclaim", "claim", "--subresource=status", "--type=merge"];
        c.try_kubectl(&[&target[..], &["--as", user, "-p", patch]].concat(), "")
    };
    // Who may write the status may not for that allocate.
    c.apply(WRITERS);
    let refused = as_user("driver", &status);
    for part in ["status.allocation: Forbidden", "status.reservedFor: Forbidden", "resourceclaims/binding"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    let allocated = as_user("allocator", &status);
    assert!(allocated.ok, "{allocated:?}");
    let ready = r#"{"status": {"devices": [{"driver": "claims.e2e", "pool": "pool", "device": "one", "data": {"told": true}}]}}"#;
    let refused = as_user("allocator", ready);
    assert!(refused.stderr.contains("resourceclaims/driver"), "{refused:?}");
    let told = as_user("driver", ready);
    assert!(told.ok, "{told:?}");
    c.wait_pod_ready("res", "p");
    let thing = |container: &str| {
        c.kubectl(&["-n", "res", "exec", "p", "-c", container, "--", "sh", "-c", "echo $THING"])
    };
    assert_eq!((thing("c").as_str(), thing("d").as_str()), ("one\n", "\n"));
    c.kubectl(&["-n", "res", "delete", "pod", "p"]);
    // Without a grace period, the object goes before the node has cleaned up.
    eventually("the claim to be taken back", || {
        let calls = std::fs::read_to_string(&log).unwrap();
        if calls == "prepare res/claim\nunprepare res/claim\n" { Ok(()) } else { Err(calls) }
    });
    extended_resources(&c, &log);
}

/// The class stands for a resource: who asks for that gets its devices, by a claim that the scheduler makes.
fn extended_resources(c: &Cluster, log: &std::path::Path) {
    c.apply(EXTENDED);
    c.wait_pod_ready("res", "e");
    assert_eq!(exec(c, "e", "echo $THING"), "one\n");
    let told = "jsonpath={.status.extendedResourceClaimStatus.requestMappings[*].requestName} {.status.extendedResourceClaimStatus.resourceClaimName}";
    let told = c.kubectl(&["-n", "res", "get", "pod", "e", "-o", told]);
    let claim = told.strip_prefix("container-0-request-0 e-extended-resources-").expect(&told);
    let claim = format!("e-extended-resources-{claim}");
    eventually("what is used to be told", || {
        let used = c.kubectl(&["-n", "res", "get", "quota", "q", "-o", "jsonpath={.status.used}"]);
        let expected =
            r#"{"requests.e2e.example/extended":"2","things.deviceclass.resource.k8s.io/devices":"2"}"#;
        if used == expected { Ok(()) } else { Err(used) }
    });
    let refused = c.kubectl_fails(&["-n", "res", "create", "-f", "-"], ANOTHER);
    let requested =
        "requested: requests.e2e.example/extended=1,things.deviceclass.resource.k8s.io/devices=1,";
    assert!(refused.contains(&format!("exceeded quota: q, {requested}")), "{refused}");
    c.kubectl(&["-n", "res", "delete", "pod", "e"]);
    eventually("the claim to be taken back", || {
        let calls = std::fs::read_to_string(log).unwrap();
        if calls.ends_with(&format!("unprepare res/{claim}\n")) { Ok(()) } else { Err(calls) }
    });
    eventually("the claim to go", || {
        let claims = c.kubectl(&["-n", "res", "get", "resourceclaims", "-o", "name"]);
        if claims.contains(&claim) { Err(claims) } else { Ok(()) }
    });
}

#[test]
fn whole_cpus() {
    let c = Cluster::start_with(Options {
        kubelet: "cpuManagerPolicy: static\nreservedSystemCPUs: '0'\ntopologyManagerPolicy: single-numa-node\nmemoryManagerPolicy: Static\nevictionHard: {memory.available: 100Mi}\nreservedMemory: [{numaNode: 0, limits: {memory: 100Mi}}]\n".to_owned(),
        ..Options::default()
    });
    c.namespace("res");
    let allowed =
        |pod: &str| exec(&c, pod, "grep Cpus_allowed_list /proc/1/status").replace(char::is_whitespace, " ");
    c.apply(&pod("others", "{}"));
    c.wait_pod_ready("res", "others");
    let all = allowed("others");
    c.apply(&pod("own", "{limits: {cpu: 1, memory: 32Mi}}"));
    c.wait_pod_ready("res", "own");
    assert_eq!(allowed("own"), "Cpus_allowed_list: 1 ");
    let state = |name: &str| std::fs::read_to_string(c.root().join("kubelet").join(name)).unwrap();
    assert!(state("cpu_manager_state").contains("\"c\":\"1\""), "{}", state("cpu_manager_state"));
    assert!(state("memory_manager_state").contains("\"size\":33554432"), "{}", state("memory_manager_state"));
    // There is no other CPU that nobody has: a pod that goes past the scheduler is refused, and says why.
    let node = c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
    let greedy = pod("greedy", "{limits: {cpu: 1, memory: 32Mi}}");
    c.apply(&greedy.replace("spec: {", &format!("spec: {{nodeName: {node}, ")));
    eventually("a pod that cannot have a CPU is refused", || {
        let path = "jsonpath={.status.phase} {.status.reason}";
        let found = c.kubectl(&["-n", "res", "get", "pod", "greedy", "-o", path]);
        let refused = ["Failed TopologyAffinityError", "Failed OutOfcpu"];
        if refused.contains(&found.as_str()) { Ok(()) } else { Err(found) }
    });
    eventually("the others to be moved", || {
        let now = allowed("others");
        if now != all && !now.contains('1') { Ok(()) } else { Err(now) }
    });
    c.kubectl(&["-n", "res", "delete", "pod", "own"]);
    eventually("the others to be moved back", || {
        let now = allowed("others");
        if now == all { Ok(()) } else { Err(now) }
    });
}

#[test]
fn users_of_their_own() {
    let c = e2e::shared();
    c.namespace("res");
    for name in ["a", "b"] {
        c.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: res}}, spec: {{hostUsers: false, terminationGracePeriodSeconds: 0, containers: [{{name: c, image: 'busybox:1.36', command: [sh, -c, 'echo x > /v/f; sleep infinity'], volumeMounts: [{{name: v, mountPath: /v}}]}}], volumes: [{{name: v, emptyDir: {{}}}}]}}}}"
        ));
        c.wait_pod_ready("res", name);
    }
    let ids = |pod: &str| exec(c, pod, "id -u; stat -c %u /v/f; tr -s ' ' < /proc/self/uid_map");
    let (a, b) = (ids("a"), ids("b"));
    assert!(a.starts_with("0\n0\n 0 ") && a.ends_with(" 65536\n"), "{a}");
    assert_ne!(a, b, "each has users of its own");
    c.kubectl(&["delete", "namespace", "res", "--timeout=60s"]);
}
