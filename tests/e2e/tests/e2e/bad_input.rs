//! Whatever is sent: the error that kubectl users know, on the right object, and nothing lost.

use e2e::{eventually, shared};

#[test]
fn manifests_that_are_wrong() {
    let c = shared();
    c.namespace("bad");
    let check = |yaml: &str, expected: &str| {
        let error = c.kubectl_fails(&["-n", "bad", "create", "-f", "-"], yaml);
        assert!(error.contains(expected), "{yaml}\n{error}");
    };
    let pod = |spec: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {spec}}}");
    check(&pod("{containers: [{name: a, image: b, imag: c}]}"), "unknown field \"spec.containers[0].imag\"");
    check(&pod("{containers: []}"), "spec.containers: Required value");
    check(&pod("{containers: [{name: a}]}"), "spec.containers[0].image: Required value");
    check(&pod("{containers: [{name: A_b, image: x}]}"), "spec.containers[0].name: Invalid value");
    check(
        &pod("{containers: [{name: a, image: x}, {name: a, image: x}]}"),
        "spec.containers[1].name: Duplicate value: \"a\"",
    );
    check(
        &pod("{containers: [{name: a, image: x, resources: {limits: {cpu: many}}}]}"),
        "quantities must match",
    );
    check(&pod("{containers: 7}"), "cannot");
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: 'Not Valid'}}",
        "metadata.name: Invalid value: \"Not Valid\": a lowercase RFC 1123 subdomain",
    );
    check(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: x}]}}}}",
        "`selector` does not match template `labels`",
    );
    check(
        "{apiVersion: v9, kind: Pod, metadata: {name: p}}",
        "no matches for kind \"Pod\" in version \"v9\"",
    );
    check("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: ", "error");
    assert_eq!(c.kubectl(&["-n", "bad", "get", "pods,deployments", "-o", "name"]), "");
}

#[test]
fn requests_that_are_wrong() {
    let c = shared();
    let server = c.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let pki = c.root().join("pki");
    let (ca, cert, key) = (pki.join("ca.crt"), pki.join("admin.crt"), pki.join("admin.key"));
    let send = |method: &str, path: &str, content_type: &str, body: &str| {
        let file = c.host.file("body", body);
        let data = format!("@{}", file.display());
        let header = format!("Content-Type: {content_type}");
        let url = format!("{server}{path}");
        let arguments = [
            "-sS",
            "--cacert",
            ca.to_str().unwrap(),
            "--cert",
            cert.to_str().unwrap(),
            "--key",
            key.to_str().unwrap(),
            "-X",
            method,
            "-H",
            &header,
            "--data-binary",
            &data,
            "-w",
            "\n%{http_code}",
            &url,
        ];
        c.host.run("curl", &arguments, "").stdout
    };
    let configmaps = "/api/v1/namespaces/default/configmaps";
    let check = |method: &str, path: &str, content_type: &str, body: &str, code: &str| {
        let answer = send(method, path, content_type, body);
        assert!(
            answer.ends_with(code) && answer.contains("\"kind\":\"Status\""),
            "{method} {path} {body:.60}: {answer:.400}"
        );
    };
    let json = "application/json";
    check("POST", configmaps, json, "{", "400");
    check("POST", configmaps, json, "[]", "400");
    check("POST", configmaps, json, "", "400");
    check("POST", configmaps, "text/plain", "{}", "415");
    check(
        "POST",
        configmaps,
        json,
        &format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"x\"}},\"data\":{{\"a\":\"{}\"}}}}",
            "x".repeat(4 << 20)
        ),
        "413",
    );
    check("POST", configmaps, json, &"[".repeat(100_000), "400");
    check("POST", configmaps, json, r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}"#, "400");
    check("GET", "/api/v1/namespaces/default/configmaps/none", json, "", "404");
    check("GET", &format!("{configmaps}?labelSelector=a%20in%20("), json, "", "400");
    check("GET", &format!("{configmaps}?continue=nonsense"), json, "", "400");
    check("GET", &format!("{configmaps}?resourceVersion=-1"), json, "", "422");
    check("PATCH", &format!("{configmaps}/none"), "application/merge-patch+json", "{}", "404");
    check(
        "PATCH",
        &format!("{configmaps}/kube-root-ca.crt"),
        "application/json-patch+json",
        "[{\"op\":\"test\",\"path\":\"/x\",\"value\":1}]",
        "422",
    );
    check("PUT", configmaps, json, "{}", "405");
    check("GET", "/apis/none.example.com/v1/things", json, "", "404");
}

#[test]
fn pods_that_cannot_run_say_why() {
    let c = shared();
    c.namespace("cannot");
    let waits = |name: &str, spec: &str, reason: &str| {
        c.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: cannot}}, spec: {spec}}}"
        ));
        eventually(reason, || {
            let row = c.kubectl(&["-n", "cannot", "get", "pod", name]);
            if row.contains(reason) { Ok(()) } else { Err(row) }
        });
    };
    waits(
        "no-command",
        "{containers: [{name: a, image: 'busybox:1.36', command: [/no/such]}]}",
        "RunContainerError",
    );
    waits(
        "no-key",
        "{containers: [{name: a, image: 'busybox:1.36', env: [{name: X, valueFrom: {configMapKeyRef: {name: none, key: k}}}]}]}",
        "CreateContainerConfigError",
    );
    let described = c.kubectl(&["-n", "cannot", "describe", "pod", "no-key"]);
    assert!(described.contains("configmap \"none\" not found"), "{described}");
    c.apply("{apiVersion: v1, kind: Pod, metadata: {name: no-volume, namespace: cannot}, spec: {volumes: [{name: v, secret: {secretName: none}}], containers: [{name: a, image: 'busybox:1.36', volumeMounts: [{name: v, mountPath: /v}]}]}}");
    eventually("FailedMount", || {
        let text = c.kubectl(&["-n", "cannot", "describe", "pod", "no-volume"]);
        if text.contains("FailedMount") && text.contains("secret \"none\" not found") {
            Ok(())
        } else {
            Err(text)
        }
    });
    // What was missing arrives, and the pod starts.
    c.kubectl(&["-n", "cannot", "create", "secret", "generic", "none"]);
    eventually("a started container", || {
        let row = c.kubectl(&["-n", "cannot", "get", "pod", "no-volume"]);
        if row.contains("ContainerCreating") { Err(row) } else { Ok(()) }
    });
}
