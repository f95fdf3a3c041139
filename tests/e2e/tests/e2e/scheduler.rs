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

/// A node that nobody runs: it can be given what it declares.
#[test]
fn pods_go_where_the_features_are_that_they_need() {
    let c = e2e::Cluster::start();
    c.namespace("scheduling");
    c.apply("{apiVersion: v1, kind: Node, metadata: {name: old, labels: {age: old}}}");
    let status = |status: &str| {
        c.kubectl(&["patch", "node", "old", "--subresource=status", "--type=merge", "-p", status]);
    };
    status(r#"{"status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "10"}}}"#);
    // A rule of restarting all containers is what takes the feature.
    let restarting = pod("restarting", "nodeSelector: {age: old}, tolerations: [{operator: Exists}], restartPolicy: Never,")
        .replace("command", "restartPolicy: Never, restartPolicyRules: [{action: RestartAllContainers, exitCodes: {operator: In, values: [42]}}], command");
    c.apply(&restarting);
    c.apply(&pod("plain", "nodeSelector: {age: old}, tolerations: [{operator: Exists}],"));
    let field = |name: &str, path: &str| {
        c.kubectl(&["-n", "scheduling", "get", "pod", name, "-o", &format!("jsonpath={path}")])
    };
    let bound = |name: &str| {
        eventually("a node", || match field(name, "{.spec.nodeName}") {
            node if node == "old" => Ok(()),
            node => Err(node),
        });
    };
    bound("plain");
    let unmet = "1 node declared features check failed - unsatisfied requirements: RestartAllContainersOnContainerExits";
    eventually("a reason", || {
        let message = field("restarting", "{.status.conditions[?(@.type=='PodScheduled')].message}");
        if message.contains(unmet) { Ok(()) } else { Err(message) }
    });
    status(r#"{"status": {"declaredFeatures": ["RestartAllContainersOnContainerExits"]}}"#);
    bound("restarting");
}
