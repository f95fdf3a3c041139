//! What operators see of the server: metrics and health checks.

use apiserver::Config;
use serde_json::json;

use crate::fixture::*;
use crate::watches::Watch;

async fn text(server: &Server, path: &str) -> (u16, String) {
    let answer = server.get(path).await;
    (answer.code.as_u16(), String::from_utf8(answer.bytes.to_vec()).unwrap())
}

/// The value of the metric with exactly these labels, in any order.
fn value(metrics: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    metrics.lines().find_map(|line| {
        let (head, value) = line.rsplit_once(' ')?;
        let (found, rest) = head.split_once('{').unwrap_or((head, "}"));
        let rest = rest.strip_suffix('}')?;
        let of = |(key, value): &(&str, &str)| rest.contains(&format!("{key}=\"{value}\""));
        (found == name && labels.iter().all(of)).then(|| value.parse().ok())?
    })
}

#[tokio::test]
async fn dashboards_find_their_metrics() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    server.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("b")).await.ok();
    let applied = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    server.patch(&format!("{CONFIG_MAPS}/c?fieldManager=m"), "apply-patch+yaml", &applied).await.ok();
    let mut watch = Watch::open(&server, &format!("{CONFIG_MAPS}?watch=true")).await;
    server.get("/api/v1/namespaces/default/endpoints").await.ok();
    for _ in 0..2 {
        watch.next().await.unwrap();
    }
    let (_, metrics) = text(&server, "/metrics").await;
    let check = |name: &str, labels: &[(&str, &str)], expected: f64| {
        assert_eq!(value(&metrics, name, labels), Some(expected), "{name} {labels:?}");
    };
    let maps = |verb: &'static str, more: &[(&'static str, &'static str)]| {
        let mut labels = vec![
            ("group", ""),
            ("version", "v1"),
            ("resource", "configmaps"),
            ("verb", verb),
            ("component", "apiserver"),
        ];
        labels.extend(more);
        labels
    };
    let (wet, dry) = ([("dry_run", ""), ("code", "201")], [("dry_run", "All"), ("code", "201")]);
    check("apiserver_request_total", &maps("POST", &wet), 1.0);
    check("apiserver_request_total", &maps("POST", &dry), 1.0);
    check("apiserver_request_total", &maps("APPLY", &wet), 1.0);
    check("apiserver_request_duration_seconds_count", &maps("POST", &wet[..1]), 1.0);
    check("apiserver_longrunning_requests", &maps("WATCH", &[("scope", "namespace")]), 1.0);
    check("apiserver_storage_objects", &[("resource", "configmaps")], 4.0);
    check("kubernetes_feature_enabled", &[("name", "WatchList"), ("stage", "BETA")], 1.0);
    check("apiserver_resource_objects", &[("group", ""), ("resource", "configmaps")], 4.0);
    let plugin =
        [("name", "ServiceAccount"), ("operation", "CREATE"), ("rejected", "false"), ("type", "admit")];
    assert!(
        value(&metrics, "apiserver_admission_controller_admission_duration_seconds_count", &plugin)
            > Some(2.0)
    );
    check("apiserver_request_sli_duration_seconds_count", &maps("POST", &[("scope", "namespace")]), 1.0);
    // What is only tried out never gets to the store.
    let stored = [("operation", "create"), ("group", ""), ("resource", "configmaps"), ("type", "configmaps")];
    check("etcd_request_duration_seconds_count", &stored, 4.0);
    check("etcd_requests_total", &stored, 4.0);
    check("apiserver_watch_events_total", &[("resource", "configmaps")], 2.0);
    check("apiserver_requested_deprecated_apis", &[("resource", "endpoints"), ("removed_release", "")], 1.0);
    check("aggregator_unavailable_apiservice", &[("name", "v1.apps")], 0.0);
    check("kubernetes_build_info", &[("major", "1"), ("minor", "36")], 1.0);
    for name in [
        "apiserver_current_inflight_requests",
        "apiserver_admission_step_admission_duration_seconds_count",
        "authorization_duration_seconds_count",
        "authorization_attempts_total",
        "apiserver_response_sizes_count",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    ] {
        assert!(value(&metrics, name, &[]).is_some(), "{name}");
    }
    drop(watch);
    let (_, metrics) = text(&server, "/metrics").await;
    assert_eq!(value(&metrics, "apiserver_longrunning_requests", &maps("WATCH", &[])), Some(0.0));
}

