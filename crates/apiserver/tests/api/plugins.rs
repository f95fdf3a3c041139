//! Admission plugins that have to be asked for.

use std::path::PathBuf;
use std::sync::Arc;

use apiserver::UserInfo;
use apiserver::admission::plugins::Plugins;
use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::fixture::{CONFIG_MAPS, PODS, Server, config_map, pod};
use crate::https::Https;

fn enabled(names: &[&str]) -> Plugins {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    Plugins::new(&names, &["ServiceAccount".to_owned()]).unwrap()
}

async fn server(names: &[&str], configuration: &str) -> Server {
    let files = tempfile::tempdir().unwrap();
    let path: Option<PathBuf> = (!configuration.is_empty()).then(|| files.path().join("admission.yaml"));
    if let Some(path) = &path {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
        std::fs::write(path, format!("{head}{configuration}")).unwrap();
    }
    Server::with(|config| apiserver::config::Config {
        admission: enabled(names),
        admission_config: path,
        ..config
    })
    .await
}

#[tokio::test]
async fn a_namespace_comes_with_what_is_written_into_it() {
    let server = server(&["NamespaceAutoProvision"], "").await;
    let new = "/api/v1/namespaces/new/configmaps";
    assert_eq!(server.post(&format!("{new}?dryRun=All"), &config_map("a")).await.code, 404);
    server.post(new, &config_map("a")).await.ok();
    let namespace = server.get("/api/v1/namespaces/new").await.ok();
    assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "new");
    assert_eq!(server.get("/api/v1/namespaces/other/configmaps/a").await.code, 404);
    assert_eq!(server.get("/api/v1/namespaces/other").await.code, 404);
}

#[tokio::test]
async fn nothing_is_changed_where_all_is_denied() {
    let server = server(&["AlwaysDeny"], "").await;
    let (code, reason, message) = server.post(CONFIG_MAPS, &config_map("a")).await.failure();
    let why = "configmaps \"a\" is forbidden: admission control is denying all modifications";
    assert_eq!((code, &*reason, &*message), (403, "Forbidden", why));
    server.get("/api/v1/namespaces/default").await.ok();
}

#[tokio::test]
async fn owners_are_set_by_who_may_delete() {
    let mut server = server(&["OwnerReferencesPermissionEnforcement"], "").await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "update", "patch"]}]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    server
        .post(&format!("{rbac}/clusterroles"), &json!({"metadata": {"name": "r"}, "rules": rules}))
        .await
        .ok();
    let binding = json!({"metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}});
    server.post(&format!("{rbac}/clusterrolebindings"), &binding).await.ok();
    server.user = UserInfo::authenticated("alice", &["system:authenticated"]);
    let owner = |blocks: bool| json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u", "blockOwnerDeletion": blocks}]);
    let mut owned = config_map("a");
    owned["metadata"]["ownerReferences"] = owner(true);
    let (code, _, message) = server.post(CONFIG_MAPS, &owned).await.failure();
    let why = "configmaps \"a\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource \
               you can't set finalizers on";
    assert_eq!((code, &*message), (403, why));
    // What is new is waited for by nobody.
    owned["metadata"]["ownerReferences"] = owner(false);
    server.post(CONFIG_MAPS, &owned).await.ok();
    let path = format!("{CONFIG_MAPS}/a");
    let other = json!({"metadata": {"ownerReferences": []}});
    let (code, _, message) = server.patch(&path, "merge-patch+json", &other).await.failure();
    let why = "configmaps \"a\" is forbidden: cannot set an ownerRef on a resource you can't delete";
    assert_eq!((code, &*message), (403, why));
    server.patch(&path, "merge-patch+json", &json!({"data": {"x": "y"}})).await.ok();
    let mut unknown = config_map("b");
    unknown["metadata"]["ownerReferences"] = owner(true);
    unknown["metadata"]["ownerReferences"][0]["kind"] = json!("Moon");
    let (_, _, message) = server.post(CONFIG_MAPS, &unknown).await.failure();
    assert!(message.ends_with("cannot find RESTMapping for APIVersion v1 Kind Moon"), "{message}");
}

#[tokio::test]
async fn events_are_limited() {
    let limits = "- {name: EventRateLimit, configuration: {limits: [{type: Namespace, qps: 1, burst: 1}]}}";
    let server = server(&["EventRateLimit"], limits).await;
    let event = |name: &str| json!({"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
    let path = "/api/v1/namespaces/default/events";
    server.post(path, &event("a")).await.ok();
    let refused = server.post(path, &event("b")).await;
    assert_eq!(refused.headers["retry-after"], "1");
    let why = "limit reached on type Namespace for key default";
    assert_eq!(refused.failure(), (429, "TooManyRequests".to_owned(), why.to_owned()));
    server.post(CONFIG_MAPS, &config_map("a")).await.ok();
}

#[tokio::test]
async fn images_are_judged_outside() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let https = Https::start(move |request| {
        let seen = seen.clone();
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (&review["kind"], &review["apiVersion"]),
                (&json!("ImageReview"), &json!("imagepolicy.k8s.io/v1alpha1"))
            );
            let bad = review["spec"]["containers"][0]["image"] == "bad";
            seen.lock().push(review["spec"].clone());
            let answer = json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview",
                "status": {"allowed": !bad, "reason": if bad { "no such thing" } else { "" }}});
            Response::new(Full::new(Bytes::from(answer.to_string())))
        }
    })
    .await;
    let files = tempfile::tempdir().unwrap();
    let authority = files.path().join("ca.crt");
    std::fs::write(&authority, &https.authority).unwrap();
    let kubeconfig = files.path().join("kubeconfig");
    let config = json!({"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "h", "user": ""}}],
        "clusters": [{"name": "h", "cluster": {"server": format!("https://127.0.0.1:{}/", https.port),
            "certificate-authority": authority}}]});
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let told = json!([{"name": "ImagePolicyWebhook",
        "configuration": {"imagePolicy": {"kubeConfigFile": kubeconfig}}}]);
    let server = server(&["ImagePolicyWebhook"], &format!("  {told}")).await;
    let with = |name: &str, image: &str| {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod
    };
    server.post(PODS, &with("a", "good")).await.ok();
    server.post(PODS, &with("b", "good")).await.ok();
    assert_eq!(
        *asked.lock(),
        [json!({"containers": [{"image": "good"}], "annotations": {}, "namespace": "default"})]
    );
    let (code, _, message) = server.post(PODS, &with("c", "bad")).await.failure();
    let why =
        "pods \"c\" is forbidden: image policy webhook backend denied one or more images: no such thing";
    assert_eq!((code, &*message), (403, why));
}
