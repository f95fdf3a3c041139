//! Who may come in and what they may do, as others say; what is recorded of it and how it is kept: with real issuers,
//! webhooks and files.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::audit::options::{AuditOptions, LogOptions};
use apiserver::config::TokenWebhook;
use apiserver::token::jwt;
use apiserver::token::keys::Keys;
use apiserver::{Config, UserInfo};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Response};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::Store;
use tower::ServiceExt;

use crate::fixture::*;
use crate::https::Https;
use crate::watches::Watch;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

fn json_answer(value: &Value) -> Response<Full<Bytes>> {
    Response::new(Full::new(value.to_string().into()))
}

fn signing_keys() -> Keys {
    let key = rcgen::KeyPair::generate().unwrap();
    Keys::from_pem(key.serialize_pem().as_bytes()).unwrap()
}

/// An OpenID Connect issuer whose keys can be changed.
struct Issuer {
    keys: Arc<Mutex<Arc<Keys>>>,
    https: Https,
}

impl Issuer {
    async fn start() -> Self {
        let keys = Arc::new(Mutex::new(Arc::new(signing_keys())));
        let served = keys.clone();
        let https = Https::start(move |request| {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let answer = match request.uri().path() {
                "/.well-known/openid-configuration" => {
                    json!({"issuer": format!("https://{host}"), "jwks_uri": format!("https://{host}/keys")})
                }
                _ => served.lock().jwks(),
            };
            async move { json_answer(&answer) }
        })
        .await;
        Self { keys, https }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.https.port)
    }

    fn token(&self, change: Value) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({
            "iss": self.url(), "aud": "corten", "sub": "alice", "exp": now + 600, "groups": ["dev"], "level": 3,
        });
        for (key, value) in change.as_object().unwrap() {
            claims[key] = value.clone();
        }
        jwt::sign(&self.keys.lock(), &claims).unwrap()
    }

    fn configuration(&self) -> Value {
        json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [{
                "issuer": {"url": self.url(), "audiences": ["corten"], "certificateAuthority": self.https.authority},
                "claimValidationRules": [{"expression": "claims.level > 2", "message": "the level is too low"}],
                "claimMappings": {
                    "username": {"expression": "'oidc:' + claims.sub"},
                    "groups": {"claim": "groups", "prefix": "oidc:"},
                    "extra": [{"key": "example.com/level", "valueExpression": "string(claims.level)"}],
                },
                "userValidationRules": [{"expression": "user.username != 'oidc:root'", "message": "root is reserved"}],
            }],
        })
    }
}

async fn reviewed(server: &Server, token: &str) -> Value {
    server.post(REVIEWS, &json!({"spec": {"token": token}})).await.ok()["status"].clone()
}

#[tokio::test]
async fn tokens_of_an_issuer() {
    let issuer = Issuer::start().await;
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("authentication.yaml");
    std::fs::write(&path, issuer.configuration().to_string()).unwrap();
    let server = Server::with(|config| Config { authentication_config: Some(path.clone()), ..config }).await;
    let check = async |change: Value, expected: Result<&str, &str>| {
        let status = reviewed(&server, &issuer.token(change)).await;
        match expected {
            Ok(name) => assert_eq!(status["user"]["username"], name, "{status}"),
            Err(part) => {
                assert_eq!(status["authenticated"], Value::Null, "{status}");
                assert!(status["error"].as_str().unwrap_or_default().contains(part), "{status}");
            }
        }
    };
    check(json!({}), Ok("oidc:alice")).await;
    check(json!({"aud": ["x", "corten"]}), Ok("oidc:alice")).await;
    check(json!({"aud": "x"}), Err("not for this server")).await;
    check(json!({"exp": 1}), Err("expired")).await;
    check(json!({"level": 1}), Err("the level is too low")).await;
    check(json!({"sub": "root"}), Err("root is reserved")).await;
    let status = reviewed(&server, &issuer.token(json!({}))).await;
    assert_eq!(status["user"]["groups"], json!(["oidc:dev", "system:authenticated"]));
    assert_eq!(status["user"]["extra"]["example.com/level"], json!(["3"]));

    // A key that was not there before is fetched; one that is gone is not accepted any more.
    let old = issuer.token(json!({"jti": "old"}));
    *issuer.keys.lock() = Arc::new(signing_keys());
    check(json!({"jti": "new"}), Ok("oidc:alice")).await;
    assert_eq!(reviewed(&server, &old).await["authenticated"], Value::Null);

    // The file is followed.
    let none = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"});
    std::fs::write(&path, none.to_string()).unwrap();
    let forgotten = async {
        while reviewed(&server, &issuer.token(json!({}))).await["authenticated"] == true {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("the issuer is trusted no more");
}

fn kubeconfig(https: &Https, path: &Path) {
    let config = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {
            "server": format!("https://127.0.0.1:{}/review", https.port),
            "certificate-authority-data": STANDARD.encode(&https.authority),
        }}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
    });
    std::fs::write(path, config.to_string()).unwrap();
}

