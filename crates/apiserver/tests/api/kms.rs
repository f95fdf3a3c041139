//! Secrets whose keys a KMS plugin keeps, behind its socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::Config;
use http::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use prost::Message;
use serde_json::json;
use store::Store;
use tokio::net::UnixListener;
use tonic::{Response, Status};
use tonic_prost::ProstCodec;

use super::fixture::{Server, config};

#[path = "../../src/encryption/kms/protocol.rs"]
#[allow(dead_code, reason = "shared with the server, which is the client of the protocol")]
mod protocol;

use protocol::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, EncryptedObject, StatusRequest,
    StatusResponse,
};

/// A plugin: its keys by id, of which the last is in use, and how often it has been asked to decrypt.
struct Plugin {
    keys: Mutex<Vec<(&'static str, u8)>>,
    decrypted: Mutex<usize>,
}

impl Plugin {
    fn listen(socket: &Path, keys: &[(&'static str, u8)]) -> Arc<Self> {
        let plugin = Arc::new(Self { keys: Mutex::new(keys.to_vec()), decrypted: Mutex::default() });
        let listener = UnixListener::bind(socket).unwrap();
        let serving = plugin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let plugin = serving.clone();
                let service = tower::service_fn(move |request| answer(plugin.clone(), request));
                tokio::spawn(async move {
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ =
                        http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await;
                });
            }
        });
        plugin
    }

    fn key(&self, id: &str) -> Option<u8> {
        self.keys.lock().iter().find(|(known, _)| *known == id).map(|(_, key)| *key)
    }

    fn encrypt(&self, request: &EncryptRequest) -> EncryptResponse {
        let (id, key) = *self.keys.lock().last().unwrap();
        EncryptResponse {
            ciphertext: request.plaintext.iter().map(|byte| byte ^ key).collect(),
            key_id: id.to_owned(),
            annotations: [("version.example.com".to_owned(), b"1".to_vec())].into(),
        }
    }

    fn decrypt(&self, request: &DecryptRequest) -> Result<DecryptResponse, Status> {
        *self.decrypted.lock() += 1;
        assert_eq!(request.annotations["version.example.com"], b"1");
        let key = self.key(&request.key_id).ok_or_else(|| Status::not_found("no such key"))?;
        Ok(DecryptResponse { plaintext: request.ciphertext.iter().map(|byte| byte ^ key).collect() })
    }
}

