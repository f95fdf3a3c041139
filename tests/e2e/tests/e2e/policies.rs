//! NetworkPolicies, with real pods.

use e2e::{Cluster, eventually, shared};

fn pod(namespace: &str, name: &str, labels: &str, command: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox:1.36
    command: [sh, -c, '{command}']
    ports: [{{name: http, containerPort: 8080}}]
---"
    )
}

const SERVE: &str = "mkdir /w; hostname > /w/index.html; httpd -p 8081 -h /w; httpd -f -p 8080 -h /w";

/// Whether a pod gets an answer.
fn reaches(c: &Cluster, namespace: &str, from: &str, host: &str, port: u16) -> bool {
    let get = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {host} {port} | grep -q 200");
    c.try_kubectl(&["-n", namespace, "exec", from, "--", "sh", "-c", &get], "").ok
}

#[track_caller]
fn check(c: &Cluster, namespace: &str, from: &str, (host, port): (&str, u16), expected: bool) {
    eventually(&format!("{namespace}/{from} to {host}:{port} being {expected}"), || {
        if reaches(c, namespace, from, host, port) == expected { Ok(()) } else { Err(String::new()) }
    });
}

#[test]
fn policies_are_enforced_on_pods_and_through_services() {
    let c = shared();
    c.namespace("policy");
    c.namespace("policy-friends");
    c.kubectl(&["label", "namespace", "policy-friends", "team=friends"]);
    let sleep = "sleep infinity";
    c.apply(
        &[
            pod("policy", "server", "app: server", SERVE),
            pod("policy", "client", "app: client", sleep),
            pod("policy", "other", "app: other", sleep),
            pod("policy-friends", "friend", "app: friend", sleep),
            "
apiVersion: v1
kind: Service
metadata: {name: server, namespace: policy}
spec: {selector: {app: server}, ports: [{name: web, port: 80, targetPort: http}, {name: more, port: 81, targetPort: 8081}]}
"
            .to_owned(),
        ]
        .concat(),
    );
    for (namespace, name) in
        [("policy", "server"), ("policy", "client"), ("policy", "other"), ("policy-friends", "friend")]
    {
        c.wait_pod_ready(namespace, name);
    }
    let server = c.kubectl(&["-n", "policy", "get", "pod", "server", "-o", "jsonpath={.status.podIP}"]);
    let service = "server.policy.svc.cluster.local";
    check(c, "policy", "other", (service, 80), true);

    c.apply(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: policy}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{port: http}]
  - from: [{namespaceSelector: {matchLabels: {team: friends}}, podSelector: {matchLabels: {app: friend}}}]
    ports: [{port: 8080, endPort: 8081}]
",
    );
    check(c, "policy", "other", (&server, 8080), false);
    check(c, "policy", "other", (service, 80), false);
    check(c, "policy", "client", (&server, 8080), true);
    check(c, "policy", "client", (service, 80), true);
    check(c, "policy", "client", (service, 81), false);
    check(c, "policy-friends", "friend", (service, 81), true);
    // The node's own processes, as probes are, are never kept out.
    let output = c.host.run("curl", &["-sS", "--max-time", "5", &format!("http://{server}:8081/")], "");
    assert_eq!(output.stdout.trim(), "server", "{output:?}");
    // Labels decide, also of pods that run already.
    c.kubectl(&["-n", "policy", "label", "pod", "other", "app=client", "--overwrite"]);
    check(c, "policy", "other", (&server, 8080), true);
    c.kubectl(&["label", "namespace", "policy-friends", "team-"]);
    check(c, "policy-friends", "friend", (service, 81), false);

    // Nothing goes out but to the server; a new pod is bound from its first moment.
    c.apply(
        "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: out, namespace: policy}
spec:
  podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [server]}]}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: server}}}], ports: [{port: http}]}]
",
    );
    check(c, "policy", "client", (&server, 8080), true);
    let friend =
        c.kubectl(&["-n", "policy-friends", "get", "pod", "friend", "-o", "jsonpath={.status.podIP}"]);
    c.kubectl(&["-n", "policy-friends", "exec", "friend", "--", "sh", "-c", "mkdir /w; httpd -p 8080 -h /w"]);
    check(c, "policy", "client", (&friend, 8080), false);
    let early = format!("nc -w 2 {friend} 8080 </dev/null && echo leaked; echo done");
    c.apply(&pod("policy", "early", "app: client", &format!("{early}; sleep infinity")));
    c.wait_pod_ready("policy", "early");
    eventually("the early pod's attempt", || {
        let log = c.kubectl(&["-n", "policy", "logs", "early"]);
        if log.contains("done") { Ok(()) } else { Err(log) }
    });
    let log = c.kubectl(&["-n", "policy", "logs", "early"]);
    assert!(!log.contains("leaked"), "{log}");
    c.kubectl(&["-n", "policy", "delete", "networkpolicy", "server", "out"]);
    check(c, "policy", "client", (service, 81), true);
    check(c, "policy-friends", "friend", (service, 81), true);
}
