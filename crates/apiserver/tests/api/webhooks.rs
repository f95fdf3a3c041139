//! Admission webhooks: real HTTPS servers that are asked about writes.

use std::net::UdpSocket;

use serde_json::{Value, json};

use crate::fixture::{CONFIG_MAPS, PODS, Server, config_map, pod, with_service_account};
use crate::hook::{Decision, Webhook, allowed, patched, refused};

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

fn rules(operations: &[&str], group: &str, resources: &[&str]) -> Value {
    json!([{"operations": operations, "apiGroups": [group], "apiVersions": ["*"], "resources": resources}])
}

/// A webhook about ConfigMaps, unless `more` says otherwise.
fn webhook(name: &str, client: Value, more: Value) -> Value {
    let mut hook = json!({
        "name": name, "clientConfig": client, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "rules": rules(&["CREATE", "UPDATE", "DELETE"], "", &["configmaps"]),
    });
    for (key, value) in more.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

async fn configure(server: &Server, kind: &str, name: &str, hooks: &[Value]) {
    let path = format!("{ADMISSION}/{}webhookconfigurations", kind.to_lowercase());
    let kind = format!("{kind}WebhookConfiguration");
    let configuration = json!({"kind": kind, "apiVersion": "admissionregistration.k8s.io/v1",
        "metadata": {"name": name}, "webhooks": hooks});
    server.post(&path, &configuration).await.ok();
}

#[tokio::test]
async fn a_refusal_is_told_in_the_webhooks_words() {
    let hook = Webhook::start(|request| match request["object"]["data"]["a"].as_str() {
        Some("bad") => refused("bad data", 403),
        Some("unexplained") => Decision::Answer(json!({"allowed": false})),
        _ => Decision::Answer(json!({"allowed": true, "warnings": ["think twice"]})),
    })
    .await;
    let server = Server::start().await;
    configure(&server, "Validating", "c", &[webhook("deny.test.io", hook.client_config(), json!({}))]).await;
    let with = |name: &str, data: &str| json!({"metadata": {"name": name}, "data": {"a": data}});

    let stored = server.post(CONFIG_MAPS, &with("good", "1")).await;
    stored.ok();
    assert_eq!(stored.warnings(), ["299 - \"think twice\""]);
    let (code, _, message) = server.post(CONFIG_MAPS, &with("x", "bad")).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (403, "admission webhook \"deny.test.io\" denied the request: bad data")
    );
    let (code, _, message) = server.post(CONFIG_MAPS, &with("x", "unexplained")).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (400, "admission webhook \"deny.test.io\" denied the request without explanation")
    );
    server.delete(&format!("{CONFIG_MAPS}/good"), "").await.ok();

    let asked = hook.asked();
    let first = &asked[0];
    assert_eq!(first["operation"], "CREATE");
    assert_eq!(first["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(first["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&first["name"], &first["namespace"]), (&json!("good"), &json!("default")));
    assert_eq!((&first["oldObject"], &first["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!(first["userInfo"]["username"], "test");
    assert_eq!(first["options"]["kind"], "CreateOptions");
    let last = asked.last().unwrap();
    assert_eq!((&last["operation"], &last["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(last["oldObject"]["metadata"]["name"], "good");
}

#[tokio::test]
async fn mutations_follow_one_another_and_are_seen_again_by_who_asks() {
    let add = |field: &str| json!([{"op": "add", "path": format!("/data/{field}"), "value": "yes"}]);
    let first = Webhook::start(move |request| {
        let data = &request["object"]["data"];
        // Reacts to what the second one adds.
        patched(&add(if data["second"].is_string() { "again" } else { "first" }))
    })
    .await;
    let second = Webhook::start(move |request| {
        assert!(request["object"]["data"]["first"].is_string());
        patched(&add("second"))
    })
    .await;
    let server = Server::start().await;
    // The order is that of names.
    configure(&server, "Mutating", "b", &[webhook("second.test.io", second.client_config(), json!({}))])
        .await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    configure(&server, "Mutating", "a", &[webhook("first.test.io", first.client_config(), again)]).await;
    let stored = server.post(CONFIG_MAPS, &config_map("x")).await.ok();
    assert_eq!(stored["data"], json!({"a": "1", "first": "yes", "second": "yes", "again": "yes"}));
    assert_eq!((first.asked().len(), second.asked().len()), (2, 1));
}

#[tokio::test]
async fn what_webhooks_leave_is_defaulted_and_checked() {
    let hook = Webhook::start(|request| {
        patched(&match request["name"].as_str() {
            Some("sidecar") => json!([{"op": "add", "path": "/spec/containers/-",
                "value": {"name": "sidecar", "image": "busybox", "unknown": 1}}]),
            Some("wrong") => json!([{"op": "replace", "path": "/spec/containers", "value": "none"}]),
            Some("identity") => json!([{"op": "replace", "path": "/metadata/uid", "value": "mine"}]),
            _ => json!([{"op": "remove", "path": "/spec/nowhere"}]),
        })
    })
    .await;
    let server = with_service_account().await;
    let pods = json!({"rules": rules(&["CREATE"], "", &["pods"])});
    configure(&server, "Mutating", "c", &[webhook("m.test.io", hook.client_config(), pods)]).await;

    let stored = server.post(PODS, &pod("sidecar")).await.ok();
    let sidecar = &stored["spec"]["containers"][1];
    assert_eq!((&sidecar["imagePullPolicy"], &sidecar["unknown"]), (&json!("Always"), &Value::Null));
    // Plugins have seen it too.
    assert!(sidecar["volumeMounts"][0]["name"].as_str().unwrap().starts_with("kube-api-access-"));
    let (code, _, message) = server.post(PODS, &pod("wrong")).await.failure();
    assert!(code == 500 && message.contains("an object that is none"), "{message}");
    let (code, _, message) = server.post(PODS, &pod("missing")).await.failure();
    assert!(code == 500 && message.contains("a patch that cannot be applied"), "{message}");
    let stored = server.post(PODS, &pod("identity")).await.ok();
    assert_ne!(stored["metadata"]["uid"], "mine");
}

#[tokio::test]
async fn failures_follow_the_policy_and_hold_up_nobody_else() {
    let silent = Webhook::start(|_| Decision::Silence).await;
    let garbage = Webhook::start(|_| Decision::Garbage).await;
    let server = Server::start().await;
    let selecting = |label: &str, more: Value| {
        let mut more = more;
        more["objectSelector"] = json!({"matchLabels": {"to": label}});
        more
    };
    let nobody = json!({"url": "https://127.0.0.1:1/path"});
    let hooks = [
        webhook("silent.test.io", silent.client_config(), selecting("silent", json!({"timeoutSeconds": 1}))),
        webhook("garbage.test.io", garbage.client_config(), selecting("garbage", json!({}))),
        webhook("gone.test.io", nobody.clone(), selecting("gone", json!({}))),
        webhook("ignored.test.io", nobody, selecting("ignored", json!({"failurePolicy": "Ignore"}))),
    ];
    configure(&server, "Validating", "c", &hooks).await;
    let labelled = |label: &str| json!({"metadata": {"name": label, "labels": {"to": label}}});

    let labelled_silent = labelled("silent");
    let slow = server.post(CONFIG_MAPS, &labelled_silent);
    tokio::pin!(slow);
    let other = config_map("other");
    tokio::select! {
        quick = server.post(CONFIG_MAPS, &other) => drop(quick.ok()),
        slow = &mut slow => panic!("the others have waited for {}", slow.code),
    }
    let slow = slow.await;
    let (code, reason, message) = slow.failure();
    assert_eq!((code, reason.as_str()), (500, "InternalError"));
    assert!(
        message.starts_with("Internal error occurred: failed calling webhook \"silent.test.io\": failed to call webhook: Post \"https://127.0.0.1:")
            && message.ends_with("/path?timeout=1s\": context deadline exceeded"),
        "{message}"
    );
    let (_, _, message) = server.post(CONFIG_MAPS, &labelled("garbage")).await.failure();
    assert!(
        message.contains("failed calling webhook \"garbage.test.io\": received invalid webhook response"),
        "{message}"
    );
    let (_, _, message) = server.post(CONFIG_MAPS, &labelled("gone")).await.failure();
    assert!(
        message.contains("failed calling webhook \"gone.test.io\": failed to call webhook: Post"),
        "{message}"
    );
    server.post(CONFIG_MAPS, &labelled("ignored")).await.ok();
}

#[tokio::test]
async fn certificates_and_services() {
    let hook = Webhook::start(|_| refused("reached", 403)).await;
    let server = Server::start().await;
    let mut stranger = hook.client_config();
    let other = Webhook::start(|_| allowed()).await;
    stranger["caBundle"] = other.client_config()["caBundle"].clone();
    let mut by_service = hook.service_config();
    by_service["service"]["port"] = json!(8443);
    let selecting = |label: &str| json!({"objectSelector": {"matchLabels": {"to": label}}});
    let hooks = [
        webhook("stranger.test.io", stranger, selecting("stranger")),
        webhook("service.test.io", by_service, selecting("service")),
    ];
    configure(&server, "Validating", "c", &hooks).await;
    let labelled = |label: &str| json!({"metadata": {"name": label, "labels": {"to": label}}});

    let (_, _, message) = server.post(CONFIG_MAPS, &labelled("stranger")).await.failure();
    assert!(message.contains("certificate"), "{message}");
    let (_, _, message) = server.post(CONFIG_MAPS, &labelled("service")).await.failure();
    assert!(message.contains("service \"hook\" not found"), "{message}");
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "w", "port": 8443}]}});
    server.post("/api/v1/namespaces/default/services", &service).await.ok();
    let (_, _, message) = server.post(CONFIG_MAPS, &labelled("service")).await.failure();
    assert!(message.contains("no endpoints available for service \"hook\""), "{message}");
    // Connecting a datagram socket sends nothing, and tells this machine's address. Without a route there is none.
    let own = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Ok(own) = own else { return };
    let slice = json!({
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
        "ports": [{"name": "w", "port": hook.port}], "endpoints": [{"addresses": [own.ip().to_string()]}],
    });
    server.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await.ok();
    let (code, _, message) = server.post(CONFIG_MAPS, &labelled("service")).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (403, "admission webhook \"service.test.io\" denied the request: reached")
    );
}

