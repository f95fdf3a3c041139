//! Controllers: what keeps the cluster as it was asked to be.

use e2e::{eventually, shared};

use crate::kubectl::deployment;

#[test]
fn a_lost_pod_is_replaced() {
    let c = shared();
    c.namespace("replace");
    c.kubectl_with(&["-n", "replace", "apply", "-f", "-"], &deployment("web", 2));
    c.kubectl(&["-n", "replace", "rollout", "status", "deployment/web", "--timeout=60s"]);
    let names = || c.kubectl(&["-n", "replace", "get", "pods", "-o", "name"]);
    let before = names();
    let victim = before.lines().next().unwrap();
    c.kubectl(&["-n", "replace", "delete", victim]);
    eventually("two pods again", || {
        let now = names();
        if now.lines().count() == 2 && !now.contains(victim) { Ok(()) } else { Err(now) }
    });
}

#[test]
fn jobs_run_to_completion_or_failure() {
    let c = shared();
    c.namespace("jobs");
    c.apply("
apiVersion: batch/v1
kind: Job
metadata: {name: many, namespace: jobs}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox:1.36, command: [sh, -c, 'echo $JOB_COMPLETION_INDEX']}]}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: fails, namespace: jobs}
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox:1.36, command: ['false']}]}}
");
    c.kubectl(&["-n", "jobs", "wait", "--for=condition=Complete", "job/many", "--timeout=60s"]);
    assert_eq!(
        c.kubectl(&[
            "-n",
            "jobs",
            "get",
            "job",
            "many",
            "-o",
            "jsonpath={.status.succeeded} {.status.completedIndexes}"
        ]),
        "3 0-2"
    );
    c.kubectl(&["-n", "jobs", "wait", "--for=condition=Failed", "job/fails", "--timeout=60s"]);
    let reason = "jsonpath={.status.conditions[?(@.type=='Failed')].reason}";
    assert_eq!(c.kubectl(&["-n", "jobs", "get", "job", "fails", "-o", reason]), "BackoffLimitExceeded");
}

#[test]
fn a_namespace_goes_with_all_that_is_in_it() {
    let c = shared();
    c.namespace("doomed");
    c.kubectl_with(&["-n", "doomed", "apply", "-f", "-"], &deployment("web", 2));
    c.kubectl(&["-n", "doomed", "create", "configmap", "cm"]);
    c.kubectl(&["-n", "doomed", "rollout", "status", "deployment/web", "--timeout=60s"]);
    c.kubectl(&["delete", "namespace", "doomed", "--timeout=60s"]);
    let error = c.kubectl_fails(&["-n", "doomed", "create", "configmap", "late"], "");
    assert!(error.contains("namespaces \"doomed\" not found"), "{error}");
    assert_eq!(
        c.kubectl(&[
            "get",
            "pods",
            "-A",
            "-o",
            "jsonpath={.items[?(@.metadata.namespace=='doomed')].metadata.name}"
        ]),
        ""
    );
}

#[test]
fn every_namespace_has_its_account_and_authority() {
    let c = shared();
    c.namespace("accounts");
    assert!(
        c.kubectl(&["-n", "accounts", "get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data}"])
            .contains("BEGIN CERTIFICATE")
    );
    let token = c.kubectl(&["-n", "accounts", "create", "token", "default", "--duration=20m"]);
    let server = c.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let review = c.host.run(
        "curl",
        &[
            "-sSk",
            "-H",
            &format!("Authorization: Bearer {}", token.trim()),
            &format!("{server}/api/v1/namespaces/accounts/pods"),
        ],
        "",
    );
    assert!(
        review.stdout.contains("system:serviceaccount:accounts:default")
            && review.stdout.contains("Forbidden"),
        "{review:?}"
    );
}

#[test]
fn the_node_renews_its_lease() {
    let c = shared();
    let node = c.kubectl(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
    let renewed =
        || c.kubectl(&["-n", "kube-node-lease", "get", "lease", &node, "-o", "jsonpath={.spec.renewTime}"]);
    let first = eventually("a lease", || Some(renewed()).filter(|t| !t.is_empty()).ok_or_else(String::new));
    eventually("a renewal", || if renewed() != first { Ok(()) } else { Err(first.clone()) });
}
