//! With curl as the client, and an API server that knows one token, one user and one authority.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::BodyExt;
use kube::client::Body;
use tokio::process::Command;
use tower::service_fn;

use super::*;

const WATCH: &str = "/api/v1/namespaces/kube-system/configmaps";

#[derive(Default)]
struct Api {
    reviews: AtomicUsize,
    authority: String,
}

impl Api {
    fn client(self: &Arc<Self>) -> kube::Client {
        let api = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        if path == WATCH {
            return self.configmaps(parts.uri.query().unwrap_or_default()).await;
        }
        self.reviews.fetch_add(1, Ordering::Relaxed);
        let mut review: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
        let spec = review["spec"].clone();
        review["status"] = match path.rsplit('/').next().unwrap() {
            "tokenreviews" if spec["token"] == "alices" => {
                json!({"authenticated": true, "user": {"username": "alice", "uid": "7"}})
            }
            "tokenreviews" => json!({"authenticated": false}),
            "subjectaccessreviews" => {
                let may = spec["user"] == "alice" && spec["uid"] == "7" || spec["user"] == "by-certificate";
                json!({"allowed": may && spec["nonResourceAttributes"]["verb"] == "get"})
            }
            other => panic!("nobody asks for {other}"),
        };
        Response::new(Full::from(review.to_string()))
    }

    async fn configmaps(&self, query: &str) -> Response<Full<Bytes>> {
        if query.contains("watch=") {
            return std::future::pending().await;
        }
        let map = json!({
            "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system", "uid": "1"},
            "data": {"client-ca-file": self.authority},
        });
        let list = json!({
            "kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [map],
        });
        Response::new(Full::from(list.to_string()))
    }
}

async fn curl(port: u16, path: &str, arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl")
        .args(["-sk", "--noproxy", "*", "-w", "\n%{http_code}"])
        .args(arguments)
        .arg(format!("https://127.0.0.1:{port}{path}"))
        .output()
        .await
        .expect("curl runs");
    let told = String::from_utf8(output.stdout).unwrap();
    let (body, code) = told.rsplit_once('\n').unwrap();
    (code.parse().unwrap(), body.to_owned())
}

async fn free_port() -> u16 {
    tls::listen(([127, 0, 0, 1], 0).into()).await.unwrap().local_addr().unwrap().port()
}

/// Serves a component that has not seen everything yet.
async fn start(api: &Arc<Api>, options: impl FnOnce(&mut Options)) -> (u16, CancellationToken) {
    let port = free_port().await;
    let mut chosen = Options::new(([127, 0, 0, 1], port).into());
    options(&mut chosen);
    let component = Component {
        name: "kube-scheduler",
        configuration: ("componentconfig", json!({"kind": "KubeSchedulerConfiguration"})),
        flags: BTreeMap::from([("secure-port".into(), port.to_string())]),
        metrics: Arc::new(|| "scheduler_pods 3\n".into()),
        more_metrics: vec![("/metrics/resources", Arc::new(|| "kube_pod 1\n".into()))],
        checks: vec![Check::ready("informer-sync", || false)],
    };
    let shutdown = CancellationToken::new();
    let serving = serve(component, chosen, api.client(), shutdown.clone());
    tokio::spawn(async move { serving.await.unwrap() });
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::task::yield_now().await;
    }
    (port, shutdown)
}

#[tokio::test]
async fn health_is_for_all_and_the_rest_for_who_may() {
    let api = Arc::new(Api::default());
    let (port, shutdown) = start(&api, |options| options.lookup = false).await;
    let alice: &[&str] = &["-H", "Authorization: Bearer alices"];
    let mallory: &[&str] = &["-H", "Authorization: Bearer wrong"];
    for (path, who, code, has) in [
        ("/healthz", [].as_slice(), 200, "ok"),
        ("/livez", &[], 200, "ok"),
        ("/readyz", &[], 500, "[-]informer-sync failed"),
        ("/metrics", &[], 403, r#"User \"system:anonymous\" cannot get path \"/metrics\""#),
        ("/healthz/ping", &[], 403, "Forbidden"),
        ("/metrics", mallory, 401, "Unauthorized"),
        ("/metrics", alice, 200, "scheduler_pods 3\n"),
        ("/metrics/resources", alice, 200, "kube_pod 1\n"),
        ("/metrics/slis", alice, 200, "kubernetes_healthcheck{name=\"informer-sync\",type=\"readyz\"} 0"),
        ("/configz", alice, 200, r#"{"componentconfig":{"kind":"KubeSchedulerConfiguration"}}"#),
        ("/statusz", alice, 200, "Paths: /configz /flagz /healthz"),
        ("/flagz", alice, 200, "secure-port="),
        ("/nothing", alice, 404, "404"),
    ] {
        let (got, body) = curl(port, path, who).await;
        assert_eq!(got, code, "{path}: {body}");
        assert!(body.contains(has), "{path}: {body}");
    }
    let json = ["-H", "Authorization: Bearer alices", "-H", "Accept: application/json"];
    assert_eq!(curl(port, "/statusz", &json).await.0, 406);
    assert_eq!(curl(port, "/configz", &["-H", "Authorization: Bearer alices", "-XPOST"]).await.0, 403);
    let asked = api.reviews.load(Ordering::Relaxed);
    assert_eq!(curl(port, "/metrics", alice).await.0, 200);
    assert_eq!(api.reviews.load(Ordering::Relaxed), asked, "answers are kept");
    shutdown.cancel();
}

#[tokio::test]
async fn clients_are_known_by_the_authority_that_the_cluster_names() {
    let dir = tempfile::tempdir().unwrap();
    let authority = pki::Authority::ensure(dir.path(), "ca", "authority").unwrap();
    let client = authority.issue(&pki::Leaf::client("by-certificate", None)).unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = (write("c.crt", &client.certificate), write("c.key", &client.key));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let with = ["--cert", &text(&certificate), "--key", &text(&key)];

    let api = Arc::new(Api { authority: authority.certificate().to_owned(), ..Api::default() });
    let (port, shutdown) = start(&api, |_| {}).await;
    // The lookup runs beside the listener.
    while curl(port, "/metrics", &with).await.0 != 200 {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();

    // With a file nobody is asked, and a certificate of one's own is served.
    let serving = authority.issue(&pki::Leaf {
        common_name: "s".into(),
        addresses: vec![[127, 0, 0, 1].into()],
        server: true,
        ..pki::Leaf::default()
    });
    let serving = serving.unwrap();
    let pair = (write("s.crt", &serving.certificate), write("s.key", &serving.key));
    let root = authority.certificate_path().to_owned();
    let (port, shutdown) = start(&Arc::new(Api::default()), |options| {
        options.client_ca = Some(root.clone());
        options.certificate = Some(pair);
    })
    .await;
    assert_eq!(curl(port, "/metrics", &with).await.0, 200);
    let output = Command::new("curl")
        .args([
            "-s",
            "--noproxy",
            "*",
            "--cacert",
            &text(&root),
            &format!("https://127.0.0.1:{port}/healthz"),
        ])
        .output();
    assert_eq!(output.await.unwrap().stdout, b"ok", "the certificate that was given is served");
    shutdown.cancel();
}