#[tokio::test]
async fn conditions_selectors_and_dry_runs() {
    let hook = Webhook::start(|_| refused("asked", 403)).await;
    let server = Server::start().await;
    let conditions = json!([
        {"name": "named", "expression": "object.metadata.name != 'spared'"},
        {"name": "by", "expression": "request.userInfo.username == 'test' && authorizer.requestResource.check('create').allowed()"},
    ]);
    let hooks = [
        webhook("c.test.io", hook.client_config(), json!({"matchConditions": conditions})),
        webhook(
            "effects.test.io",
            hook.client_config(),
            json!({
                "sideEffects": "NoneOnDryRun", "objectSelector": {"matchLabels": {"x": "y"}},
            }),
        ),
    ];
    configure(&server, "Validating", "c", &hooks).await;
    server.post(CONFIG_MAPS, &config_map("spared")).await.ok();
    assert!(hook.asked().is_empty());
    let dry_run = format!("{CONFIG_MAPS}?dryRun=All");
    let (code, ..) = server.post(&dry_run, &config_map("x")).await.failure();
    assert_eq!((code, &hook.asked()[0]["dryRun"]), (403, &json!(true)));
    // Who may refuse changes of configurations could lock everyone out.
    let all = json!({"rules": rules(&["*"], "*", &["*/*"]), "matchConditions": []});
    configure(&server, "Validating", "all", &[webhook("all.test.io", hook.client_config(), all)]).await;
    let path = format!("{ADMISSION}/validatingwebhookconfigurations");
    server.delete(&format!("{path}/all"), "").await.ok();
    let wrong = webhook(
        "w.test.io",
        hook.client_config(),
        json!({"matchConditions": [{"name": "m", "expression": "objct.x"}]}),
    );
    let configuration = json!({"metadata": {"name": "w"}, "webhooks": [wrong]});
    let (code, reason, message) = server.post(&path, &configuration).await.failure();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(
        message.contains("webhooks[0].matchConditions[0].expression")
            && message.contains("undeclared reference to 'objct'"),
        "{message}"
    );
}

