//! What a node does by itself: static pods, logs that stay small, room that is made, ports and disks it lends.

use e2e::{Cluster, Options, eventually, shared};

fn with_kubelet(kubelet: &str) -> Cluster {
    Cluster::start_with(Options { kubelet: kubelet.to_owned(), ..Options::default() })
}

fn field(c: &Cluster, namespace: &str, pod: &str, path: &str) -> String {
    c.try_kubectl(&["-n", namespace, "get", "pod", pod, "-o", &format!("jsonpath={{{path}}}")], "").stdout
}

#[test]
fn static_pods_are_mirrored() {
    let c = Cluster::start_with(Options {
        kubelet: "staticPodPath: @/manifests\n".to_owned(),
        prepare: "mkdir manifests".to_owned(),
        ..Options::default()
    });
    let manifest = |word: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, labels: {{word: {word}}}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers: [{{name: main, image: 'busybox:1.36', command: [sh, -c, 'echo {word}; sleep infinity']}}]\n"
        )
    };
    let name = format!("web-{}", c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]));
    let get = |path: &str| field(&c, "default", &name, path);
    let container = || get(".status.containerStatuses[0].containerID");
    let ready = |word: &str| {
        eventually("the mirror to be ready", || {
            let state = get(".metadata.labels.word} {.status.conditions[?(@.type=='Ready')].status");
            let wanted = format!("{word} True");
            if state == wanted { Ok(()) } else { Err(format!("{state}\n{}", c.log())) }
        });
    };

    c.host.file("manifests/web.yaml", &manifest("one"));
    ready("one");
    assert_eq!(get(".metadata.ownerReferences[0].kind"), "Node");
    assert_eq!(c.kubectl(&["logs", &name]), "one\n");
    assert_eq!(c.kubectl(&["exec", &name, "--", "echo", "here"]), "here\n");

    // Deleting the mirror deletes the mirror only.
    let (uid, id) = (get(".metadata.uid"), container());
    c.kubectl(&["delete", "pod", &name, "--wait=false"]);
    eventually("another mirror", || {
        let now = get(".metadata.uid");
        if !now.is_empty() && now != uid { Ok(()) } else { Err(now) }
    });
    ready("one");
    assert_eq!(container(), id, "the container runs on");

    c.host.file("manifests/web.yaml", &manifest("two"));
    ready("two");
    assert_ne!(container(), id);

    std::fs::remove_file(c.host.directory().join("manifests/web.yaml")).unwrap();
    eventually("no mirror", || match get(".metadata.name").as_str() {
        "" => Ok(()),
        left => Err(left.to_owned()),
    });
    eventually("no shim", || {
        let shims = c.host.run("pgrep", &["-f", "corten-shim"], "");
        if shims.ok { Err(shims.stdout) } else { Ok(()) }
    });
}

#[test]
fn logs_are_rotated() {
    let c =
        with_kubelet("containerLogMaxSize: 20Ki\ncontainerLogMaxFiles: 3\ncontainerLogMonitorInterval: 3s\n");
    c.namespace("rotate");
    let line = "x".repeat(80);
    c.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: rotate}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: main, image: 'busybox:1.36', command: [sh, -c, 'i=0; while :; do i=$((i+1)); echo $i {line}; test $((i % 50)) = 0 && sleep 0.1; done']}}]}}}}"
    ));
    c.wait_pod_ready("rotate", "p");
    let logs = c.root().join("kubelet/logs/pods");
    let files = || {
        let output = c.host.run("find", &[logs.to_str().unwrap(), "-type", "f", "-printf", "%f\n"], "");
        let mut files: Vec<String> = output.stdout.lines().map(str::to_owned).collect();
        files.sort();
        files
    };
    // The newest is open, the one before is still plain, older ones are compressed.
    eventually("old logs, one of them compressed", || {
        let files = files();
        let compressed = files.iter().filter(|name| name.ends_with(".gz")).count();
        if files.len() == 3 && compressed == 1 { Ok(()) } else { Err(format!("{files:?}\n{}", c.log())) }
    });
    let last = || {
        let text = c.kubectl(&["-n", "rotate", "logs", "p", "--tail=1"]);
        text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    let seen = last();
    eventually("the log goes on", || if last() > seen { Ok(()) } else { Err(seen.to_string()) });
    assert!(files().len() <= 3, "{:?}", files());
}