#[tokio::test]
async fn health_is_told_check_by_check() {
    let server = Server::start().await;
    for root in ["livez", "readyz", "healthz"] {
        assert_eq!(text(&server, &format!("/{root}")).await, (200, "ok".to_owned()));
        let (code, report) = text(&server, &format!("/{root}?verbose")).await;
        assert_eq!(code, 200);
        assert!(report.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "{report}");
        assert!(report.ends_with(&format!("{root} check passed\n")), "{report}");
        assert_eq!(report.contains("[+]shutdown ok\n"), root == "readyz");
        let (_, report) = text(&server, &format!("/{root}?verbose&exclude=etcd&exclude=none")).await;
        assert!(report.contains("[+]etcd excluded: ok\n"), "{report}");
        assert!(
            report.contains("warn: some health checks cannot be excluded: no matches for \"none\"\n"),
            "{report}"
        );
        assert_eq!(text(&server, &format!("/{root}/etcd")).await, (200, "ok".to_owned()));
        assert_eq!(text(&server, &format!("/{root}/none")).await.0, 404);
    }
    for hook in
        ["start-apiextensions-controllers", "rbac/bootstrap-roles", "start-system-namespaces-controller"]
    {
        let path = format!("/readyz/poststarthook/{hook}");
        assert_eq!(text(&server, &path).await, (200, "ok".to_owned()), "{hook}");
    }
    assert_eq!(text(&server, "/livezz").await.0, 404);
    let (_, slis) = text(&server, "/metrics/slis").await;
    assert_eq!(value(&slis, "kubernetes_healthcheck", &[("name", "etcd"), ("type", "readyz")]), Some(1.0));
    let passed = [("status", "success"), ("type", "livez")];
    assert_eq!(value(&slis, "kubernetes_healthchecks_total", &passed), Some(3.0));
}

#[tokio::test]
async fn pages_tell_what_the_server_is() {
    let server = Server::with(|config| Config {
        flags: [("secure-port".to_owned(), "6443".to_owned())].into(),
        ..config
    })
    .await;
    let (code, status) = text(&server, "/statusz").await;
    assert_eq!(code, 200);
    assert!(status.starts_with("\nkube-apiserver statusz\nWarning: "), "{status}");
    assert!(status.contains("\nEmulation version: 1.36\n") && status.contains(" /readyz "), "{status}");
    let (_, flags) = text(&server, "/flagz").await;
    assert!(
        flags.starts_with("\nkube-apiserver flagz\n") && flags.ends_with("\nsecure-port=6443\n"),
        "{flags}"
    );
    for version in ["v1alpha1", "v1beta1"] {
        let accept = format!("application/json;v={version};g=config.k8s.io;as=Flagz");
        let flagz = server.get_as("/flagz", &accept).await.ok();
        assert_eq!(flagz["apiVersion"], format!("config.k8s.io/{version}"));
        assert_eq!(flagz["flags"]["secure-port"], "6443");
    }
    assert_eq!(server.get_as("/statusz", "application/json").await.failure().0, 406);
}

#[tokio::test]
async fn components_tell_how_they_are() {
    let server = Server::start().await;
    let path = "/api/v1/componentstatuses";
    let list = server.get(path).await.ok();
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|one| &one["metadata"]["name"]).collect();
    assert_eq!(names, ["controller-manager", "etcd-0", "scheduler"]);
    let store = server.get(&format!("{path}/etcd-0")).await.ok();
    assert_eq!(store["conditions"], json!([{"type": "Healthy", "status": "True", "message": "ok"}]));
    let one = server.get(&format!("{path}?fieldSelector=metadata.name%3Detcd-0")).await.ok();
    assert_eq!(one["items"], json!([store]));
    assert_eq!(server.get(&format!("{path}/nobody")).await.failure().0, 404);
}
