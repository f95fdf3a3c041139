//! Nobody gets in who should not.

use e2e::{Cluster, Output, shared};

fn curl(c: &Cluster, path: &str, arguments: &[&str]) -> Output {
    let server = c.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let ca = c.root().join("pki/ca.crt");
    let url = format!("{server}{path}");
    let all = [&["-sS", "--cacert", ca.to_str().unwrap(), "-w", "\n%{http_code}", &url], arguments].concat();
    c.host.run("curl", &all, "")
}

#[test]
fn strangers_are_turned_away() {
    let c = shared();
    let check = |path: &str, arguments: &[&str], code: &str, text: &str| {
        let output = curl(c, path, arguments);
        assert!(output.stdout.ends_with(code) && output.stdout.contains(text), "{path}: {output:?}");
    };
    check(
        "/api/v1/secrets",
        &[],
        "403",
        "User \\\"system:anonymous\\\" cannot list resource \\\"secrets\\\"",
    );
    check("/healthz", &[], "200", "ok");
    check("/version", &[], "200", "v1.36");
    check("/api/v1/secrets", &["-H", "Authorization: Bearer nonsense"], "401", "Unauthorized");
    check("/api/v1/secrets", &["-H", "Authorization: Bearer a.b.c"], "401", "Unauthorized");
}

#[test]
fn the_certificate_is_the_clusters_own() {
    let c = shared();
    let server = c.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let output = c.host.run("curl", &["-sS", &format!("{server}/healthz")], "");
    assert!(!output.ok, "no public authority signed it: {output:?}");
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(c.root().join("pki").join(name)).unwrap().permissions().mode() & 0o777
    };
    for private in ["ca.key", "sa.key", "apiserver.key", "admin.conf"] {
        assert_eq!(mode(private), 0o600, "{private}");
    }
}

#[test]
fn roles_allow_what_they_say() {
    let c = shared();
    c.namespace("rbac");
    c.kubectl(&["-n", "rbac", "create", "serviceaccount", "reader"]);
    c.kubectl(&["-n", "rbac", "create", "role", "read", "--verb=get,list", "--resource=configmaps"]);
    c.kubectl(&[
        "-n",
        "rbac",
        "create",
        "rolebinding",
        "read",
        "--role=read",
        "--serviceaccount=rbac:reader",
    ]);
    let can = |arguments: &[&str]| {
        let all = [&["auth", "can-i", "--as=system:serviceaccount:rbac:reader"], arguments].concat();
        c.try_kubectl(&all, "").stdout.trim().to_owned()
    };
    assert_eq!(can(&["list", "configmaps", "-n", "rbac"]), "yes");
    assert_eq!(can(&["delete", "configmaps", "-n", "rbac"]), "no");
    assert_eq!(can(&["list", "configmaps", "-n", "default"]), "no");
    let token = c.kubectl(&["-n", "rbac", "create", "token", "reader"]);
    let header = format!("Authorization: Bearer {}", token.trim());
    let listed = curl(c, "/api/v1/namespaces/rbac/configmaps", &["-H", &header]);
    assert!(listed.stdout.ends_with("200"), "{listed:?}");
    let refused = curl(c, "/api/v1/namespaces/rbac/secrets", &["-H", &header]);
    assert!(refused.stdout.ends_with("403"), "{refused:?}");
    assert!(c.kubectl(&["auth", "whoami"]).contains("kubernetes-admin"));
}

#[test]
fn the_kubelet_lets_in_the_api_server_only() {
    let c = shared();
    let node = c.kubectl(&[
        "get",
        "node",
        "-o",
        "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}",
    ]);
    let output = c.host.run(
        "curl",
        &["-sSk", "-o", "/dev/null", "-w", "%{http_code}", &format!("https://{node}:10250/pods")],
        "",
    );
    assert_eq!(output.stdout, "401", "{output:?}");
    let name = c.kubectl(&["get", "node", "-o", "name"]);
    let pods = c.kubectl(&[
        "get",
        "--raw",
        &format!("/api/v1/{}/proxy/pods", name.trim().replace("node/", "nodes/")),
    ]);
    assert!(pods.contains("PodList"), "{pods}");
}