/// A server that answers reviews, and all that it has been asked.
async fn reviewer(decide: fn(&Value) -> Value) -> (Https, Arc<Mutex<Vec<Value>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let https = Https::start(move |request| {
        let seen = seen.clone();
        async move {
            assert_eq!(request.headers()["authorization"], "Bearer secret");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            review["status"] = decide(&review["spec"]);
            seen.lock().push(review.clone());
            json_answer(&review)
        }
    })
    .await;
    (https, asked)
}

#[tokio::test]
async fn tokens_that_a_webhook_knows() {
    let (https, asked) = reviewer(|spec| match spec["token"].as_str() {
        Some("good") => json!({"authenticated": true, "user": {"username": "carol", "groups": ["ops"]}}),
        _ => json!({"authenticated": false, "error": "never heard of it"}),
    })
    .await;
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("webhook.conf");
    kubeconfig(&https, &path);
    let webhook =
        TokenWebhook { kubeconfig: path, version: "v1".to_owned(), cache_ttl: Duration::from_secs(100) };
    let server = Server::with(|config| Config { token_webhook: Some(webhook), ..config }).await;
    for _ in 0..2 {
        let status = reviewed(&server, "good").await;
        assert_eq!(status["user"], json!({"username": "carol", "groups": ["ops", "system:authenticated"]}));
        let status = reviewed(&server, "bad").await;
        assert!(status["error"].as_str().unwrap().contains("never heard of it"), "{status}");
    }
    assert_eq!(asked.lock().len(), 2, "answers are remembered");
}

#[tokio::test]
async fn what_a_webhook_allows() {
    let (https, asked) = reviewer(|spec| match spec["resourceAttributes"]["verb"].as_str() {
        Some("get") => json!({"allowed": true, "reason": "reading is fine"}),
        Some("delete") => json!({"allowed": false, "denied": true, "reason": "no deleting"}),
        Some("patch") => json!("nonsense"),
        _ => json!({"allowed": false}),
    })
    .await;
    let files = tempfile::tempdir().unwrap();
    let (connection, path) = (files.path().join("webhook.conf"), files.path().join("authorization.yaml"));
    kubeconfig(&https, &connection);
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": [
            {"type": "Webhook", "name": "hook", "webhook": {
                "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
                "matchConditionSubjectAccessReviewVersion": "v1",
                "matchConditions": [{"expression": "has(request.resourceAttributes) && request.user != 'eve'"}],
                "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": connection},
            }},
            {"type": "RBAC", "name": "rbac"},
        ],
    });
    std::fs::write(&path, configuration.to_string()).unwrap();
    let server = Server::with(|mut config| {
        config.authorization.config = Some(path);
        config
    })
    .await;
    let check = async |user: &str, verb: &str, allowed: bool, reason: &str| {
        let spec = json!({"user": user, "resourceAttributes": {"namespace": "default", "verb": verb, "resource": "pods"}});
        let status = server.post(ACCESS, &json!({"spec": spec})).await.ok()["status"].clone();
        assert_eq!(status["allowed"], allowed, "{user} {verb}: {status}");
        assert!(status["reason"].as_str().unwrap_or_default().contains(reason), "{status}");
    };
    check("bob", "get", true, "reading is fine").await;
    check("bob", "get", true, "reading is fine").await;
    assert_eq!(asked.lock().len(), 1, "answers are remembered");
    check("bob", "delete", false, "no deleting").await;
    check("bob", "list", false, "").await;
    check("bob", "patch", false, "\"hook\" failed").await;
    let before = asked.lock().len();
    check("eve", "get", false, "").await;
    assert_eq!(asked.lock().len(), before, "not asked about eve");
}

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, userGroups: ['system:masters']}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse}
";

