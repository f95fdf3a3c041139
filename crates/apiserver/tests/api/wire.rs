//! What goes over the wire: TLS, versions of HTTP, media types, limits, discovery, health.

use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::fixture::*;

/// Serves on a port of its own; dropping the guard of the token stops it.
pub async fn listen(
    server: &Server,
) -> (std::net::SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let api = server.api.clone();
    let stopping = stop.clone();
    let serving = tokio::spawn(async move { api.serve(listener, stopping).await });
    (address, stop, serving)
}

pub fn connector(server: &Server, user: Option<&str>, protocol: &[u8]) -> TlsConnector {
    let file = |name: &str| server.files.path().join(name);
    let mut roots = rustls::RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(file("ca.crt")).unwrap() {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match user {
        None => builder.with_no_client_auth(),
        Some(user) => {
            let chain = CertificateDer::pem_file_iter(file(&format!("{user}.crt"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(file(&format!("{user}.key"))).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn ask(
    server: &Server,
    address: std::net::SocketAddr,
    user: Option<&str>,
    two: bool,
    path: &str,
) -> (StatusCode, serde_json::Value) {
    let protocol: &[u8] = if two { b"h2" } else { b"http/1.1" };
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector(server, user, protocol).connect(name, socket).await.unwrap();
    let mut request = request(Method::GET, &format!("https://localhost{path}"), "", "");
    let answer = if two {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert("host", "localhost".parse().unwrap());
        sender.send_request(request).await.unwrap()
    };
    let code = answer.status();
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test]
async fn certificates_identify_and_both_versions_are_spoken() {
    let server = Server::start().await;
    let (address, stop, serving) = listen(&server).await;
    for two in [false, true] {
        let (code, list) = ask(&server, address, Some("admin"), two, "/api/v1/namespaces").await;
        assert_eq!((code.as_u16(), &list["kind"]), (200, &json!("NamespaceList")));
        let (code, status) = ask(&server, address, None, two, "/api/v1/namespaces").await;
        assert_eq!((code.as_u16(), &status["reason"]), (403, &json!("Forbidden")));
        let message = status["message"].as_str().unwrap();
        assert!(
            message.contains("User \"system:anonymous\" cannot list resource \"namespaces\""),
            "{message}"
        );
        let (code, _) = ask(&server, address, None, two, "/healthz").await;
        assert_eq!(code.as_u16(), 200);
    }
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn bodies_have_a_limit_and_a_type() {
    let server = Server::start().await;
    let long = json!({"metadata": {"name": "x"}, "data": {"a": "y".repeat(3 << 20)}});
    let (code, reason, _) = server.post(CONFIG_MAPS, &long).await.failure();
    assert_eq!((code, reason.as_str()), (413, "RequestEntityTooLarge"));
    let send =
        |kind: &'static str, body: &'static str| server.send(request(Method::POST, CONFIG_MAPS, kind, body));
    assert_eq!(send("text/html", "<p>").await.failure().0, 415);
    for body in ["", "{", "[]", "\"x\"", "{\"kind\": \"Pod\"}", "{\"metadata\": 5}"] {
        assert_eq!(send("application/json", body).await.failure().0, 400, "{body}");
    }
    let made = send("application/yaml", "metadata:\n  name: made\n").await;
    assert_eq!(made.code, 201);
    assert_eq!(server.get_as(CONFIG_MAPS, "image/png").await.failure().0, 406);
}

#[tokio::test]
async fn failures_come_in_the_encoding_that_was_asked_for() {
    let server = Server::start().await;
    let missing = format!("{CONFIG_MAPS}/none");
    let protobuf = server.get_as(&missing, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(protobuf.headers["content-type"], "application/vnd.kubernetes.protobuf");
    let status = api::codec::protobuf::decode(&protobuf.bytes).unwrap();
    assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!("NotFound")));
    let yaml = server.get_as(&missing, "application/yaml").await;
    assert!(yaml.bytes.starts_with(b"apiVersion: v1"), "{:?}", yaml.bytes);
    // What is nothing we write is answered in JSON.
    assert_eq!(server.get_as(&missing, "image/png").await.failure().0, 406);
}

#[tokio::test]
async fn tables_and_metadata_of_older_clients() {
    let server = Server::start().await;
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
    let table = server.get_as(CONFIG_MAPS, "application/json;as=Table;v=v1beta1;g=meta.k8s.io").await.ok();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1beta1")));
    assert_eq!(table["rows"][0]["object"]["apiVersion"], "meta.k8s.io/v1beta1");
    let one = format!("{CONFIG_MAPS}/a");
    let partial = "application/json;as=PartialObjectMetadata;v=v1beta1;g=meta.k8s.io";
    assert_eq!(server.get_as(&one, partial).await.ok()["apiVersion"], "meta.k8s.io/v1beta1");
    // Questions have no tables, and streams no YAML.
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}).to_string();
    let mut asking = request(
        Method::POST,
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "application/json",
        &review,
    );
    asking.headers_mut().insert("accept", "application/json;as=Table;v=v1;g=meta.k8s.io".parse().unwrap());
    assert_eq!(server.send(asking).await.failure().0, 406);
    assert_eq!(server.get_as(&format!("{CONFIG_MAPS}?watch=1"), "application/yaml").await.code, 406);
}

#[tokio::test]
async fn methods_that_a_path_does_not_have() {
    let server = Server::start().await;
    let (code, reason, message) = server.post("/api/v1/configmaps", &config_map("a")).await.failure();
    assert_eq!((code, reason.as_str()), (405, "MethodNotAllowed"));
    assert_eq!(message, "the server does not allow this method on the requested resource");
    assert_eq!(server.delete("/api/v1/configmaps", "").await.failure().0, 405);
    let (_, _, message) = server.get(&format!("{CONFIG_MAPS}?labelSelector=a%3D%3D%3Db")).await.failure();
    assert_eq!(message.matches("unable to parse requirement").count(), 1, "{message}");
}

#[tokio::test]
async fn clients_are_warned() {
    let server = Server::start().await;
    let endpoints = server.get("/api/v1/namespaces/default/endpoints").await;
    assert_eq!(
        endpoints.warnings(),
        ["299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""]
    );
    let template = json!({
        "metadata": {"name": "t"},
        "template": {"spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A"}, {"name": "A"}]}]}},
    });
    let made = server.post("/api/v1/namespaces/default/podtemplates", &template).await;
    assert_eq!(
        made.warnings(),
        [
            "299 - \"template.spec.containers[0].env[1]: hides previous definition of \\\"A\\\", which may be dropped when using apply\""
        ]
    );
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_like() {
    use std::io::Read;
    let server = Server::start().await;
    for count in 0..3 {
        let mut map = config_map(&format!("big-{count}"));
        map["data"]["big"] = json!("z".repeat(100_000));
        server.post(CONFIG_MAPS, &map).await.ok();
    }
    let plain = server.get(CONFIG_MAPS).await;
    let mut asking = request(Method::GET, CONFIG_MAPS, "", "");
    asking.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let packed = server.send(asking).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.bytes.len() < plain.bytes.len() / 10);
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut unpacked).unwrap();
    // The revision of the list may be another one by now.
    let unpacked: serde_json::Value = serde_json::from_slice(&unpacked).unwrap();
    assert_eq!(unpacked["items"], plain.json()["items"]);
}