/// Answers every call with a health check's answer, by hand: Python has no gRPC by itself.
const HEALTH_SERVER: &str = r#"
import os, socket, struct, threading
def frame(kind, flags, stream, data): return struct.pack('>I', len(data))[1:] + bytes([kind, flags]) + struct.pack('>I', stream) + data
def text(s): return bytes([len(s)]) + s.encode()
def header(name, value): return b'\x00' + text(name) + text(value)
def exactly(c, n):
    data = b''
    while len(data) < n:
        more = c.recv(n - len(data))
        if not more: raise EOFError
        data += more
    return data
def serve(c):
    try:
        exactly(c, 24)
        c.sendall(frame(4, 0, 0, b''))
        while True:
            head = exactly(c, 9)
            length, kind, flags, stream = int.from_bytes(head[:3], 'big'), head[3], head[4], int.from_bytes(head[5:], 'big')
            exactly(c, length)
            if kind == 4 and not flags & 1: c.sendall(frame(4, 1, 0, b''))
            if kind in (0, 1) and flags & 1:
                status = 2 if os.path.exists('/tmp/unhealthy') else 1
                c.sendall(frame(1, 4, stream, b'\x88' + header('content-type', 'application/grpc')))
                c.sendall(frame(0, 0, stream, b'\x00\x00\x00\x00\x02\x08' + bytes([status])))
                c.sendall(frame(1, 5, stream, header('grpc-status', '0')))
    except (EOFError, OSError): pass
listener = socket.create_server(('', 9000))
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

#[test]
fn grpc_probes() {
    let c = shared();
    c.namespace("grpc");
    let script = c.host.file("health.py", HEALTH_SERVER);
    c.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: p, namespace: grpc}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox:1.36
    command: [chroot, /host, /usr/bin/python3, {}]
    readinessProbe: {{grpc: {{port: 9000, service: any}}, periodSeconds: 1, failureThreshold: 1}}
    volumeMounts: [{{name: host, mountPath: /host}}, {{name: tmp, mountPath: /host/tmp/pod}}]
  volumes: [{{name: host, hostPath: {{path: /}}}}, {{name: tmp, emptyDir: {{}}}}]
",
        script.display()
    ));
    c.wait_pod_ready("grpc", "p");
    c.kubectl(&["-n", "grpc", "exec", "p", "--", "touch", "/host/tmp/unhealthy"]);
    c.kubectl(&["-n", "grpc", "wait", "--for=condition=Ready=false", "--timeout=60s", "pod/p"]);
    c.kubectl(&["-n", "grpc", "exec", "p", "--", "rm", "/host/tmp/unhealthy"]);
    c.wait_pod_ready("grpc", "p");
    let described = c.kubectl(&["-n", "grpc", "describe", "pod", "p"]);
    assert!(
        described.contains("Readiness probe failed: service unhealthy (responded with \"NOT_SERVING\")"),
        "{described}"
    );
}