#[tokio::test]
async fn what_is_recorded() {
    let files = tempfile::tempdir().unwrap();
    let (policy, log) = (files.path().join("policy.yaml"), files.path().join("audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let audit =
        AuditOptions { policy_file: Some(policy), log: Some(LogOptions::new(log.clone())), webhook: None };
    let server = Server::with(|config| Config { audit, ..config }).await;
    // Of administrators nothing.
    let role = json!({"metadata": {"name": "all"}, "rules": [
        {"apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["*"]},
    ]});
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    server.post(&format!("{rbac}/roles"), &role).await.ok();
    let binding = json!({
        "metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    server.post(&format!("{rbac}/rolebindings"), &binding).await.ok();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "");

    let bob = UserInfo::authenticated("bob", &[]);
    let call = async |method: Method, path: &str, body: &Value| {
        let request = request(method, path, "application/json", &body.to_string());
        let answer = server.api.service(bob.clone()).oneshot(request).await.unwrap();
        (answer.status().as_u16(), answer.headers()["audit-id"].to_str().unwrap().to_owned())
    };
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    let (code, secret_id) = call(Method::POST, "/api/v1/namespaces/default/secrets", &secret).await;
    assert_eq!(code, 201);
    assert_eq!(call(Method::POST, CONFIG_MAPS, &config_map("c")).await.0, 201);
    let (code, refused_id) = call(Method::GET, PODS, &Value::Null).await;
    assert_eq!(code, 403);

    let text = std::fs::read_to_string(&log).unwrap();
    assert!(
        !text.contains("hunter2")
            && !text.contains(&STANDARD.encode("hunter2"))
            && !text.contains("managedFields"),
        "{text}"
    );
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [made, configured, refused] = &events[..] else { panic!("{} events: {text}", events.len()) };
    assert_eq!((&made["auditID"], &made["level"]), (&json!(secret_id), &json!("Metadata")));
    assert_eq!((&made["stage"], &made["verb"]), (&json!("ResponseComplete"), &json!("create")));
    assert_eq!(
        made["objectRef"],
        json!({"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"})
    );
    assert_eq!(made["user"]["username"], "bob");
    assert_eq!(made["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(made["annotations"]["authorization.k8s.io/reason"].as_str().unwrap().contains("RoleBinding"));
    assert!(made["requestObject"].is_null() && made["responseObject"].is_null());
    assert_eq!(configured["requestObject"]["data"], json!({"a": "1"}));
    assert_eq!(configured["responseObject"]["metadata"]["name"], "c");
    assert_eq!((&refused["auditID"], &refused["responseStatus"]["code"]), (&json!(refused_id), &json!(403)));
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
}

#[tokio::test]
async fn secrets_are_stored_encrypted() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("encryption.yaml");
    let key = |name: &str, byte: u8| json!({"name": name, "secret": STANDARD.encode([byte; 32])});
    let configure = |keys: Value| {
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": keys}}, {"identity": {}}]}],
        });
        std::fs::write(&path, configuration.to_string()).unwrap();
    };
    configure(json!([key("one", 1)]));
    let store = Store::in_memory().unwrap();
    let server = Server::with_store(store.clone(), |config| Config {
        encryption_config: Some(path.clone()),
        ..config
    })
    .await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}});
    server.post(secrets, &secret).await.ok();
    server.post(CONFIG_MAPS, &config_map("c")).await.ok();
    let stored = async |path: &str| store.get(path.as_bytes()).await.unwrap().expect("it is stored").value;
    assert!(stored("/secrets/default/s").await.starts_with(b"k8s:enc:aesgcm:v1:one:"));
    assert!(stored("/configmaps/default/c").await.starts_with(b"{"));
    let got = server.get(&format!("{secrets}/s")).await.ok();
    assert_eq!(got["data"]["password"], STANDARD.encode("hunter2"));

    // Rotation: what is written again, unchanged, is encrypted with the new first key.
    configure(json!([key("two", 2), key("one", 1)]));
    let rotated = async {
        while !stored("/secrets/default/s").await.starts_with(b"k8s:enc:aesgcm:v1:two:") {
            let live = server.get(&format!("{secrets}/s")).await.ok();
            server.put(&format!("{secrets}/s"), &live).await.ok();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rotated).await.expect("the new key is used");

    // Another server of the same store reads it with the key, and does not start without.
    let started = async |configured: Option<&Path>| {
        let pki = tempfile::tempdir().unwrap();
        let config = Config { encryption_config: configured.map(Path::to_owned), ..config(&pki) };
        apiserver::ApiServer::start(config, store.clone()).await.map(drop)
    };
    started(Some(&path)).await.expect("it has the keys");
    let error = started(None).await.expect_err("it has no key").to_string();
    assert!(error.contains("/secrets/default/s") && error.contains("aesgcm:v1:two"), "{error}");
}

#[tokio::test]
async fn flow_schemas_are_looked_after() {
    const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
    let server = Server::start().await;
    let answer = server.get(CONFIG_MAPS).await;
    let exempt = server.get(&format!("{FLOW}/flowschemas/exempt")).await.ok();
    assert_eq!(answer.headers["x-kubernetes-pf-flowschema-uid"], exempt["metadata"]["uid"].as_str().unwrap());
    assert!(answer.headers.contains_key("x-kubernetes-pf-prioritylevel-uid"));
    let schemas = server.get(&format!("{FLOW}/flowschemas")).await.ok();
    assert_eq!(schemas["items"].as_array().unwrap().len(), 13);
    assert_eq!(exempt["status"]["conditions"][0]["status"], "False");

    // A schema of a level that does not exist dangles until it does; a mandatory object comes back.
    let schema = json!({"metadata": {"name": "mine"}, "spec": {
        "priorityLevelConfiguration": {"name": "mine"}, "matchingPrecedence": 5,
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "dave"}}],
                   "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}],
    }});
    let made = server.post(&format!("{FLOW}/flowschemas"), &schema).await.ok();
    let until = async |path: &str, fits: &dyn Fn(&Value) -> bool| {
        let waiting = async {
            loop {
                let answer = server.get(path).await;
                if answer.code.is_success() && fits(&answer.json()) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect(path);
    };
    let dangles = |wanted: &'static str| {
        move |schema: &Value| schema["status"]["conditions"][0]["status"].as_str() == Some(wanted)
    };
    let mine = format!("{FLOW}/flowschemas/mine");
    until(&mine, &dangles("True")).await;
    let level = json!({"metadata": {"name": "mine"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"},
    }}});
    server.post(&format!("{FLOW}/prioritylevelconfigurations"), &level).await.ok();
    until(&mine, &dangles("False")).await;
    // The status is written by one task, what requests go by is changed by another.
    let dave = server.api.service(UserInfo::authenticated("dave", &[]));
    let judged = async {
        loop {
            let answer = dave.clone().oneshot(request(Method::GET, "/version", "", "")).await.unwrap();
            if answer.headers()["x-kubernetes-pf-flowschema-uid"] == made["metadata"]["uid"].as_str().unwrap()
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), judged).await.expect("requests judged by the schema");
    server.delete(&format!("{FLOW}/flowschemas/catch-all"), "").await.ok();
    until(&format!("{FLOW}/flowschemas/catch-all"), &|_| true).await;
    let metrics = server.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.bytes).into_owned();
    assert!(
        text.contains(
            "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"mine\",priority_level=\"mine\"} 1"
        ),
        "{text}"
    );
}