async fn answer(
    plugin: Arc<Plugin>,
    request: Request<hyper::body::Incoming>,
) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
    use tonic::Request as Asked;
    Ok(match request.uri().path() {
        "/v2.KeyManagementService/Status" => {
            let codec = ProstCodec::<StatusResponse, StatusRequest>::default();
            let service = tower::service_fn(|_: Asked<StatusRequest>| {
                let key_id = plugin.keys.lock().last().unwrap().0.to_owned();
                let status = StatusResponse { version: "v2".to_owned(), healthz: "ok".to_owned(), key_id };
                async { Ok::<_, Status>(Response::new(status)) }
            });
            tonic::server::Grpc::new(codec).unary(service, request).await
        }
        "/v2.KeyManagementService/Encrypt" => {
            let codec = ProstCodec::<EncryptResponse, EncryptRequest>::default();
            let service = tower::service_fn(|asked: Asked<EncryptRequest>| {
                let answer = plugin.encrypt(asked.get_ref());
                async { Ok::<_, Status>(Response::new(answer)) }
            });
            tonic::server::Grpc::new(codec).unary(service, request).await
        }
        _ => {
            let codec = ProstCodec::<DecryptResponse, DecryptRequest>::default();
            let service = tower::service_fn(|asked: Asked<DecryptRequest>| {
                let answer = plugin.decrypt(asked.get_ref());
                async { answer.map(Response::new) }
            });
            tonic::server::Grpc::new(codec).unary(service, request).await
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_kept_by_a_plugin() {
    let files = tempfile::tempdir().unwrap();
    let (path, socket) = (files.path().join("encryption.yaml"), files.path().join("kms.sock"));
    let plugin = Plugin::listen(&socket, &[("key-1", 0x55)]);
    let configure = |timeout: &str, sockets: &[&Path]| {
        let kms = |(index, socket): (usize, &&Path)| {
            json!({"kms": {"apiVersion": "v2", "name": format!("vault-{index}"), "timeout": timeout,
                "endpoint": format!("unix://{}", socket.display())}})
        };
        let providers: Vec<_> =
            sockets.iter().enumerate().map(kms).chain([json!({"identity": {}})]).collect();
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": providers}],
        });
        std::fs::write(&path, configuration.to_string()).unwrap();
    };
    configure("5s", &[&socket]);
    let store = Store::in_memory().unwrap();
    let encrypted = |config: Config| Config { encryption_config: Some(path.clone()), ..config };
    let server = Server::with_store(store.clone(), encrypted).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["a", "b"] {
        let secret = json!({"metadata": {"name": name}, "stringData": {"password": "hunter2"}});
        server.post(secrets, &secret).await.ok();
    }
    let stored = async |name: &str| {
        let key = format!("/secrets/default/{name}");
        let value = store.get(key.as_bytes()).await.unwrap().expect("it is stored").value;
        let data = value.strip_prefix(b"k8s:enc:kms:v2:vault-0:").expect("the plugin's prefix").to_vec();
        assert!(!data.windows(4).any(|bytes| bytes == b"Secr"), "it is not encrypted");
        EncryptedObject::decode(&*data).expect("an encrypted object")
    };
    let (a, b) = (stored("a").await, stored("b").await);
    assert_eq!((a.key_id.as_str(), a.encrypted_dek_source_type), ("key-1", 1));
    assert_eq!(a.encrypted_dek_source, b.encrypted_dek_source, "one seed for all");
    assert_ne!(a.encrypted_data.get(..32), b.encrypted_data.get(..32), "a key for each");
    assert!(server.get("/readyz?verbose").await.bytes.windows(18).any(|line| line == b"[+]kms-providers o"));
    assert_eq!(*plugin.decrypted.lock(), 0, "who made the seed knows it");

    // Another server of the same store asks for the seed, once.
    let other = Server::with_store(store.clone(), encrypted).await;
    for name in ["a", "b"] {
        let got = other.get(&format!("{secrets}/{name}")).await.ok();
        assert_eq!(got["data"]["password"], "aHVudGVyMg==");
    }
    assert_eq!(*plugin.decrypted.lock(), 1);

    // The plugin's key has changed: a new seed, and what is written again, unchanged, is encrypted with it.
    plugin.keys.lock().push(("key-2", 0x77));
    configure("4s", &[&socket]);
    let rotated = async {
        while stored("a").await.key_id != "key-2" {
            let live = server.get(&format!("{secrets}/a")).await.ok();
            server.put(&format!("{secrets}/a"), &live).await.ok();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), rotated).await.expect("the new key is used");
    assert_eq!(stored("b").await.key_id, "key-1");

    // A key that the plugin has no more: the server does not start without what it cannot read.
    plugin.keys.lock().remove(0);
    let pki = tempfile::tempdir().unwrap();
    let error = apiserver::ApiServer::start(encrypted(config(&pki)), store.clone()).await.map(drop);
    let error = error.expect_err("it cannot read b").to_string();
    assert!(error.contains("/secrets/default/b") && error.contains("no such key"), "{error}");

    // A plugin that is not there: not ready, and nothing is written in the clear instead.
    configure("3s", &[&files.path().join("nobody.sock"), &socket]);
    let refused = async {
        while server.get("/readyz").await.code.is_success() {
            tokio::task::yield_now().await;
        }
        let secret = json!({"metadata": {"name": "c"}, "stringData": {"password": "hunter2"}});
        server.post(secrets, &secret).await.failure()
    };
    let (code, _, message) =
        tokio::time::timeout(Duration::from_secs(20), refused).await.expect("it is told");
    assert!(code == 500 && message.contains("vault-0") && message.contains("Unavailable"), "{message}");
    assert!(server.get("/livez").await.code.is_success());
}
