//! kubectl, unmodified: reading, writing, patching, deleting, waiting.

use e2e::shared;

/// A Deployment of that name with `replicas` pods that sleep.
pub fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {{name: main, image: busybox:1.36, command: [sleep, infinity]}}
"
    )
}

#[test]
fn reading_in_every_form() {
    let c = shared();
    let node = c.kubectl(&["get", "nodes", "-o", "name"]);
    assert!(node.starts_with("node/"), "{node}");
    let table = c.kubectl(&["get", "nodes"]);
    assert!(table.starts_with("NAME") && table.contains("Ready") && table.contains("v1.36"), "{table}");
    assert!(c.kubectl(&["get", "nodes", "-o", "wide"]).contains("CONTAINER-RUNTIME"));
    let phase = c.kubectl(&["get", "ns", "default", "-o", "jsonpath={.status.phase}"]);
    assert_eq!(phase, "Active");
    assert!(
        c.kubectl(&["get", "ns", "default", "-o", "yaml"]).contains("kubernetes.io/metadata.name: default")
    );
    assert!(c.kubectl(&["describe", node.trim()]).contains("Allocatable:"));
    assert!(c.kubectl(&["get", "all", "-A"]).contains("service/kubernetes"));
    assert!(c.kubectl(&["api-resources"]).contains("deployments"));
    assert!(c.kubectl(&["version"]).contains("Server Version: v1.36"));
}

#[test]
fn explaining() {
    let c = shared();
    let check = |what: &str, expected: &str| {
        let text = c.kubectl(&["explain", what]);
        assert!(text.contains(expected), "explain {what}: {text}");
    };
    check("pods", "KIND:");
    check("pods.spec.containers", "A single application container");
    check("deployments.spec.strategy.rollingUpdate.maxSurge", "IntOrString");
    check("nodes.status.allocatable", "Allocatable");
}

