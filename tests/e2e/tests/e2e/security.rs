//! Nobody gets in who should not.

use e2e::{BUSYBOX, Cluster, Output, shared};

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

const ASKING: &str = r#"{"spec": {"containers": [{"name": "asking", "image": "busybox:1.36",
    "command": ["sleep", "1000"], "resources": {"requests": {"cpu": "1m"}}}]}}"#;

/// Health of scheduler and controllers is for everybody on the machine, the rest for whom RBAC lets see it.
#[test]
fn components_tell_more_to_who_may_know() {
    let c = shared();
    c.namespace("scraping");
    c.kubectl(&["-n", "scraping", "create", "serviceaccount", "scraper"]);
    c.kubectl(&["create", "clusterrole", "scraper", "--verb=get", "--non-resource-url=/metrics*"]);
    c.kubectl(&[
        "create",
        "clusterrolebinding",
        "scraper",
        "--clusterrole=scraper",
        "--serviceaccount=scraping:scraper",
    ]);
    let token = c.kubectl(&["-n", "scraping", "create", "token", "scraper"]);
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let ask = |url: &str, more: &[&str]| {
        let usual = ["-sk", "-m", "10", "--noproxy", "*", "-w", "\n%{http_code}", url];
        let output = c.host.run("curl", &[&usual[..], more].concat(), "");
        let (body, code) = output.stdout.rsplit_once('\n').unwrap_or_else(|| panic!("{url}: {output:?}"));
        (code.to_owned(), body.to_owned())
    };
    // Both have had something to do.
    c.kubectl(&["-n", "scraping", "create", "job", "once", &format!("--image={BUSYBOX}"), "--", "true"]);
    c.kubectl(&["-n", "scraping", "wait", "job/once", "--for=condition=Complete", "--timeout=60s"]);
    let everywhere =
        ["kubernetes_build_info{", "process_resident_memory_bytes ", "rest_client_requests_total{"];
    let scheduler = [
        "scheduler_preemption_attempts_total ",
        "scheduler_framework_extension_point_duration_seconds_count{extension_point=\"Bind\"",
        "scheduler_queue_incoming_pods_total{event=\"PodAdd\",queue=\"active\"}",
    ];
    let controllers = [
        "workqueue_depth{name=\"job\"}",
        "job_controller_jobs_finished_total{completion_mode=\"NonIndexed\",reason=\"CompletionsReached\",result=\"succeeded\"}",
        "job_controller_job_pods_finished_total{completion_mode=\"NonIndexed\",result=\"succeeded\"}",
    ];
    for (port, wanted) in [(10259, scheduler), (10257, controllers)] {
        let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
        assert_eq!(ask(&url("/livez"), &[]), ("200".to_owned(), "ok".to_owned()));
        assert_eq!(ask(&url("/metrics"), &[]).0, "403");
        assert_eq!(ask(&url("/metrics"), &["-H", "Authorization: Bearer nonsense"]).0, "401");
        let (code, metrics) = ask(&url("/metrics"), &["-H", &bearer]);
        for metric in everywhere.iter().chain(&wanted) {
            assert!(code == "200" && metrics.contains(metric), "{metric}: {code} {metrics}");
        }
        assert_eq!(ask(&url("/configz"), &["-H", &bearer]).0, "403", "another path is another permission");
    }
    c.kubectl(&["-n", "scraping", "run", "asking", &format!("--image={BUSYBOX}"), "--overrides", ASKING]);
    c.kubectl(&["-n", "scraping", "wait", "pod/asking", "--for=condition=PodScheduled", "--timeout=60s"]);
    let (_, resources) = ask("https://127.0.0.1:10259/metrics/resources", &["-H", &bearer]);
    let asked = "kube_pod_resource_request{namespace=\"scraping\",pod=\"asking\",";
    assert!(resources.contains(asked) && !resources.contains("scheduler_"), "{resources}");
    // Of the node, for whoever is there.
    let (_, names) = ask("http://127.0.0.1:9153/metrics", &[]);
    assert!(names.contains("coredns_build_info") && names.contains("coredns_panics_total"), "{names}");
    assert_eq!(ask("http://127.0.0.1:10249/proxyMode", &[]).1, "nftables");
    let (code, health) = ask("http://127.0.0.1:10256/healthz", &[]);
    assert!(code == "200" && health.contains("nodeEligible"), "{code} {health}");
}
