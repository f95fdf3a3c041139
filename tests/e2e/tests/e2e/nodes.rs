//! `corten cluster`: three nodes on one machine, what flows between them, a node that is lost and comes back, and that
//! nothing is left.

use std::process::Stdio;

use e2e::{Cluster, eventually, repository};
use serde_json::Value;

const WEB: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: nodes}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, 'mkdir /w; echo $NODE > /w/index.html; httpd -p 8080 -h /w; echo on $NODE; exec sleep infinity']
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: nodes}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}
";

const MOVING: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: moving, namespace: nodes}
spec:
  replicas: 2
  selector: {matchLabels: {app: moving}}
  template:
    metadata: {labels: {app: moving}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: moving}}}
      containers:
      - name: main
        image: extra:1
        imagePullPolicy: Never
        command: [sh, -c, 'mkdir /w; echo ok > /w/index.html; trap \"sleep 2; exit 0\" TERM; httpd -p 8080 -h /w; while :; do sleep 0.1; done']
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}
        lifecycle: {preStop: {exec: {command: [sleep, '2']}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: moving, namespace: nodes}
spec: {minAvailable: 1, selector: {matchLabels: {app: moving}}}
---
apiVersion: v1
kind: Service
metadata: {name: moving, namespace: nodes}
spec: {selector: {app: moving}, ports: [{port: 80, targetPort: 8080}]}
";

/// A pod of each node, with the node's name and the pod's address.
fn web_pods(c: &Cluster) -> Vec<(String, String, String)> {
    let pods = c.get(&["-n", "nodes", "pods", "-l", "app=web"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pod = |pod: &Value| {
        (text(&pod["metadata"]["name"]), text(&pod["spec"]["nodeName"]), text(&pod["status"]["podIP"]))
    };
    pods["items"].as_array().unwrap().iter().map(pod).collect()
}

/// `get HOST PORT` prints the page, and fails where there is none. The wget of a static busybox crashes on names.
const GET: &str = "get() { page=$(printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 $1 $2 | tail -n 1); [ -n \"$page\" ] && echo $page; }; ";

fn exec(c: &Cluster, pod: &str, script: &str) -> String {
    c.kubectl(&["-n", "nodes", "exec", pod, "--", "sh", "-c", &format!("{GET}{script}")])
}

/// From the machine that has the cluster.
fn outside(c: &Cluster, url: &str) -> Result<String, String> {
    let output = c.host.run("curl", &["-sSf", "-m", "5", url], "");
    if output.ok { Ok(output.stdout.trim().to_owned()) } else { Err(output.stderr) }
}

/// By the name that `corten cluster` gave it.
fn cluster(c: &Cluster, arguments: &[&str]) -> String {
    let output = c.corten(&[&["cluster"], arguments].concat());
    assert!(output.ok, "{arguments:?}: {output:?}");
    output.stdout
}

fn addresses(c: &Cluster) -> Vec<String> {
    let nodes = c.get(&["nodes"]);
    let address = |node: &Value| node["status"]["addresses"][0]["address"].as_str().unwrap().to_owned();
    nodes["items"].as_array().unwrap().iter().map(address).collect()
}

fn is_ready(c: &Cluster, node: &str) -> String {
    let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status} {.spec.taints[*].key}";
    c.kubectl(&["get", "node", node, "-o", path])
}

#[test]
fn three_nodes() {
    let kubelet = std::env::temp_dir().join(format!("corten-kubelet-{}.yaml", std::process::id()));
    std::fs::write(&kubelet, "nodeLeaseDurationSeconds: 4\n").unwrap();
    let c = Cluster::create(&[
        "--nodes=3",
        "--server-arg=--node-monitor-grace-period=6s",
        "--kubelet-config",
        kubelet.to_str().unwrap(),
    ]);
    std::fs::remove_file(&kubelet).unwrap();
    c.namespace("nodes");
    c.apply(WEB);
    c.kubectl(&["-n", "nodes", "rollout", "status", "daemonset/web", "--timeout=60s"]);
    let pods = web_pods(&c);
    assert_eq!(pods.len(), 3, "{pods:?}");
    traffic(&c, &pods);
    serving_certificates(&c);
    streams(&c, &pods);
    commands(&c);
    tokens(&c);
    c.apply(MOVING);
    c.kubectl(&["-n", "nodes", "rollout", "status", "deployment/moving", "--timeout=60s"]);
    rolling_update(&c, &pods[0].0);
    drain(&c);
    lost_and_found(&c);
    gone(&c);
}

/// What nodes that have joined serve with is signed by the cluster, for their own names and addresses, without anybody
/// having to approve it; API servers know, and verify it from then on.
fn serving_certificates(c: &Cluster) {
    let authority = c.kubectl(&[
        "-n",
        "kube-system",
        "get",
        "configmap",
        "kube-root-ca.crt",
        "-o",
        "jsonpath={.data.ca\\.crt}",
    ]);
    let file = std::env::temp_dir().join(format!("corten-serving-{}.crt", std::process::id()));
    std::fs::write(&file, authority).unwrap();
    for worker in ["control-plane", "worker", "worker2"].map(|node| format!("{}-{node}", c.name())) {
        let mut address = String::new();
        eventually("the cluster to have signed what the node serves with", || {
            let node = c.get(&["node", &worker]);
            address = node["status"]["addresses"][0]["address"].as_str().unwrap_or_default().to_owned();
            let said = &node["metadata"]["annotations"]["corten.dev/serving-certificate"];
            if said == "signed" { Ok(()) } else { Err(said.to_string()) }
        });
        let url = format!("https://{address}:10250/healthz");
        let arguments = ["-sS", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"];
        let asked = c.host.run("curl", &[&arguments[..], &[file.to_str().unwrap(), &url]].concat(), "");
        assert_eq!(asked.stdout, "401", "{asked:?}");
        let through = c.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{worker}/proxy/healthz")]);
        assert_eq!(through, "ok");
    }
    std::fs::remove_file(&file).unwrap();
}

/// From each pod to each: by address, by Service and name, by a port of each node; and from outside.
fn traffic(c: &Cluster, pods: &[(String, String, String)]) {
    let nodes = addresses(c);
    for (pod, ..) in pods {
        for (_, node, ip) in pods {
            assert_eq!(exec(c, pod, &format!("get {ip} 8080")).trim(), node);
        }
        let found = exec(c, pod, "nslookup web.nodes.svc.cluster.local");
        assert!(found.contains("web.nodes.svc.cluster.local"), "{found}");
        // As many requests as make it all but certain that another node has answered some.
        let answers = exec(c, pod, "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do get web 80; done");
        let mut answers: Vec<&str> = answers.lines().collect();
        assert_eq!(answers.len(), 12);
        answers.sort_unstable();
        answers.dedup();
        assert!(answers.len() > 1, "one endpoint alone has answered: {answers:?}");
        for node in &nodes {
            exec(c, pod, &format!("get {node} 30080"));
        }
    }
    for node in &nodes {
        let page = outside(c, &format!("http://{node}:30080"));
        assert!(page.as_ref().is_ok_and(|page| page.starts_with(c.name())), "{page:?}");
    }
}

/// What the API server leads to the kubelets.
fn streams(c: &Cluster, pods: &[(String, String, String)]) {
    for (index, (pod, node, _)) in pods.iter().enumerate() {
        assert_eq!(c.kubectl(&["-n", "nodes", "logs", pod]), format!("on {node}\n"));
        assert_eq!(exec(c, pod, "echo $NODE").trim(), node);
        let port = 18080 + index;
        let mut forward = c.kubectl_command();
        forward.args(["-n", "nodes", "port-forward", pod, &format!("{port}:8080")]);
        let mut forward = forward.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("a forwarded port", || {
            let page = outside(c, &format!("http://127.0.0.1:{port}"))?;
            if page == *node { Ok(()) } else { Err(page) }
        });
        let _ = forward.kill();
        let _ = forward.wait();
    }
}

fn commands(c: &Cluster) {
    let listed = cluster(c, &["list"]);
    assert!(listed.contains(c.name()) && listed.contains("Running"), "{listed}");
    let config = cluster(c, &["get", "kubeconfig", "--name", c.name()]);
    assert!(config.contains("https://127.0.0.1:"), "{config}");
    let archive = c.host.directory().join("extra.tar");
    let made = c.host.run(
        repository().join("script/busybox-image").to_str().unwrap(),
        &["extra:1", archive.to_str().unwrap()],
        "",
    );
    assert!(made.ok, "{made:?}");
    let loaded = cluster(c, &["load", "image", archive.to_str().unwrap(), "--name", c.name()]);
    assert_eq!(loaded, "docker.io/library/extra:1\n");
    own_images(c, &archive);
    units(c);
    let logs = c.host.directory().join("logs");
    cluster(c, &["export", "logs", logs.to_str().unwrap(), "--name", c.name()]);
    for node in [format!("{}-control-plane", c.name()), format!("{}-worker", c.name())] {
        assert!(logs.join(&node).join("corten.log").exists() && logs.join(&node).join("pods").exists());
    }
    let again = c.corten(&["cluster", "create", c.name()]);
    assert!(!again.ok && again.stderr.contains("already"), "{again:?}");
    let clash = c.corten(&["cluster", "create", "clash", "--subnet", "198.18.0.0/24"]);
    assert!(
        !clash.ok && clash.stderr.contains("198.18.0.0/24") && clash.stderr.contains("--subnet"),
        "{clash:?}"
    );
    let worker = format!("{}-worker", c.name());
    assert_eq!(cluster(c, &["exec", &worker, "hostname"]).trim(), worker);
}

/// Images that the machine's own Corten has are given to nodes by their names.
fn own_images(c: &Cluster, archive: &std::path::Path) {
    let imported = c.corten(&["image", "import", archive.to_str().unwrap()]);
    assert!(imported.ok, "{imported:?}");
    let tagged = c.corten(&["image", "tag", "extra:1", "own:1"]);
    assert!(tagged.ok, "{tagged:?}");
    let loaded = cluster(c, &["load", "image", "own:1", "--name", c.name()]);
    assert_eq!(loaded, "docker.io/library/own:1\n");
    let none = c.corten(&["cluster", "load", "image", "none:1", "--name", c.name()]);
    assert!(!none.ok && none.stderr.contains("none:1"), "{none:?}");
    // What is looked for at the end is what clusters leave behind.
    std::fs::remove_dir_all(c.root().join("runtime")).unwrap();
}

/// systemd takes the units that are made for it.
fn units(c: &Cluster) {
    for arguments in [
        &["up"][..],
        &["server", "--tls-san=a.example,b.example"],
        &["node", "--server=https://192.0.2.1:6443", "--node-labels=a=b%c"],
        &["runtime", "--cni-conf-dir=/etc/cni/net.d"],
    ] {
        let unit = c.corten(&[&["systemd", "print"], arguments].concat());
        assert!(unit.ok, "{unit:?}");
        let file = c.host.file(&format!("corten-{}.service", arguments[0]), &unit.stdout);
        let verified = c.host.run("systemd-analyze", &["verify", file.to_str().unwrap()], "");
        assert!(verified.ok && !verified.stderr.contains("corten-"), "{arguments:?}: {verified:?}");
    }
}

/// Made on a server, a token is printed with what pins the cluster; a machine that finds another cluster does not join.
fn tokens(c: &Cluster) {
    let (server, worker) = (format!("{}-control-plane", c.name()), format!("{}-worker", c.name()));
    let corten = e2e::corten().display().to_string();
    let made = cluster(c, &["exec", &server, &corten, "token", "create", "--ttl=1h", "--print-join-command"]);
    let words: Vec<&str> = made.split_ascii_whitespace().collect();
    assert_eq!(&words[..2], ["corten", "node"], "{made}");
    let token = words.iter().find_map(|word| word.strip_prefix("--token=")).expect("a token");
    let (id, _) = token.split_once('.').expect("an id");
    assert!(cluster(c, &["exec", &server, &corten, "token", "list"]).contains(token));

    let url = words.iter().find(|word| word.starts_with("--server=")).expect("a server");
    let wrong = format!("--discovery-token-ca-cert-hash=sha256:{}", "0".repeat(64));
    let join = |more: &[&str]| {
        let usual = ["exec", &worker, &corten, "--root-dir=/tmp/a", "--run-dir=/tmp/b", "node", url];
        c.corten(&[&["cluster"], &usual[..], more].concat())
    };
    let refused = join(&[&format!("--token={token}"), &wrong]);
    assert!(!refused.ok && refused.stderr.contains("not to be trusted"), "{refused:?}");
    let refused = join(&[&format!("--token={token}")]);
    assert!(!refused.ok && refused.stderr.contains("--discovery-token-ca-cert-hash"), "{refused:?}");

    cluster(c, &["exec", &server, &corten, "token", "delete", id]);
    assert!(!cluster(c, &["exec", &server, &corten, "token", "list"]).contains(token));
}

/// Requests go on while every pod behind the Service is replaced; none is lost.
fn rolling_update(c: &Cluster, from: &str) {
    let script = "ok=0; lost=0; while [ ! -e /tmp/stop ]; do if get moving 80 >/dev/null; then ok=$((ok+1)); else lost=$((lost+1)); fi; done; rm /tmp/stop; echo $ok $lost";
    let mut asking = c.kubectl_command();
    asking.args(["-n", "nodes", "exec", from, "--", "sh", "-c", &format!("{GET}mkdir -p /tmp; {script}")]);
    let asking = asking.stdout(Stdio::piped()).spawn().unwrap();
    c.kubectl(&["-n", "nodes", "rollout", "restart", "deployment/moving"]);
    c.kubectl(&["-n", "nodes", "rollout", "status", "deployment/moving", "--timeout=60s"]);
    exec(c, from, "touch /tmp/stop");
    let output = asking.wait_with_output().unwrap();
    let counted = String::from_utf8_lossy(&output.stdout).into_owned();
    let (ok, lost) = counted.trim().split_once(' ').unwrap_or_else(|| panic!("{counted:?}"));
    assert!(ok.parse::<u32>().unwrap() > 20 && lost == "0", "answered and lost: {counted}");
}

fn drain(c: &Cluster) {
    let worker = format!("{}-worker2", c.name());
    let kubeconfig = c.kubeconfig().display().to_string();
    let drained = c.corten(&["node", "drain", &worker, "--kubeconfig", &kubeconfig, "--timeout=60s"]);
    assert!(drained.ok && drained.stdout.contains("drained"), "{drained:?}");
    let selector = format!("spec.nodeName={worker}");
    let left = c.kubectl(&["-n", "nodes", "get", "pods", "-l", "app=moving", "--field-selector", &selector]);
    assert_eq!(left, "", "pods that no DaemonSet has are elsewhere");
    let back = c.corten(&["node", "uncordon", &worker, "--kubeconfig", &kubeconfig]);
    assert!(back.ok, "{back:?}");
}

/// A node without its network: not ready, its pods replaced, Services without it; then all is as it was.
fn lost_and_found(c: &Cluster) {
    let worker = format!("{}-worker", c.name());
    c.kubectl(&["-n", "nodes", "rollout", "restart", "deployment/moving"]);
    c.kubectl(&["-n", "nodes", "rollout", "status", "deployment/moving", "--timeout=60s"]);
    cluster(c, &["cut", &worker]);
    eventually("an unreachable node", || {
        let found = is_ready(c, &worker);
        let wanted = found.starts_with("Unknown") && found.contains("node.kubernetes.io/unreachable");
        if wanted { Ok(()) } else { Err(found) }
    });
    eventually("pods elsewhere", || {
        let pods = c.get(&["-n", "nodes", "pods", "-l", "app=moving"]);
        let ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            pod["spec"]["nodeName"] != worker.as_str()
                && conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
        };
        let count = pods["items"].as_array().unwrap().iter().filter(ready).count();
        if count == 2 { Ok(()) } else { Err(format!("{count} pods are ready elsewhere")) }
    });
    eventually("a Service without the lost node's endpoints", || {
        let slices = c.get(&["-n", "nodes", "endpointslices", "-l", "kubernetes.io/service-name=web"]);
        let endpoints = slices["items"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        let bad =
            endpoints.iter().find(|e| e["nodeName"] == worker.as_str() && e["conditions"]["ready"] == true);
        bad.map_or(Ok(()), |endpoint| Err(endpoint.to_string()))
    });
    let (asker, ..) = web_pods(c).into_iter().find(|(_, node, _)| *node != worker).unwrap();
    exec(c, &asker, "for i in 1 2 3 4 5 6 7 8 9 10; do get web 80 || exit 1; done");
    cluster(c, &["join", &worker]);
    eventually("a node that is back", || {
        let found = is_ready(c, &worker);
        if found.trim_end() == "True" { Ok(()) } else { Err(found) }
    });
    // What it did not hear of has ended there too.
    eventually("no pods of before", || {
        let pods = c.get(&["-n", "nodes", "pods", "-l", "app=moving"]);
        let count = pods["items"].as_array().unwrap().len();
        if count == 2 { Ok(()) } else { Err(format!("{count} pods")) }
    });
    c.kubectl(&["-n", "nodes", "rollout", "status", "daemonset/web", "--timeout=60s"]);
}

/// Deleted, it is as if it had never been.
fn gone(c: &Cluster) {
    let host = &c.host;
    cluster(c, &["delete", c.name()]);
    let said = |program: &str, arguments: &[&str]| host.run(program, arguments, "").stdout;
    let links = said("ip", &["-brief", "link"]);
    assert!(!links.contains("ct"), "{links}");
    let rules = said("nft", &["list", "ruleset"]);
    assert_eq!(rules, "");
    let processes = said("ps", &["-e", "-o", "args"]);
    assert!(!processes.contains(c.name()), "{processes}");
    let mounts = said("cat", &["/proc/self/mountinfo"]);
    assert!(!mounts.contains("clusters"), "{mounts}");
    assert!(!c.root().exists(), "its directory is there yet");
    let config = std::fs::read_to_string(c.kubeconfig()).unwrap();
    assert!(!config.contains(c.name()), "{config}");
    let found = said("find", &["/sys/fs/cgroup", "-name", &format!("*{}*", c.name())]);
    assert_eq!(found, "");
    // A new host begins with what the machine has.
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    assert_eq!(said("cat", &[forwarding]), std::fs::read_to_string(forwarding).unwrap());
    let none = c.corten(&["cluster", "delete", c.name()]);
    assert!(!none.ok && none.stderr.contains("there is no cluster"), "{none:?}");
}

/// Labels, mounts, ports and networks as kind's configuration file says.
#[test]
fn kinds_file_is_taken() {
    // The test host has nothing that listens.
    let port = 18080;
    let file = std::env::temp_dir().join(format!("corten-kind-{}.yaml", std::process::id()));
    let text = format!(
        "kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
  labels: {{tier: first}}
  extraPortMappings: [{{containerPort: 30080, hostPort: {port}, listenAddress: 127.0.0.1}}]
  extraMounts: [{{hostPath: /etc/os-release, containerPath: /files/release, readOnly: true}}]
networking: {{podSubnet: 10.10.0.0/16, serviceSubnet: 10.11.0.0/16}}
kubeadmConfigPatches: [x]
"
    );
    std::fs::write(&file, text).unwrap();
    let c = Cluster::create(&["--config", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    let node = format!("{}-control-plane", c.name());
    assert_eq!(c.kubectl(&["get", "node", &node, "-o", "jsonpath={.metadata.labels.tier}"]), "first");
    assert!(cluster(&c, &["exec", &node, "cat", "/files/release"]).contains("NAME="));
    c.namespace("nodes");
    c.apply(WEB);
    c.kubectl(&["-n", "nodes", "rollout", "status", "daemonset/web", "--timeout=60s"]);
    let ip = c.kubectl(&["-n", "nodes", "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    assert!(ip.starts_with("10.11."), "{ip}");
    assert!(web_pods(&c)[0].2.starts_with("10.10."));
    eventually("a mapped port", || outside(&c, &format!("http://127.0.0.1:{port}")));
}