#[test]
fn creating_labelling_patching_deleting() {
    let c = shared();
    c.namespace("crud");
    let n = |arguments: &[&str]| c.kubectl(&[&["-n", "crud"], arguments].concat());
    n(&["create", "configmap", "cm", "--from-literal=a=1"]);
    n(&["label", "configmap", "cm", "tier=db"]);
    n(&["annotate", "configmap", "cm", "note=hello"]);
    assert_eq!(n(&["get", "cm", "-l", "tier in (db,web)", "-o", "name"]), "configmap/cm\n");
    assert_eq!(
        n(&["get", "cm", "-l", "tier notin (db)", "--field-selector=metadata.name=cm", "-o", "name"]),
        ""
    );
    n(&["patch", "configmap", "cm", "-p", r#"{"data":{"b":"2"}}"#]);
    n(&["patch", "configmap", "cm", "--type=merge", "-p", r#"{"data":{"c":"3","a":null}}"#]);
    n(&[
        "patch",
        "configmap",
        "cm",
        "--type=json",
        "-p",
        r#"[{"op":"test","path":"/data/b","value":"2"},{"op":"add","path":"/data/d","value":"4"}]"#,
    ]);
    assert_eq!(n(&["get", "cm", "cm", "-o", "jsonpath={.data}"]), r#"{"b":"2","c":"3","d":"4"}"#);
    n(&["create", "secret", "generic", "s", "--from-literal=password=hunter2"]);
    assert_eq!(n(&["get", "secret", "s", "-o", "jsonpath={.data.password}"]), "aHVudGVyMg==");
    n(&["delete", "configmap,secret", "--all"]);
    assert_eq!(n(&["get", "secret", "-o", "name"]), "");
}

#[test]
fn applying_changes_what_the_manifest_changes() {
    let c = shared();
    c.namespace("apply");
    let n = |arguments: &[&str], stdin: &str| c.kubectl_with(&[&["-n", "apply"], arguments].concat(), stdin);
    assert!(n(&["apply", "-f", "-"], &deployment("web", 1)).contains("created"));
    assert!(n(&["apply", "-f", "-"], &deployment("web", 1)).contains("unchanged"));
    assert!(n(&["apply", "-f", "-"], &deployment("web", 2)).contains("configured"));
    assert_eq!(n(&["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"], ""), "2");
    let diff = c.try_kubectl(&["-n", "apply", "diff", "-f", "-"], &deployment("web", 3));
    assert!(diff.stdout.contains("+  replicas: 3"), "{diff:?}");
    n(&["scale", "deployment", "web", "--replicas=0"], "");
    assert_eq!(n(&["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"], ""), "0");
}

#[test]
fn server_side_apply_owns_fields() {
    let c = shared();
    c.namespace("ssa");
    let apply = |manager: &str, force: bool, value: &str| {
        let yaml = format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x, namespace: ssa}}, data: {{{value}}}}}"
        );
        let manager = format!("--field-manager={manager}");
        let mut arguments = vec!["apply", "--server-side", &manager, "-f", "-"];
        if force {
            arguments.push("--force-conflicts");
        }
        c.try_kubectl(&arguments, &yaml)
    };
    let data = || c.kubectl(&["-n", "ssa", "get", "cm", "x", "-o", "jsonpath={.data}"]);
    assert!(apply("one", false, "a: '1', b: '1'").ok);
    assert!(apply("two", false, "c: '3'").ok);
    let conflict = apply("two", false, "a: '2'");
    assert!(!conflict.ok && conflict.stderr.contains("conflict with \"one\""), "{conflict:?}");
    assert!(apply("two", true, "a: '2'").ok);
    assert_eq!(data(), r#"{"a":"2","b":"1"}"#, "what two no longer applies is gone, what one has stays");
    assert!(apply("one", false, "b: '1'").ok);
    assert_eq!(data(), r#"{"a":"2","b":"1"}"#, "a belongs to two now");
    assert!(apply("one", false, "d: '4'").ok);
    assert_eq!(data(), r#"{"a":"2","d":"4"}"#);
}

#[test]
fn editing() {
    let c = shared();
    c.namespace("edit");
    c.kubectl(&["-n", "edit", "create", "configmap", "cm", "--from-literal=key=before"]);
    let mut edit = c.kubectl_command();
    edit.env("KUBE_EDITOR", "sed -i s/before/after/").args(["-n", "edit", "edit", "configmap", "cm"]);
    assert!(edit.status().expect("kubectl runs").success());
    assert_eq!(c.kubectl(&["-n", "edit", "get", "cm", "cm", "-o", "jsonpath={.data.key}"]), "after");
}

#[test]
fn deleting_takes_or_leaves_dependents() {
    let c = shared();
    c.namespace("cascade");
    let n = |arguments: &[&str]| c.kubectl(&[&["-n", "cascade"], arguments].concat());
    for (name, cascade) in [("bg", "background"), ("fg", "foreground"), ("orphan", "orphan")] {
        c.kubectl_with(&["-n", "cascade", "apply", "-f", "-"], &deployment(name, 1));
        n(&["rollout", "status", "deployment", name, "--timeout=60s"]);
        n(&["delete", "deployment", name, &format!("--cascade={cascade}"), "--timeout=60s"]);
        let left = || n(&["get", "replicasets", "-l", &format!("app={name}"), "-o", "name"]);
        match cascade {
            "foreground" => assert_eq!(left(), "", "the owner goes last"),
            "orphan" => assert!(left().starts_with("replicaset"), "orphans stay"),
            _ => e2e::eventually("no replicaset", || if left().is_empty() { Ok(()) } else { Err(left()) }),
        }
    }
    let orphan = c.get(&["-n", "cascade", "rs", "-l", "app=orphan"]);
    assert!(orphan["items"][0]["metadata"]["ownerReferences"].is_null(), "{orphan}");
}

#[test]
fn watching() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let c = shared();
    c.namespace("watch");
    let mut watch = c.kubectl_command();
    watch
        .args(["-n", "watch", "get", "configmaps", "-w", "--output-watch-events", "-l", "w=1"])
        .stdout(Stdio::piped());
    let mut watch = watch.spawn().expect("kubectl runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("it was piped")).lines();
    c.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: seen, namespace: watch, labels: {w: '1'}}}");
    let mut next = || lines.next().expect("the watch goes on").expect("it is text");
    assert!(next().starts_with("EVENT"));
    let added = next();
    assert!(added.starts_with("ADDED") && added.contains("seen"), "{added}");
    c.kubectl(&["-n", "watch", "patch", "cm", "seen", "-p", r#"{"data":{"x":"y"}}"#]);
    assert!(next().starts_with("MODIFIED"));
    c.kubectl(&["-n", "watch", "delete", "cm", "seen"]);
    assert!(next().starts_with("DELETED"));
    watch.kill().expect("it runs");
    let _ = watch.wait();
}

#[test]
fn creating_by_generator() {
    let c = shared();
    c.namespace("generate");
    let n = |arguments: &[&str]| c.kubectl(&[&["-n", "generate"], arguments].concat());
    n(&["create", "deployment", "web", "--image=busybox:1.36", "--", "sleep", "infinity"]);
    n(&["rollout", "status", "deployment", "web", "--timeout=60s"]);
    n(&["expose", "deployment", "web", "--port=80", "--target-port=8080"]);
    assert!(!n(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]).is_empty());
    n(&["create", "job", "once", "--image=busybox:1.36", "--", "echo", "done"]);
    n(&["wait", "--for=condition=complete", "job/once", "--timeout=60s"]);
    assert_eq!(n(&["logs", "job/once"]), "done\n");
    n(&["run", "one", "--image=busybox:1.36", "--restart=Never", "--", "true"]);
    n(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/one", "--timeout=60s"]);
    assert!(n(&["get", "pod", "one"]).contains("Completed"));
}

#[test]
fn rolling_out_and_back() {
    let c = shared();
    c.namespace("rollout");
    let n = |arguments: &[&str]| c.kubectl(&[&["-n", "rollout"], arguments].concat());
    let version =
        || n(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.containers[0].env[0].value}"]);
    c.kubectl_with(&["-n", "rollout", "apply", "-f", "-"], &deployment("web", 2));
    n(&["set", "env", "deployment/web", "VERSION=one"]);
    n(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    n(&["set", "env", "deployment/web", "VERSION=two"]);
    n(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(
        n(&["rollout", "history", "deployment/web"])
            .lines()
            .filter(|l| l.starts_with(char::is_numeric))
            .count(),
        3
    );
    n(&["rollout", "undo", "deployment/web"]);
    n(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    e2e::eventually("only pods of version one", || match version().as_str() {
        "one one" => Ok(()),
        other => Err(other.to_owned()),
    });
    n(&["rollout", "restart", "deployment/web"]);
    n(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let restarted = n(&["get", "deployment", "web", "-o", "jsonpath={.spec.template.metadata.annotations}"]);
    assert!(restarted.contains("kubectl.kubernetes.io/restartedAt"), "{restarted}");
}
