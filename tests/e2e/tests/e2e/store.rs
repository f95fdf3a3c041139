//! What was acknowledged is there; versions, conflicts, watches and pages are as clients expect.

use e2e::{Cluster, shared};
use serde_json::Value;

/// An API request as the administrator, by `kubectl get --raw` or curl with the kubeconfig's certificate.
fn raw(c: &Cluster, path: &str) -> Value {
    serde_json::from_str(&c.kubectl(&["get", "--raw", path])).expect("the API answers JSON")
}

#[test]
fn acknowledged_writes_survive_a_crash() {
    let c = Cluster::start();
    for round in 0..3 {
        let names: Vec<String> = (0..20).map(|i| format!("cm-{round}-{i}")).collect();
        for name in &names {
            c.kubectl(&["create", "configmap", name]);
        }
        c.kill();
        c.restart();
        let listed = c.kubectl(&["get", "configmaps", "-o", "name"]);
        for name in &names {
            assert!(listed.contains(&format!("configmap/{name}\n")), "{name} is lost");
        }
    }
}

#[test]
fn a_stale_version_conflicts() {
    let c = shared();
    c.namespace("conflict");
    c.kubectl(&["-n", "conflict", "create", "configmap", "cm"]);
    let stale = c.kubectl(&["-n", "conflict", "get", "cm", "cm", "-o", "yaml"]);
    c.kubectl(&["-n", "conflict", "label", "cm", "cm", "x=y"]);
    let error = c.kubectl_fails(&["replace", "-f", "-"], &stale);
    assert!(
        error.contains("the object has been modified; please apply your changes to the latest version"),
        "{error}"
    );
}

#[test]
fn pages_are_consistent() {
    let c = shared();
    c.namespace("pages");
    let many: Vec<String> = (0..25)
        .map(|i| {
            format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: cm-{i:02}, namespace: pages}}}}")
        })
        .collect();
    c.apply(&many.join("\n---\n"));
    let mut names = Vec::new();
    let mut path = "/api/v1/namespaces/pages/configmaps?limit=10&labelSelector=".to_owned();
    let mut pages = 0;
    loop {
        let page = raw(c, &path);
        names.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        if pages == 1 {
            assert_eq!(page["metadata"]["remainingItemCount"], 16, "with kube-root-ca.crt");
            c.kubectl(&["-n", "pages", "create", "configmap", "zz-late"]);
        }
        match page["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => {
                path = format!("/api/v1/namespaces/pages/configmaps?limit=10&continue={token}");
            }
            _ => break,
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(names.len(), 26, "the list as it was at the first page: {names:?}");
}

/// The lines of a short watch from that version.
fn watch(c: &Cluster, namespace: &str, version: &str) -> String {
    let path = format!(
        "/api/v1/namespaces/{namespace}/configmaps?watch=1&timeoutSeconds=1&resourceVersion={version}"
    );
    c.kubectl(&["get", "--raw", &path])
}

#[test]
fn watches_resume_from_a_version() {
    let c = shared();
    c.namespace("resume");
    let list = raw(c, "/api/v1/namespaces/resume/configmaps");
    c.kubectl(&["-n", "resume", "create", "configmap", "one"]);
    c.kubectl(&["-n", "resume", "delete", "configmap", "one"]);
    let events = watch(c, "resume", list["metadata"]["resourceVersion"].as_str().unwrap());
    let of_one = events.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    let of_one = of_one.filter(|e| e["object"]["metadata"]["name"] == "one");
    let kinds: Vec<String> = of_one.map(|e| e["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["ADDED", "DELETED"]);
}

#[test]
fn a_version_that_is_gone_is_said_to_be() {
    let c = Cluster::start();
    c.kill();
    c.restart();
    let gone = watch(&c, "default", "1");
    assert!(gone.contains("\"code\":410") && gone.contains("Expired"), "{gone}");
}

#[test]
fn a_snapshot_is_taken_while_the_cluster_runs_and_restored() {
    let c = Cluster::start();
    let file = c.host.directory().join("snapshot");
    let file = file.to_str().expect("a plain path");
    let store = |arguments: &[&str]| {
        let output = c.corten(&[&["store"], arguments].concat());
        assert!(output.ok, "{output:?}");
        output.stdout
    };
    c.kubectl(&["create", "configmap", "kept"]);
    let seen = raw(&c, "/api/v1/namespaces/default/configmaps")["metadata"]["resourceVersion"].clone();
    let seen = seen.as_str().expect("a version").to_owned();
    assert!(store(&["status"]).contains("revision"));
    store(&["snapshot", "save", file]);
    assert!(store(&["snapshot", "status", file]).contains("checksum  good"));
    c.kubectl(&["delete", "configmap", "kept"]);
    c.kubectl(&["create", "configmap", "lost"]);
    store(&["defragment"]);

    let refused = c.corten(&["store", "snapshot", "restore", file]);
    assert!(!refused.ok, "while the cluster runs: {refused:?}");
    c.kill();
    let refused = c.corten(&["store", "snapshot", "restore", file]);
    assert!(!refused.ok && refused.stderr.contains("exists already"), "{refused:?}");
    let path = c.root().join("store.redb");
    std::fs::rename(&path, path.with_extension("old")).expect("the store is there");
    store(&["snapshot", "restore", file]);
    assert!(store(&["status"]).contains("revision"), "also while nothing runs");
    c.restart();

    let listed = c.kubectl(&["get", "configmaps", "-o", "name"]);
    assert!(listed.contains("configmap/kept\n") && !listed.contains("configmap/lost\n"), "{listed}");
    // Who has seen a state of before begins anew.
    let path =
        format!("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={seen}");
    let told = raw(&c, &path);
    assert_eq!(told["object"]["code"], 410, "{told}");
    // The history of the new one can be forgotten too.
    let now = raw(&c, "/api/v1/namespaces/default/configmaps")["metadata"]["resourceVersion"].clone();
    c.kubectl(&["create", "configmap", "more"]);
    store(&["compact"]);
    let now = now.as_str().expect("a version");
    let path = format!(
        "/api/v1/namespaces/default/configmaps?limit=1&resourceVersionMatch=Exact&resourceVersion={now}"
    );
    let refused = c.try_kubectl(&["get", "--raw", &path], "");
    assert!(!refused.ok && refused.stderr.contains("(Expired)"), "{refused:?}");
}
