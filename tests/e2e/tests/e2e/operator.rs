//! A real operator framework, kopf, with an operator as its author would write it: a definition with two versions,
//! webhooks, handlers that are tried again, finalizers, status, owned objects, events.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use e2e::{Cluster, eventually, repository, shared};
use serde_json::{Value, json};

const NAMESPACE: &str = "operator";

/// The operator's process; it ends with its host at the latest.
struct Operator(Child);

impl Operator {
    fn start(c: &Cluster) -> Self {
        let log = File::create(c.host.directory().join("operator.log")).unwrap();
        let source = repository().join("tests/e2e/operator/operator.py");
        let python = std::env::var("E2E_PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
        let child = c
            .host
            .command(python)
            .args(["-m", "kopf", "run", "--standalone", "-n", NAMESPACE])
            .arg(source)
            .env("PYTHONPATH", packages())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("KUBECONFIG", c.kubeconfig())
            .env("PKI", c.root().join("pki"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn log(c: &Cluster) -> String {
        std::fs::read_to_string(c.host.directory().join("operator.log")).unwrap_or_default()
    }
}

impl Operator {
    /// Tells it to end, and waits until it has ended its daemons and handed back what it holds.
    fn stop(mut self, c: &Cluster) {
        // The child is nsenter's parent half; what counts is inside the host.
        let output = c.host.run("pkill", &["-TERM", "-f", "kopf run"], "");
        assert!(output.ok, "nothing to end: {output:?}");
        self.0.wait().unwrap();
    }
}

/// Where `script/test` put kopf.
fn packages() -> PathBuf {
    let packages = match std::env::var_os("E2E_OPERATOR") {
        Some(path) => path.into(),
        None => {
            let test = std::env::current_exe().unwrap();
            test.ancestors().nth(3).expect("cargo's layout").join("tools/operator")
        }
    };
    assert!(
        packages.join("kopf").exists(),
        "{} has no kopf: script/test installs it (pip install --target, requirements in tests/e2e/operator)",
        packages.display()
    );
    packages
}

#[test]
fn an_operator_with_webhooks_looks_after_its_objects() {
    let c = shared();
    c.namespace(NAMESPACE);
    let crd = repository().join("tests/e2e/operator/crd.yaml");
    c.kubectl(&["apply", "-f", crd.to_str().unwrap()]);
    c.kubectl(&["wait", "--for=condition=Established", "--timeout=5s", "crd/databases.operator.example"]);
    let operator = Operator::start(c);
    eventually("the operator's webhooks", || {
        let hooks = c.try_kubectl(
            &["get", "validatingwebhookconfiguration,mutatingwebhookconfiguration", "-o", "name"],
            "",
        );
        match hooks.stdout.matches("/operator.example").count() {
            2 => Ok(()),
            _ => Err(Operator::log(c)),
        }
    });

    // Admission: refused in the operator's words, warned, changed.
    let database = |name: &str, spec: Value| {
        json!({"apiVersion": "operator.example/v1", "kind": "Database",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})
        .to_string()
    };
    let refused = c.kubectl_fails(
        &["create", "-f", "-"],
        &database("bad", json!({"engine": "lite", "settings": {"forbidden": "x"}})),
    );
    assert!(refused.contains("settings must not have 'forbidden'"), "{refused}");
    let invalid = c.kubectl_fails(&["create", "-f", "-"], &database("bad", json!({"engine": "none"})));
    assert!(invalid.contains("Unsupported value: \"none\""), "{invalid}");
    c.apply(&database("main", json!({"engine": "lite", "replicas": 2})));
    let get = || c.get(&["-n", NAMESPACE, "db", "main"]);
    assert_eq!(get()["metadata"]["labels"]["operator.example/admitted"], "yes");

    // Handlers: one that was tried again, its child with an owner, what became of it, a timer, an event.
    let until = |what: &str, wanted: &dyn Fn(&Value) -> bool| {
        eventually(what, || {
            let now = get();
            if wanted(&now) { Ok(()) } else { Err(format!("{now}\n{}", Operator::log(c))) }
        });
    };
    until("a database with its pods", &|db| {
        let status = &db["status"];
        status["phase"] == "Created" && status["ready"] == 2 && status["ticks"].as_u64() > Some(1)
    });
    let child = c.get(&["-n", NAMESPACE, "deployment", "main"]);
    assert_eq!(child["metadata"]["ownerReferences"][0]["kind"], "Database");
    let told =
        || c.kubectl(&["-n", NAMESPACE, "get", "events", "--field-selector=reason=Made", "-o", "name"]);
    eventually("an event", || if told().is_empty() { Err(Operator::log(c)) } else { Ok(()) });

    // Through the scale subresource, and the other version.
    c.kubectl(&["-n", NAMESPACE, "scale", "db", "main", "--replicas=3"]);
    until("the new number", &|db| db["status"]["scaled"] == "2->3" && db["status"]["ready"] == 3);
    let old = c.try_kubectl(
        &["-n", NAMESPACE, "get", "databases.v1beta1.operator.example", "main", "-o", "yaml"],
        "",
    );
    assert!(old.stdout.contains("apiVersion: operator.example/v1beta1"), "{old:?}");
    assert!(old.stderr.contains("v1beta1 Database is deprecated; use v1"), "{old:?}");
    let many = c.try_kubectl(
        &[
            "-n",
            NAMESPACE,
            "patch",
            "db",
            "main",
            "--type=merge",
            "-p",
            r#"{"spec": {"replicas": 6}}"#,
            "--dry-run=server",
        ],
        "",
    );
    assert!(many.stderr.contains("more than five replicas"), "{many:?}");

    // An operator that was away catches up.
    operator.stop(c);
    c.kubectl(&[
        "-n",
        NAMESPACE,
        "delete",
        "validatingwebhookconfiguration,mutatingwebhookconfiguration",
        "operator.example",
    ]);
    c.kubectl(&[
        "-n",
        NAMESPACE,
        "patch",
        "db",
        "main",
        "--type=merge",
        "-p",
        r#"{"spec": {"replicas": 1}}"#,
    ]);
    c.kubectl(&["-n", NAMESPACE, "delete", "db", "main", "--wait=false"]);
    assert_eq!(get()["metadata"]["finalizers"], json!(["operator.example/finalizer"]));
    let operator = Operator::start(c);
    c.kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "db/main", "--timeout=60s"]);
    c.kubectl(&["-n", NAMESPACE, "get", "configmap", "main-farewell"]);
    c.kubectl(&["-n", NAMESPACE, "wait", "--for=delete", "deployment/main", "--timeout=60s"]);
    operator.stop(c);
}
