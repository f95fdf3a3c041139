//! Budgets, quotas, autoscalers, and the status of admission policies.

use serde_json::{Value, json};

use crate::cluster::{Cluster, condition};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SCALERS: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn deployment(name: &str, replicas: i32) -> Value {
    json!({"metadata": {"name": name}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": "100m"}}}]}}}})
}

fn budget(name: &str, spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_count_what_may_be_disrupted() {
    let cluster = Cluster::start().await;
    cluster.post(BUDGETS, budget("share", json!({"maxUnavailable": "50%"}))).await;
    cluster.post(BUDGETS, budget("number", json!({"minAvailable": 3}))).await;
    let share = format!("{BUDGETS}/share");
    let told = cluster
        .until(&share, |pdb| condition(pdb, "DisruptionAllowed")["reason"] == "InsufficientPods")
        .await;
    assert_eq!(
        (&told["status"]["expectedPods"], &told["status"]["observedGeneration"]),
        (&json!(0), &json!(1))
    );
    cluster.event("default", "share", "NoPods", "No matching pods found").await;
    cluster.post(DEPLOYMENTS, deployment("web", 4)).await;
    let counts = |expected: [i32; 4]| {
        move |pdb: &Value| {
            let status = &pdb["status"];
            ["expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed"]
                .iter()
                .zip(expected)
                .all(|(count, expected)| status[count] == expected)
        }
    };
    let told = cluster.until(&share, counts([4, 2, 4, 2])).await;
    assert_eq!(condition(&told, "DisruptionAllowed")["reason"], "SufficientPods");
    cluster.until(&format!("{BUDGETS}/number"), counts([4, 3, 4, 1])).await;
    // A pod of nobody's does not count in shares, and that is said.
    let loner = json!({"metadata": {"name": "loner", "labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.post(PODS, loner).await;
    // The ReplicaSet does not adopt it: it lacks the hash.
    cluster.until(&share, counts([4, 2, 5, 3])).await;
    cluster.event("default", "share", "UnmanagedPods", "were found to be unmanaged").await;
    let pods = cluster.items(PODS).await;
    let mut evicted = 0;
    for pod in &pods {
        let name = crate::cluster::name(pod);
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        // One budget too many for a pod is refused anyway.
        let path = format!("{PODS}/{name}/eviction");
        evicted += usize::from(
            cluster.try_send(http::Method::POST, &path, "application/json", &eviction).await.is_ok(),
        );
    }
    assert_eq!(evicted, 0, "no more than one budget may cover a pod that is evicted");
    cluster.delete(&format!("{BUDGETS}/number")).await;
    let name = crate::cluster::name(&pods[0]);
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    cluster.post(&format!("{PODS}/{name}/eviction"), eviction).await;
    cluster.gone(&format!("{PODS}/{name}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_count_every_kind_by_scope() {
    let cluster = Cluster::start().await;
    let crd = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    cluster.post(crds, crd).await;
    cluster
        .until(&format!("{crds}/widgets.example.com"), |crd| {
            condition(crd, "Established")["status"] == "True"
        })
        .await;
    let hard = json!({"count/widgets.example.com": "5", "count/deployments.apps": "5", "configmaps": "10", "secrets": "10",
        "services": "5", "services.nodeports": "2", "persistentvolumeclaims": "3", "requests.storage": "10Gi",
        "resourcequotas": "5", "requests.cpu": "1", "count/configmaps": "10"});
    cluster.post(QUOTAS, json!({"metadata": {"name": "all"}, "spec": {"hard": hard}})).await;
    cluster
        .post(
            QUOTAS,
            json!({"metadata": {"name": "best"}, "spec": {"hard": {"pods": "5"}, "scopes": ["BestEffort"]}}),
        )
        .await;
    let ends = json!({"hard": {"pods": "5"}, "scopes": ["Terminating"]});
    cluster.post(QUOTAS, json!({"metadata": {"name": "ends"}, "spec": ends})).await;
    let path = |name: &str| format!("{QUOTAS}/{name}");
    let used = |name: &'static str, amount: &'static str| {
        move |quota: &Value| quota["status"]["used"][name] == amount
    };
    cluster.until(&path("all"), used("resourcequotas", "3")).await;
    let told = cluster.until(&path("all"), used("configmaps", "1")).await;
    assert_eq!(told["status"]["hard"], told["spec"]["hard"], "the certificate's ConfigMap is one");

    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    cluster.post("/apis/example.com/v1/namespaces/default/widgets", widget).await;
    cluster.until(&path("all"), used("count/widgets.example.com", "1")).await;
    cluster.post("/api/v1/namespaces/default/configmaps", json!({"metadata": {"name": "m"}})).await;
    cluster
        .until(&path("all"), |quota| used("configmaps", "2")(quota) && used("count/configmaps", "2")(quota))
        .await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    cluster.post("/api/v1/namespaces/default/services", service).await;
    cluster
        .until(&path("all"), |quota| used("services", "2")(quota) && used("services.nodeports", "1")(quota))
        .await;
    cluster.patch("/api/v1/namespaces/default/services/s", json!({"spec": {"type": "ClusterIP"}})).await;
    cluster.until(&path("all"), used("services.nodeports", "0")).await;
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
    cluster.post("/api/v1/namespaces/default/persistentvolumeclaims", claim).await;
    cluster.until(&path("all"), used("requests.storage", "2Gi")).await;

    let pod = |name: &str, more: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let requests = json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "300m"}}}]);
    cluster.post(PODS, pod("burst", json!({"containers": requests, "activeDeadlineSeconds": 600}))).await;
    cluster.until(&path("all"), used("requests.cpu", "300m")).await;
    cluster.until(&path("ends"), used("pods", "1")).await;
    let best = cluster.get(&path("best")).await;
    assert_eq!(best["status"]["used"]["pods"], "0");
    // What has ended uses nothing any more.
    cluster.patch(&format!("{PODS}/burst/status"), json!({"status": {"phase": "Succeeded"}})).await;
    cluster.until(&path("all"), used("requests.cpu", "0")).await;
    cluster.until(&path("ends"), used("pods", "0")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_without_metrics_says_so_and_keeps_to_its_limits() {
    let cluster = Cluster::start().await;
    cluster.post(DEPLOYMENTS, deployment("web", 1)).await;
    let scaler = |name: &str, least: i32| {
        json!({"metadata": {"name": name}, "spec": {"minReplicas": least, "maxReplicas": 5,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}})
    };
    cluster.post(SCALERS, scaler("web", 2)).await;
    cluster.until(&format!("{DEPLOYMENTS}/web"), |web| web["status"]["readyReplicas"] == 2).await;
    cluster
        .event(
            "default",
            "web",
            "SuccessfulRescale",
            "New size: 2; reason: Current number of replicas below Spec.MinReplicas",
        )
        .await;
    let told = cluster.until(&format!("{SCALERS}/web"), |hpa| hpa["status"]["desiredReplicas"] == 2).await;
    assert_eq!(condition(&told, "AbleToScale")["reason"], "SucceededRescale");
    cluster.post(SCALERS, scaler("nobody", 1)).await;
    let told = cluster
        .until(&format!("{SCALERS}/nobody"), |hpa| condition(hpa, "AbleToScale")["status"] == "False")
        .await;
    assert_eq!(condition(&told, "AbleToScale")["reason"], "FailedGetScale");
    cluster.event("default", "nobody", "FailedGetScale", "not found").await;
    // The second look asks for metrics that nobody has.
    cluster.patch(&format!("{SCALERS}/web"), json!({"spec": {"maxReplicas": 6}})).await;
    let told = cluster
        .until(&format!("{SCALERS}/web"), |hpa| condition(hpa, "ScalingActive")["status"] == "False")
        .await;
    assert_eq!(condition(&told, "ScalingActive")["reason"], "FailedGetResourceMetric");
    let told =
        "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics";
    cluster.event("default", "web", "FailedGetResourceMetric", told).await;
    cluster
        .event(
            "default",
            "web",
            "FailedComputeMetricsReplicas",
            "unable to fetch metrics from resource metrics API",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_type_checked() {
    let cluster = Cluster::start().await;
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let policy = |name: &str, expression: &str| {
        json!({"metadata": {"name": name}, "spec": {"validations": [{"expression": expression}],
            "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]}}})
    };
    cluster.post(policies, policy("good", "object.spec.replicas < 5")).await;
    cluster.post(policies, policy("bad", "object.spec.replicas < '5'")).await;
    let seen = |policy: &Value| policy["status"]["observedGeneration"] == 1;
    let good = cluster.until(&format!("{policies}/good"), seen).await;
    assert_eq!(good["status"]["typeChecking"]["expressionWarnings"], Value::Null);
    let bad = cluster.until(&format!("{policies}/bad"), seen).await;
    let warning = &bad["status"]["typeChecking"]["expressionWarnings"][0];
    assert_eq!(warning["fieldRef"], "spec.validations[0].expression");
    assert!(warning["warning"].as_str().unwrap().contains("no matching overload"), "{warning}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_follows_its_metrics() {
    let cluster = Cluster::start().await;
    cluster.post(DEPLOYMENTS, deployment("web", 2)).await;
    let web = format!("{DEPLOYMENTS}/web");
    cluster.until(&web, |web| web["status"]["readyReplicas"] == 2).await;
    // Measured after the pods have begun.
    let now = k8s_openapi::jiff::Timestamp::now() + k8s_openapi::jiff::SignedDuration::from_hours(1);
    let usage = |pods: &[Value], cpu: &str| {
        let item = |pod: &Value| {
            json!({"metadata": {"name": pod["metadata"]["name"]}, "timestamp": now.to_string(), "window": "30s",
                "containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "10Mi"}}]})
        };
        json!({"items": pods.iter().map(item).collect::<Vec<_>>()})
    };
    let pods = cluster.items(PODS).await;
    let path = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
    cluster.metrics.lock().insert(path.to_owned(), usage(&pods, "100m"));
    let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
    let scaler = json!({"metadata": {"name": "web"}, "spec": {"minReplicas": 1, "maxReplicas": 10, "metrics": [metric],
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    cluster.post(SCALERS, scaler).await;
    let path = format!("{SCALERS}/web");
    let told = cluster.until(&path, |hpa| hpa["status"]["desiredReplicas"] == 4).await;
    assert_eq!(told["status"]["currentMetrics"][0]["resource"]["current"]["averageUtilization"], 100);
    for (type_, reason) in [
        ("AbleToScale", "SucceededRescale"),
        ("ScalingActive", "ValidMetricFound"),
        ("ScalingLimited", "DesiredWithinRange"),
    ] {
        assert_eq!(condition(&told, type_)["reason"], reason);
    }
    let message = "New size: 4; reason: cpu resource utilization (percentage of request) above target";
    cluster.event("default", "web", "SuccessfulRescale", message).await;
    cluster.until(&web, |web| web["status"]["readyReplicas"] == 4).await;

    // By a metric from outside, and no further than the limit.
    let queue = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue_length";
    let value =
        json!({"items": [{"metricName": "queue_length", "timestamp": now.to_string(), "value": "600"}]});
    cluster.metrics.lock().insert(queue.to_owned(), value);
    let external = json!({"type": "External", "external": {"metric": {"name": "queue_length"},
        "target": {"type": "AverageValue", "averageValue": "100"}}});
    cluster.patch(&path, json!({"spec": {"metrics": [external], "maxReplicas": 5}})).await;
    let told = cluster.until(&path, |hpa| hpa["status"]["desiredReplicas"] == 5).await;
    assert_eq!(condition(&told, "ScalingLimited")["reason"], "TooManyReplicas");
    // Less is called for: that is only believed after a while.
    let value =
        json!({"items": [{"metricName": "queue_length", "timestamp": now.to_string(), "value": "100"}]});
    cluster.metrics.lock().insert(queue.to_owned(), value);
    cluster.until(&web, |web| web["status"]["readyReplicas"] == 5).await;
    cluster.patch(&path, json!({"spec": {"maxReplicas": 6}})).await;
    let told =
        cluster.until(&path, |hpa| condition(hpa, "AbleToScale")["reason"] == "ScaleDownStabilized").await;
    assert_eq!(told["status"]["desiredReplicas"], 5);
    // Unless it is asked for at once.
    cluster
        .patch(&path, json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}}}}))
        .await;
    cluster.until(&web, |web| web["spec"]["replicas"] == 1).await;
}
