//! The kubelet on a container runtime that is not ours: Debian's containerd, with runc and the CNI plugins.

use e2e::{Cluster, Options, eventually, repository};

/// Starts containerd in the host, with everything of its below the host's directory.
const PREPARE: &str = r#"
"$REPOSITORY/script/busybox-image" busybox:1.36 "$PWD/busybox.tar"
mkdir pause net.d
# What holds a sandbox is an image, too: it may be any that does nothing for long.
tar -C pause -xf busybox.tar
sed -i 's/"Cmd":\["sh"\]/"Entrypoint":["sleep","infinity"]/' pause/config.json
sed -i 's/busybox:1.36/pause:e2e/' pause/manifest.json
tar -C pause -cf pause.tar config.json layer.tar manifest.json
cat >config.toml <<TOML
version = 2
root = "$PWD/containerd"
state = "$PWD/containerd-state"
[grpc]
  address = "$PWD/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:e2e"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$PWD/net.d"
TOML
cat >net.d/10-e2e.conflist <<JSON
{"cniVersion": "0.4.0", "name": "e2e", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": {"type": "host-local",
   "dataDir": "$PWD/ipam", "ranges": [[{"subnet": "10.244.7.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
setsid containerd --config config.toml >containerd.log 2>&1 </dev/null &
n=0
until ctr -a "$PWD/containerd.sock" version >/dev/null 2>&1; do
  n=$((n + 1)); test $n -lt 100; sleep 0.1
done
for image in busybox pause; do ctr -a "$PWD/containerd.sock" -n k8s.io images import $image.tar; done
"#;

const PODS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: cm, namespace: cd}
data: {k: value}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: cd}
spec:
  terminationGracePeriodSeconds: 10
  initContainers:
  - {name: first, image: 'busybox:1.36', command: [sh, -c, 'echo made-before > /work/f'], volumeMounts: [{name: work, mountPath: /work}]}
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, 'cat /work/f; trap \"exit 0\" TERM; httpd -p 8080 -h /work; while :; do sleep 0.1; done']
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /f, port: 8080}, periodSeconds: 1}
    livenessProbe: {exec: {command: ['true']}, periodSeconds: 1}
    volumeMounts: [{name: work, mountPath: /work}, {name: cm, mountPath: /cm/k, subPath: k}]
  volumes:
  - {name: work, emptyDir: {}}
  - {name: cm, configMap: {name: cm}}
---
apiVersion: v1
kind: Pod
metadata: {name: crash, namespace: cd}
spec:
  containers: [{name: main, image: 'busybox:1.36', command: [sh, -c, 'echo why > /dev/termination-log; exit 3']}]
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: cd}
spec:
  restartPolicy: Never
  containers: [{name: main, image: 'busybox:1.36', command: [echo, done]}]
";

#[test]
fn pods_run_on_containerd() {
    let repository = repository().canonicalize().expect("it is there");
    let c = Cluster::start_with(Options {
        kubelet: "containerRuntimeEndpoint: unix://@/containerd.sock\n".to_owned(),
        prepare: format!("REPOSITORY={}\n{PREPARE}", repository.display()),
        ..Options::default()
    });
    let version =
        c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].status.nodeInfo.containerRuntimeVersion}"]);
    assert!(version.starts_with("containerd://"), "{version}");
    c.namespace("cd");
    c.apply(PODS);
    c.wait_pod_ready("cd", "web");
    let field = |pod: &str, path: &str| {
        c.kubectl(&["-n", "cd", "get", "pod", pod, "-o", &format!("jsonpath={{.status.{path}}}")])
    };
    let wanted = |what: &str, pod: &str, path: &str, expected: &str| {
        eventually(what, || {
            let found = field(pod, path);
            if found == expected { Ok(()) } else { Err(found) }
        });
    };
    assert_eq!(c.kubectl(&["-n", "cd", "logs", "web", "-c", "main"]), "made-before\n");
    assert_eq!(c.kubectl(&["-n", "cd", "exec", "web", "-c", "main", "--", "cat", "/cm/k"]), "value");
    assert!(field("web", "containerStatuses[0].containerID").starts_with("containerd://"));
    wanted("a completed pod", "done", "phase", "Succeeded");
    wanted("a pod that waits", "crash", "containerStatuses[0].state.waiting.reason", "CrashLoopBackOff");
    wanted("its last words", "crash", "containerStatuses[0].lastState.terminated.message", "why\n");
    let node = c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
    let summary = c.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")]);
    assert!(summary.contains("\"web\""), "{summary}");

    // A new kubelet finds everything as it is.
    let id = field("web", "containerStatuses[0].containerID");
    c.kill();
    c.restart();
    c.wait_pod_ready("cd", "web");
    assert_eq!(field("web", "containerStatuses[0].containerID"), id);
    assert_eq!(field("web", "containerStatuses[0].restartCount"), "0");

    c.kubectl(&["delete", "namespace", "cd", "--timeout=60s"]);
    let socket = c.host.directory().join("containerd.sock");
    // A pod that has ended goes from the API at once, and from the node as soon as the kubelet is told.
    eventually("containerd without containers", || {
        let list = ["-a", socket.to_str().unwrap(), "-n", "k8s.io", "containers", "list", "-q"];
        let left = c.host.run("ctr", &list, "").stdout;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}