#[test]
fn claims_are_directories_of_the_node() {
    let c = shared();
    c.namespace("claims");
    let node = c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
    let dir = |name: &str| {
        let path = c.host.directory().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path.display().to_string()
    };
    let volume = |name: &str, source: &str| {
        format!(
            "
apiVersion: v1
kind: PersistentVolume
metadata: {{name: {name}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: manual
  claimRef: {{namespace: claims, name: {name}}}
  {source}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: claims}}
spec: {{storageClassName: manual, volumeName: {name}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}
---
"
        )
    };
    let local = format!(
        "local: {{path: {}}}\n  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{node}]}}]}}]}}}}",
        dir("local-volume")
    );
    c.apply(
        &(volume("on-host-path", &format!("hostPath: {{path: {}}}", dir("host-volume")))
            + &volume("on-local", &local)),
    );
    let pod = |name: &str, command: &str| {
        c.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: claims}}
spec:
  restartPolicy: Never
  securityContext: {{fsGroup: 2345}}
  containers:
  - {{name: main, image: 'busybox:1.36', command: [sh, -c, '{command}'], volumeMounts: [{{name: h, mountPath: /h}}, {{name: l, mountPath: /l}}]}}
  volumes:
  - {{name: h, persistentVolumeClaim: {{claimName: on-host-path}}}}
  - {{name: l, persistentVolumeClaim: {{claimName: on-local}}}}
"
        ));
        eventually("the pod to end", || match field(c, "claims", name, ".status.phase").as_str() {
            "Succeeded" => Ok(()),
            _ => Err(c.kubectl(&["-n", "claims", "describe", "pod", name])),
        });
        c.kubectl(&["-n", "claims", "logs", name])
    };
    pod("writer", "echo h > /h/f; echo l > /l/f");
    assert_eq!(pod("reader", "cat /h/f /l/f; stat -c %g /l"), "h\nl\n2345\n");
    assert_eq!(std::fs::read_to_string(c.host.directory().join("local-volume/f")).unwrap(), "l\n");
}

#[test]
fn ports_of_the_node_lead_to_pods() {
    let c = shared();
    c.namespace("hostport");
    c.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: hostport}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, 'mkdir /w; echo by-host-port > /w/index.html; httpd -f -p 8080 -h /w']
    ports: [{containerPort: 8080, hostPort: 18080}]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
",
    );
    c.wait_pod_ready("hostport", "p");
    let address = field(c, "hostport", "p", ".status.hostIP");
    let ask = || c.host.run("curl", &["-sS", "--max-time", "10", &format!("http://{address}:18080/")], "");
    let answer = ask();
    assert_eq!(answer.stdout, "by-host-port\n", "{answer:?}");
    c.kubectl(&["-n", "hostport", "delete", "pod", "p"]);
    eventually("the port to be given back", || if ask().ok { Err("it answers".to_owned()) } else { Ok(()) });
}

#[test]
fn unused_images_make_room() {
    let c = with_kubelet(
        "evictionHard: {nodefs.available: 100%}\nimageMinimumGCAge: 1ms\nimageGCHighThresholdPercent: 1\nimageGCLowThresholdPercent: 0\n",
    );
    eventually("the unused image to go", || {
        let list = c.corten(&["image", "list"]).stdout;
        if list.contains("busybox") { Err(format!("{list}\n{}", c.log())) } else { Ok(()) }
    });
    c.kubectl(&["wait", "--for=condition=DiskPressure", "node", "--all", "--timeout=60s"]);
}

#[test]
fn pods_are_evicted_when_memory_is_short() {
    let c = with_kubelet("evictionHard: {memory.available: 1000Gi}\n");
    c.kubectl(&["wait", "--for=condition=MemoryPressure", "node", "--all", "--timeout=60s"]);
    c.namespace("evict");
    c.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: evict}
spec:
  tolerations: [{operator: Exists}]
  containers: [{name: main, image: 'busybox:1.36', command: [sleep, infinity]}]
",
    );
    eventually("the eviction", || match field(&c, "evict", "p", ".status.phase} {.status.reason").as_str() {
        "Failed Evicted" => Ok(()),
        other => Err(format!("{other}\n{}", c.log())),
    });
    let message = field(&c, "evict", "p", ".status.message");
    assert!(message.starts_with("The node was low on resource: memory."), "{message}");
    let condition = ".status.conditions[?(@.type=='DisruptionTarget')].reason";
    assert_eq!(field(&c, "evict", "p", condition), "TerminationByKubelet");
}