#[tokio::test]
async fn discovery_is_served_with_tags() {
    let server = Server::start().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let root = server.get_as("/apis", accept).await;
    assert_eq!(root.ok()["kind"], "APIGroupDiscoveryList");
    let mut again = request(Method::GET, "/apis", "", "");
    again.headers_mut().insert("accept", accept.parse().unwrap());
    again.headers_mut().insert("if-none-match", root.headers["etag"].clone());
    assert_eq!(server.send(again).await.code, 304);
    assert_eq!(server.get("/apis").await.ok()["kind"], "APIGroupList");
    assert_eq!(server.get("/api/v1").await.ok()["kind"], "APIResourceList");
    assert_eq!(server.get("/apis/apps").await.ok()["kind"], "APIGroup");
    let index = server.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert!(server.get(&url).await.ok()["components"]["schemas"].is_object());
    assert_eq!(server.get("/apis/none").await.failure().0, 404);
    assert_eq!(server.get("/apis/apps/v9").await.failure().0, 404);
}

#[tokio::test]
async fn the_server_tells_about_itself() {
    let server = Server::start().await;
    assert_eq!(server.get("/version").await.ok()["minor"], "36");
    for path in ["/healthz", "/livez", "/readyz", "/livez/ping"] {
        assert_eq!(server.get(path).await.bytes, "ok");
    }
    let verbose = server.get("/readyz?verbose").await;
    assert!(verbose.bytes.ends_with(b"readyz check passed\n"));
    assert_eq!(server.get("/livez/none").await.code, 404);
    server.get(CONFIG_MAPS).await.ok();
    let metrics = server.get("/metrics").await;
    let text = std::str::from_utf8(&metrics.bytes).unwrap();
    let counted = text.lines().any(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"configmaps\"")
            && line.ends_with(" 1")
    });
    assert!(counted, "{text}");
    assert!(text.contains("apiserver_storage_objects{resource=\"namespaces\"} 4"), "{text}");
    assert!(metrics.headers.contains_key("audit-id"));
}

