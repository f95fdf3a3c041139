//! Where pods go, and why they do not.

use e2e::{eventually, shared};

fn pod(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: scheduling}}, spec: {{terminationGracePeriodSeconds: 0, {spec} containers: [{{name: main, image: 'busybox:1.36', command: [sleep, infinity]}}]}}}}"
    )
}

#[test]
fn refusals_are_explained_and_end_with_their_cause() {
    let c = shared();
    c.namespace("scheduling");
    let message = |name: &str| {
        c.kubectl(&[
            "-n",
            "scheduling",
            "get",
            "pod",
            name,
            "-o",
            "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}",
        ])
    };
    let refused = |name: &str, why: &str| {
        eventually("a reason", || if message(name).contains(why) { Ok(()) } else { Err(message(name)) });
        let events = c.kubectl(&[
            "-n",
            "scheduling",
            "get",
            "events",
            "--field-selector",
            &format!("involvedObject.name={name},reason=FailedScheduling"),
            "-o",
            "jsonpath={.items[0].message}",
        ]);
        assert!(events.contains(why), "{events}");
    };
    c.apply(
        &pod("big", "x: y,")
            .replace("x: y,", "")
            .replace("command", "resources: {requests: {cpu: '1000'}}, command"),
    );
    refused("big", "0/1 nodes are available: 1 Insufficient cpu");

    c.apply(&pod("picky", "nodeSelector: {disk: ssd},"));
    refused("picky", "node affinity/selector");
    let node = c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
    c.kubectl(&["label", "node", &node, "disk=ssd"]);
    c.wait_pod_ready("scheduling", "picky");

    let ported = |name: &str| {
        pod(name, "").replace("command", "ports: [{containerPort: 80, hostPort: 8088}], command")
    };
    c.apply(&ported("port-a"));
    c.wait_pod_ready("scheduling", "port-a");
    c.apply(&ported("port-b"));
    refused("port-b", "didn't have free ports");
    c.kubectl(&["-n", "scheduling", "delete", "pod", "port-a", "--now"]);
    c.wait_pod_ready("scheduling", "port-b");
}

#[test]
fn taints_keep_pods_away_that_do_not_tolerate_them() {
    let c = e2e::Cluster::start();
    c.namespace("scheduling");
    let node = c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
    c.kubectl(&["taint", "node", &node, "dedicated=db:NoSchedule"]);
    c.apply(&pod("plain", ""));
    eventually("a refusal", || {
        let text = c.kubectl(&["-n", "scheduling", "describe", "pod", "plain"]);
        if text.contains("untolerated taint") { Ok(()) } else { Err(text) }
    });
    c.apply(&pod("tolerant", "tolerations: [{key: dedicated, operator: Exists}],"));
    c.wait_pod_ready("scheduling", "tolerant");
    c.kubectl(&["taint", "node", &node, "dedicated-"]);
    c.wait_pod_ready("scheduling", "plain");
    c.kubectl(&["cordon", &node]);
    c.kubectl(&["drain", &node, "--force", "--ignore-daemonsets", "--timeout=60s"]);
    assert_eq!(c.kubectl(&["-n", "scheduling", "get", "pods", "-o", "name"]), "");
    c.kubectl(&["uncordon", &node]);
}