/// Control groups of the second version, as most machines have them. (This one lends it no controllers, so there
/// are no limits to be seen.)
#[test]
fn pods_run_on_a_unified_hierarchy() {
    let c = Cluster::start_with(Options {
        prepare: "umount -R -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup".to_owned(),
        ..Options::default()
    });
    c.namespace("unified");
    c.apply("{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: unified}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: 'busybox:1.36', command: [sleep, infinity]}]}}");
    c.wait_pod_ready("unified", "p");
    let exec = |command: &str| c.kubectl(&["-n", "unified", "exec", "p", "--", "sh", "-c", command]);
    // A namespace of its own: it sees itself at the root, and nothing above.
    assert_eq!(exec("cat /proc/self/cgroup | grep ^0:"), "0::/\n");
    assert_eq!(
        exec("test -e /sys/fs/cgroup/cgroup.procs && touch /sys/fs/cgroup/x 2>/dev/null || echo kept"),
        "kept\n"
    );
    // Devices are filtered by a program of ours.
    assert_eq!(exec("echo x > /dev/null && echo open"), "open\n");
    assert_eq!(exec("mknod /tmp/d b 1 0 && head -c 1 /tmp/d >/dev/null 2>&1 || echo refused"), "refused\n");
    let group =
        c.host.run("sh", &["-c", &format!("find /sys/fs/cgroup{} -name 'pod*'", c.host.cgroup())], "");
    assert!(group.stdout.contains("/kubepods/besteffort/pod"), "{group:?}");
    c.kubectl(&["-n", "unified", "delete", "pod", "p", "--timeout=60s"]);
    eventually("no group left", || {
        let group =
            c.host.run("sh", &["-c", &format!("find /sys/fs/cgroup{} -name 'pod*'", c.host.cgroup())], "");
        if group.stdout.is_empty() { Ok(()) } else { Err(group.stdout) }
    });
}

#[test]
fn resources_change_while_a_container_runs() {
    let c = shared();
    c.namespace("resize");
    c.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: resize}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox:1.36
    command: [sleep, infinity]
    resources: {requests: {cpu: 100m, memory: 32Mi}, limits: {cpu: 200m, memory: 64Mi}}
",
    );
    c.wait_pod_ready("resize", "p");
    let resize = |cpu: &str| {
        let mut pod = c.get(&["-n", "resize", "pod", "p"]);
        pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] = cpu.into();
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = cpu.into();
        let path = "/api/v1/namespaces/resize/pods/p/resize";
        c.kubectl_with(&["replace", "--raw", path, "-f", "-"], &format!(" {pod}"));
    };
    let get = |path: &str| field(c, "resize", "p", path);
    resize("300m");
    eventually("the new limit in the status", || {
        let limit = get(".status.containerStatuses[0].resources.limits.cpu");
        if limit == "300m" { Ok(()) } else { Err(c.kubectl(&["-n", "resize", "describe", "pod", "p"])) }
    });
    let quota = "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null; true";
    let quota = c.kubectl(&["-n", "resize", "exec", "p", "--", "sh", "-c", quota]);
    assert!(quota.starts_with("30000"), "{quota}");
    assert_eq!(get(".status.containerStatuses[0].restartCount"), "0");
    assert_eq!(get(".status.containerStatuses[0].allocatedResources.cpu"), "300m");
    // More than the node has is told, and changes nothing.
    resize("1000");
    eventually("the refusal", || {
        let reason = get(".status.conditions[?(@.type=='PodResizePending')].reason");
        if reason == "Infeasible" { Ok(()) } else { Err(reason) }
    });
    assert_eq!(get(".status.containerStatuses[0].resources.limits.cpu"), "300m");
    resize("200m");
    eventually("the smaller limit", || {
        let state = get(".status.containerStatuses[0].resources.limits.cpu} {.status.conditions[*].type");
        if state.starts_with("200m") && !state.contains("Resize") { Ok(()) } else { Err(state) }
    });
}
