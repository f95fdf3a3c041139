//! Services and names, with real traffic.

use e2e::{Cluster, eventually, shared};

/// A Deployment whose pods answer with their names, and a client pod.
fn web(c: &Cluster, namespace: &str, replicas: u32) {
    c.namespace(namespace);
    c.apply(&format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, 'mkdir /w; hostname > /w/index.html; touch /w/ready; httpd -f -p 8080 -h /w']
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /ready, port: http}}, periodSeconds: 1, failureThreshold: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {namespace}}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: headless, namespace: {namespace}}}
spec: {{clusterIP: None, selector: {{app: web}}, ports: [{{name: http, port: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{{name: main, image: busybox:1.36, command: [sleep, infinity]}}]
"
    ));
    c.kubectl(&["-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s"]);
    c.wait_pod_ready(namespace, "client");
}

/// What a pod gets from a web server. With nc: the wget of Debian's busybox-static crashes, wherever it runs.
fn fetch(c: &Cluster, namespace: &str, from: &str, host: &str, port: u16) -> Result<String, String> {
    let get = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {host} {port}");
    let output = c.try_kubectl(&["-n", namespace, "exec", from, "--", "sh", "-c", &get], "");
    match output.stdout.rsplit_once("\r\n\r\n") {
        Some((_, body)) if output.ok => Ok(body.to_owned()),
        _ => Err(format!("{output:?}")),
    }
}

#[test]
fn traffic_reaches_every_ready_pod_and_only_those() {
    let c = shared();
    web(c, "svc", 3);
    let ip = c.kubectl(&["-n", "svc", "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    let port = c.kubectl(&["-n", "svc", "get", "svc", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let node = c.kubectl(&[
        "get",
        "node",
        "-o",
        "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}",
    ]);
    // From a pod by cluster IP and by name; from the node by cluster IP and node port.
    for host in [ip.as_str(), "web", "web.svc.svc.cluster.local"] {
        eventually(host, || fetch(c, "svc", "client", host, 80));
    }
    for url in [format!("http://{ip}/"), format!("http://{node}:{port}/")] {
        let output = c.host.run("curl", &["-sS", "--max-time", "5", &url], "");
        assert!(output.stdout.starts_with("web-"), "{url}: {output:?}");
    }
    let mut seen = std::collections::HashSet::new();
    eventually("all three pods", || {
        seen.insert(c.host.run("curl", &["-sS", "--max-time", "5", &format!("http://{ip}/")], "").stdout);
        if seen.len() == 3 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    let pods =
        c.kubectl(&["-n", "svc", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"]);
    let unready = pods.split(' ').next().unwrap();
    c.kubectl(&["-n", "svc", "exec", unready, "--", "rm", "/w/ready"]);
    c.kubectl(&[
        "-n",
        "svc",
        "wait",
        "--for=condition=Ready=false",
        &format!("pod/{unready}"),
        "--timeout=60s",
    ]);
    eventually("an endpoint less", || {
        let ready = c.kubectl(&[
            "-n",
            "svc",
            "get",
            "endpoints",
            "web",
            "-o",
            "jsonpath={.subsets[0].addresses[*].ip}",
        ]);
        if ready.split(' ').count() == 2 { Ok(()) } else { Err(ready) }
    });
    for _ in 0..20 {
        let answer = c.host.run("curl", &["-sS", "--max-time", "5", &format!("http://{ip}/")], "").stdout;
        assert!(answer.starts_with("web-") && answer.trim() != unready, "{answer}");
    }
    c.kubectl(&["-n", "svc", "scale", "deployment/web", "--replicas=0"]);
    eventually("a refusal", || {
        let output = c.host.run("curl", &["-sS", "--max-time", "5", &format!("http://{ip}/")], "");
        if output.stderr.contains("Failed to connect") { Ok(()) } else { Err(format!("{output:?}")) }
    });
}

#[test]
fn names_are_answered() {
    let c = shared();
    web(c, "dns", 2);
    let resolv = c.kubectl(&["-n", "dns", "exec", "client", "--", "cat", "/etc/resolv.conf"]);
    assert!(
        resolv.contains("nameserver 10.96.0.10")
            && resolv.contains("search dns.svc.cluster.local svc.cluster.local cluster.local"),
        "{resolv}"
    );
    let lookup = |name: &str| {
        let output = c.try_kubectl(&["-n", "dns", "exec", "client", "--", "nslookup", name], "");
        if output.ok { Ok(output.stdout) } else { Err(output.stdout) }
    };
    let ip = c.kubectl(&["-n", "dns", "get", "svc", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    eventually("the service's address", || {
        lookup("web.dns.svc.cluster.local").and_then(|t| if t.contains(&ip) { Ok(()) } else { Err(t) })
    });
    assert!(lookup("kubernetes.default.svc.cluster.local").unwrap().contains("10.96.0.1"));
    let pods =
        c.kubectl(&["-n", "dns", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"]);
    let headless = eventually("the pods' addresses", || lookup("headless.dns.svc.cluster.local"));
    for pod in pods.split(' ') {
        assert!(headless.contains(pod), "{headless}");
    }
    let missing = lookup("missing.dns.svc.cluster.local").unwrap_err();
    assert!(missing.contains("NXDOMAIN"), "{missing}");
}

#[test]
fn pods_reach_each_other_and_themselves() {
    let c = shared();
    web(c, "pods-net", 1);
    let ip = c.kubectl(&[
        "-n",
        "pods-net",
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        "jsonpath={.items[0].status.podIP}",
    ]);
    assert!(fetch(c, "pods-net", "client", &ip, 8080).unwrap().starts_with("web-"));
    // A pod that is its own Service's only endpoint.
    let own = eventually("an answer of its own", || fetch(c, "pods-net", "deploy/web", "web", 80));
    assert!(own.starts_with("web-"), "{own}");
}