#[tokio::test]
async fn the_use_of_tokens_in_secrets_is_noted() {
    let server = crate::fixture::with_service_account().await;
    let tracking =
        "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let since = server.get(tracking).await.ok()["data"]["since"].clone();
    let secret = json!({
        "metadata": {"name": "s", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    });
    let secrets = "/api/v1/namespaces/default/secrets";
    let made = server.post(secrets, &secret).await.ok();
    let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": made["metadata"]["uid"]});
    let request = json!({"spec": {"boundObjectRef": bound}});
    let issued = server.post("/api/v1/namespaces/default/serviceaccounts/default/token", &request).await.ok();
    let token = issued["status"]["token"].as_str().unwrap();
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    let mut watch = Watch::open(&server, &format!("{secrets}?watch=1&resourceVersion={from}")).await;
    assert_eq!(reviewed(&server, token).await["authenticated"], true);
    let noted = watch.next().await.unwrap();
    let label = "kubernetes.io/legacy-token-last-used";
    assert!(noted["object"]["metadata"]["labels"][label].as_str() >= since.as_str(), "{noted}");
    // One that is marked is not taken any more.
    let mark = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2026-01-01"}}});
    server.patch(&format!("{secrets}/s"), "merge-patch+json", &mark).await.ok();
    let refused = reviewed(&server, token).await;
    assert_ne!(refused["authenticated"], true);
    assert!(refused["error"].as_str().unwrap().contains("has been marked invalid"), "{refused}");
}