#[tokio::test]
async fn other_versions_and_subresources() {
    let hook = Webhook::start(|_| allowed()).await;
    let server = with_service_account().await;
    let autoscalers = json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v2"],
        "resources": ["horizontalpodautoscalers"]}]});
    let scales = json!({"rules": rules(&["UPDATE"], "apps", &["deployments/scale"])});
    let connections = json!({"rules": rules(&["CONNECT"], "", &["pods/attach"])});
    let hooks = [
        webhook("v.test.io", hook.client_config(), autoscalers),
        webhook("s.test.io", hook.client_config(), scales),
        webhook("x.test.io", hook.client_config(), connections),
    ];
    configure(&server, "Validating", "c", &hooks).await;
    let autoscaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    server.post("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", &autoscaler).await.ok();
    let asked = &hook.asked()[0];
    assert_eq!((&asked["kind"]["version"], &asked["requestKind"]["version"]), (&json!("v2"), &json!("v1")));
    assert_eq!(asked["object"]["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50);

    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    server.post(deployments, &deployment).await.ok();
    let scale = json!({"spec": {"replicas": 3}});
    server.patch(&format!("{deployments}/d/scale"), "merge-patch+json", &scale).await.ok();
    let asked = &hook.asked()[1];
    assert_eq!((&asked["kind"]["kind"], &asked["subResource"]), (&json!("Scale"), &json!("scale")));
    assert_eq!(
        (&asked["object"]["spec"]["replicas"], &asked["oldObject"]["spec"]["replicas"]),
        (&json!(3), &json!(1))
    );

    server.post(PODS, &pod("p")).await.ok();
    // It runs nowhere, but whether it may be attached to is asked before that.
    let attach = format!("{PODS}/p/attach?container=c&stdin=true");
    server.post(&attach, &Value::Null).await.failure();
    let asked = &hook.asked()[2];
    assert_eq!(
        (&asked["operation"], &asked["kind"]["kind"]),
        (&json!("CONNECT"), &json!("PodAttachOptions"))
    );
    assert_eq!((&asked["object"]["container"], &asked["object"]["stdin"]), (&json!("c"), &json!(true)));
}

#[tokio::test]
async fn custom_resources_are_admitted_like_all_others() {
    let hook = Webhook::start(|request| match request["object"]["spec"]["size"].as_i64() {
        Some(13) => refused("unlucky", 403),
        _ => patched(&json!([{"op": "add", "path": "/spec/added", "value": 1},
            {"op": "add", "path": "/spec/pruned", "value": 1}])),
    })
    .await;
    let server = Server::start().await;
    let spec = json!({"type": "object", "properties": {"size": {"type": "integer"}, "added": {"type": "integer"},
        "filled": {"type": "string", "default": "in"}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema":
            {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec.clone()}}}})
    };
    let definition = json!({"metadata": {"name": "widgets.x.io"}, "spec": {"group": "x.io", "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets"}, "versions": [version("v1", true), version("v2", false)]}});
    server.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.ok();
    const WIDGETS: &str = "/apis/x.io/v1/namespaces/default/widgets";
    server.served(WIDGETS).await;

    let about = |version: &str| json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["x.io"], "apiVersions": [version], "resources": ["widgets"]}]});
    configure(&server, "Mutating", "c", &[webhook("w.test.io", hook.client_config(), about("v2"))]).await;
    let widget = |name: &str, size: u32| json!({"apiVersion": "x.io/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}});
    let stored = server.post(WIDGETS, &widget("a", 1)).await.ok();
    assert_eq!(stored["apiVersion"], "x.io/v1");
    // What the schema does not know goes, whoever has added it.
    assert_eq!(stored["spec"], json!({"size": 1, "added": 1, "filled": "in"}));
    assert_eq!(hook.asked()[0]["object"]["apiVersion"], "x.io/v2");
    let (code, _, message) = server.post(WIDGETS, &widget("b", 13)).await.failure();
    assert!(code == 403 && message.ends_with("denied the request: unlucky"), "{message}");
}

#[tokio::test]
async fn a_binding_is_shown_as_what_it_is() {
    let hook = Webhook::start(|request| match request["object"]["target"]["name"].as_str() {
        Some("bad") => refused("not there", 403),
        _ => patched(
            &json!([{"op": "add", "path": "/metadata/labels", "value": {"zone": "z", "app": "other"}}]),
        ),
    })
    .await;
    let server = with_service_account().await;
    server.post(PODS, &pod("p")).await.ok();
    let more = json!({"rules": rules(&["*"], "", &["pods", "pods/*"])});
    configure(&server, "Mutating", "c", &[webhook("bind.test.io", hook.client_config(), more)]).await;
    let binding = |node: &str| json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
    let (code, _, message) = server.post(&format!("{PODS}/p/binding"), &binding("bad")).await.failure();
    assert_eq!(
        (code, message.as_str()),
        (403, "admission webhook \"bind.test.io\" denied the request: not there")
    );
    assert_eq!(server.get(&format!("{PODS}/p")).await.ok()["spec"]["nodeName"], Value::Null);
    assert_eq!(server.post(&format!("{PODS}/p/binding"), &binding("n")).await.code, 201);
    let labels = server.get(&format!("{PODS}/p")).await.ok()["metadata"]["labels"].clone();
    assert_eq!(labels, json!({"zone": "z", "app": "p"}));

    for asked in hook.asked() {
        assert_eq!((&asked["operation"], &asked["subResource"]), (&json!("CREATE"), &json!("binding")));
        assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "Binding"}));
        assert_eq!(asked["resource"], json!({"group": "", "version": "v1", "resource": "pods"}));
        assert_eq!((&asked["oldObject"], &asked["object"]["kind"]), (&Value::Null, &json!("Binding")));
    }
    assert_eq!(hook.asked().len(), 2);
}
