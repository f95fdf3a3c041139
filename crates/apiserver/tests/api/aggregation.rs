//! APIServices: this server's own, and those of others.

use http::Method;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::custom::{crd, define};
use crate::extension::{Extension, GROUP};
use crate::fixture::*;
use crate::watches::Watch;
use crate::wire::{connector, listen};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const WIDGETS: &str = "/apis/metrics.example.com/v1/namespaces/default/widgets";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Waits until the APIService has a condition that is wanted.
async fn until(server: &Server, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let path = format!("{SERVICES}?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds=20");
    let mut watch = Watch::open(server, &path).await;
    loop {
        let event = watch.next().await.unwrap_or_else(|| panic!("{name} never got there"));
        let condition = event["object"]["status"]["conditions"][0].clone();
        if condition["type"] == "Available" && wanted(&condition) {
            return condition;
        }
    }
}

async fn available(server: &Server, name: &str, status: &str) -> Value {
    until(server, name, |condition| condition["status"] == status).await
}

async fn unavailable_for(server: &Server, name: &str, reason: &str) -> String {
    let condition =
        until(server, name, |condition| condition["status"] == "False" && condition["reason"] == reason)
            .await;
    condition["message"].as_str().unwrap().to_owned()
}

/// An extension server that believes this cluster's front proxies, behind a Service.
async fn extended() -> (Server, Extension) {
    extended_by(|_| ()).await
}

