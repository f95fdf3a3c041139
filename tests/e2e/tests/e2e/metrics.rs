//! What nodes and pods use: `kubectl top`, and autoscaling by it.

use e2e::{eventually, shared};

const BUSY: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy, namespace: use}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: busybox:1.36
        command: [sh, -c, 'while :; do :; done']
        resources: {requests: {cpu: 20m}, limits: {cpu: 60m}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy, namespace: use}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
";

#[test]
fn what_is_used_is_told_and_scaled_by() {
    let c = shared();
    c.namespace("use");
    c.apply(BUSY);
    let top = |arguments: &[&str]| {
        eventually("figures", || {
            let out = c.try_kubectl(arguments, "");
            if out.ok && out.stdout.contains('m') { Ok(out.stdout) } else { Err(out.stdout + &out.stderr) }
        })
    };
    let nodes = top(&["top", "nodes", "--no-headers"]);
    // Name, CPU, its share, memory, its share.
    assert_eq!(nodes.split_whitespace().count(), 5, "{nodes}");
    let pods = top(&["-n", "use", "top", "pods", "-l", "app=busy", "--containers", "--no-headers"]);
    assert!(pods.lines().all(|line| line.starts_with("busy-") && line.contains("main")), "{pods}");
    assert!(c.kubectl_fails(&["-n", "use", "top", "pods", "none"], "").contains("NotFound"));
    let table = c.kubectl(&["-n", "use", "get", "podmetrics"]);
    assert!(table.starts_with("NAME") && table.contains("WINDOW"), "{table}");
    let explained = c.kubectl(&["explain", "podmetrics.containers"]);
    assert!(explained.contains("What each container uses"), "{explained}");
    // A reader of the namespace may know.
    c.kubectl(&["-n", "use", "create", "rolebinding", "view", "--clusterrole=view", "--user=reader"]);
    eventually("a reader's permission", || {
        let asked = c.try_kubectl(&["-n", "use", "top", "pods", "--as=reader"], "");
        if asked.ok { Ok(()) } else { Err(asked.stderr) }
    });
    let elsewhere = c.kubectl_fails(&["top", "nodes", "--as=reader"], "");
    assert!(elsewhere.contains("Forbidden"), "{elsewhere}");

    c.kubectl(&[
        "-n",
        "use",
        "wait",
        "--for=jsonpath={.status.desiredReplicas}=2",
        "hpa/busy",
        "--timeout=90s",
    ]);
    c.kubectl(&["-n", "use", "rollout", "status", "deployment/busy", "--timeout=60s"]);
    c.kubectl(&["delete", "namespace", "use"]);
}