#[tokio::test]
async fn what_is_not_served_is_not_found() {
    let server = Server::start().await;
    for path in [
        "/api/v1/nothing",
        "/apis/none/v1/pods",
        "/apis/apps/v1/namespaces/default/pods",
        "/nothing",
        "/api/v1/namespaces/x/nodes/y",
    ] {
        assert_eq!(server.get(path).await.failure().0, 404, "{path}");
    }
    let (code, ..) = server.delete("/api/v1/componentstatuses/x", "").await.failure();
    assert_eq!(code, 405);
}

#[tokio::test]
async fn protobuf_is_spoken_both_ways() {
    use api::codec::protobuf;
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    let server = Server::start().await;
    let mut map = config_map("pb");
    map["apiVersion"] = json!("v1");
    map["kind"] = json!("ConfigMap");
    let body = protobuf::encode(&map).unwrap();
    let mut create = http::Request::new(http_body_util::Full::new(body));
    *create.method_mut() = Method::POST;
    *create.uri_mut() = CONFIG_MAPS.parse().unwrap();
    create.headers_mut().insert("content-type", PROTOBUF.parse().unwrap());
    create.headers_mut().insert("accept", format!("{PROTOBUF},application/json").parse().unwrap());
    let created = server.send(create).await;
    assert_eq!((created.code.as_u16(), created.headers["content-type"].to_str().unwrap()), (201, PROTOBUF));
    let created = protobuf::decode(&created.bytes).unwrap();
    let path = format!("{CONFIG_MAPS}/pb");
    let json = server.get(&path).await.ok();
    assert_eq!(created["metadata"]["uid"], json["metadata"]["uid"]);
    assert_eq!(protobuf::decode(&server.get_as(&path, PROTOBUF).await.bytes).unwrap()["data"], json["data"]);
    let list = protobuf::decode(&server.get_as(CONFIG_MAPS, PROTOBUF).await.bytes).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["data"]), (&json!("ConfigMapList"), &json["data"]));
    assert!(list["metadata"]["resourceVersion"].is_string());
    let mut watch = request(Method::GET, &format!("{CONFIG_MAPS}?watch=1"), "", "");
    watch.headers_mut().insert("accept", PROTOBUF.parse().unwrap());
    let answer = server.open(watch).await;
    assert_eq!(answer.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut body = answer.into_body();
    let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    assert!(frame.windows(5).any(|window| window == b"ADDED"));
}