async fn extended_by(prepared: impl Fn(&Extension)) -> (Server, Extension) {
    let server = Server::start().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let published = server.get(path).await.ok();
    let extension =
        Extension::start(published["data"]["requestheader-client-ca-file"].as_str().unwrap()).await;
    prepared(&extension);
    let service = json!({
        "metadata": {"name": "metrics"}, "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    server.post("/api/v1/namespaces/default/services", &service).await.ok();
    server.post(SERVICES, &extension.api_service("v1", extension.bundle())).await.ok();
    available(&server, "v1.metrics.example.com", "True").await;
    (server, extension)
}

#[tokio::test]
async fn own_group_versions_have_one() {
    let server = Server::start().await;
    for name in ["v1.", "v1.apps", "v2.autoscaling"] {
        assert_eq!(available(&server, name, "True").await["reason"], "Local");
    }
    define(&server, &crd()).await;
    available(&server, "v1.example.com", "True").await;
    let spec = |service: Value| {
        (service["spec"]["groupPriorityMinimum"].clone(), service["spec"]["versionPriority"].clone())
    };
    let get = async |name: &str| spec(server.get(&format!("{SERVICES}/{name}")).await.ok());
    assert_eq!(get("v1.apps").await, (json!(17800), json!(15)));
    assert_eq!(get("v1.example.com").await, (json!(1000), json!(100)));
    assert_eq!(server.get(&format!("{SERVICES}/v1.apiregistration.k8s.io")).await.code, 404);
}

#[tokio::test]
async fn why_a_server_is_unavailable() {
    let server = Server::start().await;
    let service = json!({
        "metadata": {"name": "v1.metrics.example.com"},
        "spec": {
            "group": GROUP, "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "metrics"},
        },
    });
    let name = "v1.metrics.example.com";
    server.post(SERVICES, &service).await.ok();
    assert_eq!(
        unavailable_for(&server, name, "ServiceNotFound").await,
        "service/metrics in \"default\" is not present"
    );
    let (code, reason, _) = server.get(WIDGETS).await.failure();
    assert_eq!((code, reason.as_str()), (503, "ServiceUnavailable"));

    let services = "/api/v1/namespaces/default/services";
    let ports = |port: u16| json!({"metadata": {"name": "metrics"}, "spec": {"ports": [{"name": "tls", "port": port}]}});
    server.post(services, &ports(80)).await.ok();
    assert_eq!(
        unavailable_for(&server, name, "ServicePortError").await,
        "service/metrics in \"default\" is not listening on port 443"
    );
    server.patch(&format!("{services}/metrics"), "merge-patch+json", &ports(443)).await.ok();
    assert_eq!(
        unavailable_for(&server, name, "EndpointsNotFound").await,
        "cannot find endpointslices for service/metrics in \"default\""
    );
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = json!({
        "metadata": {"name": "metrics-1", "labels": {"kubernetes.io/service-name": "metrics"}},
        "addressType": "IPv4", "ports": [{"name": "tls", "port": 1}], "endpoints": [],
    });
    server.post(slices, &slice).await.ok();
    assert_eq!(
        unavailable_for(&server, name, "MissingEndpoints").await,
        "endpoints for service/metrics in \"default\" have no addresses with port name \"tls\""
    );
    let Some(own) = Extension::address() else { return };
    // Nobody listens there.
    let there = json!({"endpoints": [{"addresses": [own.to_string()], "conditions": {"ready": true}}]});
    server.patch(&format!("{slices}/metrics-1"), "merge-patch+json", &there).await.ok();
    let message = unavailable_for(&server, name, "FailedDiscoveryCheck").await;
    assert!(
        message.starts_with("failing or missing response from https://metrics.default.svc:443/apis/"),
        "{message}"
    );
    // A server that does answer, at the same endpoint: what is said of it goes without anyone asking again.
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let published = server.get(path).await.ok();
    let extension =
        Extension::start(published["data"]["requestheader-client-ca-file"].as_str().unwrap()).await;
    let there = json!({"ports": [{"name": "tls", "port": extension.port}]});
    server.patch(&format!("{slices}/metrics-1"), "merge-patch+json", &there).await.ok();
    available(&server, name, "True").await;
    assert_eq!(server.get(WIDGETS).await.ok()["kind"], "WidgetList");
}

#[tokio::test]
async fn the_far_end_learns_who_asks_from_this_server_alone() {
    let (server, extension) = extended().await;
    let asked = extension.last("/apis/metrics.example.com/v1");
    assert_eq!(asked.from, "front-proxy-client");
    assert_eq!(asked.headers["x-remote-user"], "system:kube-aggregator");
    assert_eq!(asked.headers["x-remote-group"], "system:masters");

    let mut get = request(Method::GET, WIDGETS, "", "");
    for (name, value) in [
        ("x-remote-user", "root"),
        ("x-remote-extra-scopes", "all"),
        ("authorization", "Bearer secret"),
        ("audit-id", "given"),
    ] {
        get.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = server.send(get).await;
    assert_eq!(answer.ok()["kind"], "WidgetList");
    let arrived = extension.last("widgets");
    assert_eq!(arrived.from, "front-proxy-client");
    assert_eq!(arrived.headers["x-remote-user"], "test");
    let groups: Vec<_> = arrived.headers.get_all("x-remote-group").iter().collect();
    assert_eq!(groups, ["system:masters", "system:authenticated"]);
    assert_eq!(arrived.headers["audit-id"], "given");
    for secret in ["authorization", "x-remote-extra-scopes"] {
        assert!(!arrived.headers.contains_key(secret), "{secret}");
    }
    assert_eq!(server.get(&format!("{WIDGETS}/moved")).await.code, 502);
}

#[tokio::test]
async fn trust_is_what_the_api_service_says() {
    let (server, extension) = extended().await;
    // Another bundle: the certificate is not good any more. Version v1beta1 trusts anyone.
    let other =
        Extension::start(&std::fs::read_to_string(server.files.path().join("front-proxy-ca.crt")).unwrap())
            .await;
    let change = json!({"spec": {"caBundle": other.bundle()["caBundle"]}});
    server.patch(&format!("{SERVICES}/v1.metrics.example.com"), "merge-patch+json", &change).await.ok();
    let message = unavailable_for(&server, "v1.metrics.example.com", "FailedDiscoveryCheck").await;
    assert!(message.contains("certificate"), "{message}");
    let anyone = extension.api_service("v1beta1", json!({"insecureSkipTLSVerify": true}));
    server.post(SERVICES, &anyone).await.ok();
    available(&server, "v1beta1.metrics.example.com", "True").await;
    let list = server.get(&WIDGETS.replace("/v1/", "/v1beta1/")).await.ok();
    assert_eq!(list["kind"], "WidgetList");
}

#[tokio::test]
async fn discovery_shows_what_others_serve_and_says_when_it_is_old() {
    let (server, extension) = extended().await;
    let freshness = async || -> Value {
        let all = server.get_as("/apis", AGGREGATED).await.ok();
        let groups = all["items"].as_array().unwrap();
        let last = groups.last().unwrap();
        assert_eq!(groups[0]["metadata"]["name"], "apiregistration.k8s.io");
        assert_eq!(last["metadata"]["name"], GROUP);
        assert_eq!(last["versions"][0]["resources"][0]["resource"], "widgets");
        assert_eq!(last["versions"][0]["resources"][0]["subresources"][0]["subresource"], "console");
        last["versions"][0]["freshness"].clone()
    };
    assert_eq!(freshness().await, "Current");
    let group = server.get("/apis/metrics.example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    assert_eq!(server.get("/apis/metrics.example.com/v1").await.ok()["resources"][0]["name"], "widgets");

    // The priority of the group moves it before all others but the built-in one of APIServices.
    let change = json!({"spec": {"groupPriorityMinimum": 19000}});
    let path = format!("{SERVICES}/v1.metrics.example.com");
    server.patch(&path, "merge-patch+json", &change).await.ok();
    while server.get("/apis").await.ok()["groups"][1]["name"] != GROUP {
        tokio::task::yield_now().await;
    }
    let change = json!({"spec": {"groupPriorityMinimum": 1}});
    server.patch(&path, "merge-patch+json", &change).await.ok();
    while server.get("/apis").await.ok()["groups"].as_array().unwrap().last().unwrap()["name"] != GROUP {
        tokio::task::yield_now().await;
    }

    extension.break_down(true);
    // Something about its endpoints changes, so that it is asked again.
    let moved = json!({"spec": {"externalName": "ip6-localhost.invalid"}});
    server.patch("/api/v1/namespaces/default/services/metrics", "merge-patch+json", &moved).await.ok();
    unavailable_for(&server, "v1.metrics.example.com", "FailedDiscoveryCheck").await;
    assert_eq!(freshness().await, "Stale");
    assert_eq!(server.get(WIDGETS).await.code, 503);
    assert_eq!(server.get("/apis/metrics.example.com").await.ok()["versions"][0]["version"], "v1");
    let back = json!({"spec": {"externalName": "localhost"}});
    server.patch("/api/v1/namespaces/default/services/metrics", "merge-patch+json", &back).await.ok();
    let message = until(&server, "v1.metrics.example.com", |condition| {
        condition["message"].as_str().unwrap().contains("bad status")
    });
    assert!(message.await["message"].as_str().unwrap().ends_with(": 500"));
    extension.break_down(false);
    available(&server, "v1.metrics.example.com", "True").await;
    assert_eq!(freshness().await, "Current");

    server.delete(&path, "").await.ok();
    while server.get("/apis/metrics.example.com").await.code != 404 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn openapi_has_what_others_say() {
    let (server, _extension) = extended().await;
    let name = "apis/metrics.example.com/v1";
    let url = loop {
        // They are asked for once the server is known to be well.
        let index = server.get("/openapi/v3").await.ok();
        if let Some(url) = index["paths"][name]["serverRelativeURL"].as_str() {
            break url.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(url, "/openapi/v3/apis/metrics.example.com/v1?hash=1");
    assert_eq!(server.get(&url).await.ok()["theirs"], true);
    loop {
        let document = server.get("/openapi/v2").await.ok();
        if document["definitions"]["com.example.Widget"]["type"] == "object" {
            assert!(document["paths"]["/apis/metrics.example.com/v1/widgets"].is_object());
            assert!(document["paths"]["/api/v1/pods"].is_object());
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_without_openapi_v3_has_it_made_of_v2() {
    let (server, _extension) = extended_by(Extension::grow_old).await;
    let name = "apis/metrics.example.com/v1";
    let url = loop {
        let index = server.get("/openapi/v3").await.ok();
        if let Some(url) = index["paths"][name]["serverRelativeURL"].as_str() {
            break url.to_owned();
        }
        tokio::task::yield_now().await;
    };
    assert!(url.starts_with("/openapi/v3/apis/metrics.example.com/v1?hash="), "{url}");
    let answer = server.get(&url).await;
    let etag = answer.headers["etag"].clone();
    let document = answer.ok();
    let read = &document["paths"]["/apis/metrics.example.com/v1/widgets"]["get"]["responses"]["200"];
    let expected = "#/components/schemas/com.example.Widget";
    assert_eq!(read["content"]["*/*"]["schema"]["$ref"], expected);
    assert_eq!(document["components"]["schemas"]["com.example.Widget"]["description"], "A widget.");
    let mut again = request(Method::GET, &url, "", "");
    again.headers_mut().insert("if-none-match", etag);
    assert_eq!(server.send(again).await.code, 304);
}

#[tokio::test]
async fn watches_stream_and_upgrades_pass_through() {
    let (server, extension) = extended().await;
    let mut watch = Watch::open(&server, &format!("{WIDGETS}?watch=true")).await;
    for count in 0..3 {
        extension.tell(json!({"type": "ADDED", "object": {"count": count}}));
        assert_eq!(watch.next().await.unwrap()["object"]["count"], count);
    }

    let (address, stop, serving) = listen(&server).await;
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector(&server, Some("admin"), b"http/1.1").connect(name, socket).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut console = request(Method::GET, &format!("{WIDGETS}/a/console"), "", "");
    for (name, value) in [
        ("host", "localhost"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
        ("impersonate-user", "alice"),
        ("impersonate-group", "dev"),
        ("impersonate-extra-example.com%2fscope", "view"),
    ] {
        console.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
    }
    // Alice may do that by a role; what she may do there is for the far end to say.
    let role = json!({"metadata": {"name": "widgets"},
        "rules": [{"apiGroups": [GROUP], "resources": ["widgets/console"], "verbs": ["get"]}]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    server.post(&format!("{rbac}/clusterroles"), &role).await.ok();
    let binding = json!({"metadata": {"name": "widgets"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "widgets"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "dev"}]});
    server.post(&format!("{rbac}/clusterrolebindings"), &binding).await.ok();
    let mut answer = sender.send_request(console).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut said = [0; 5];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HELLO");
    let arrived = extension.last("console");
    assert_eq!(arrived.headers["x-remote-user"], "alice");
    assert_eq!(arrived.headers["x-remote-group"], "dev");
    assert_eq!(arrived.headers["x-remote-extra-example.com%2fscope"], "view");
    assert_eq!(arrived.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(arrived.headers["sec-websocket-protocol"], "v5.channel.k8s.io");
    assert!(!arrived.headers.contains_key("impersonate-user"));
    drop(stream);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn one_that_never_answers_holds_up_nobody() {
    let (server, _extension) = extended().await;
    // Accepts connections, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let service = json!({"metadata": {"name": "silent"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    server.post("/api/v1/namespaces/default/services", &service).await.ok();
    let dead = json!({
        "metadata": {"name": "v1.dead.example.com"},
        "spec": {
            "group": "dead.example.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "silent", "port": port},
        },
    });
    server.post(SERVICES, &dead).await.ok();
    let (_held, _) = silent.accept().await.unwrap();
    // While it is being waited for: requests for it fail at once, and all others go on.
    assert_eq!(server.get("/apis/dead.example.com/v1/things").await.code, 503);
    assert_eq!(server.get(WIDGETS).await.ok()["kind"], "WidgetList");
    define(&server, &crd()).await;
    available(&server, "v1.example.com", "True").await;
    let all = server.get_as("/apis", AGGREGATED).await.ok();
    let groups = all["items"].as_array().unwrap();
    let dead = groups.iter().find(|group| group["metadata"]["name"] == "dead.example.com").unwrap();
    assert_eq!(dead["versions"][0]["freshness"], "Stale");
}
