//! Accounts, tokens, certificates, roles, and what pods trust.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use x509_parser::pem::parse_x509_pem;

use crate::cluster::{Cluster, condition};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_have_an_account_and_a_certificate() {
    let cluster = Cluster::without_nodes().await;
    let ns = cluster.namespace("fresh").await;
    let account = format!("/api/v1/namespaces/{ns}/serviceaccounts/default");
    let before = cluster.get(&account).await;
    cluster.delete(&account).await;
    cluster.until(&account, |account| account["metadata"]["uid"] != before["metadata"]["uid"]).await;
    let map = format!("/api/v1/namespaces/{ns}/configmaps/kube-root-ca.crt");
    let certificate = cluster.until(&map, |_| true).await["data"]["ca.crt"].clone();
    cluster.patch(&map, json!({"data": {"ca.crt": "forged", "more": "x"}})).await;
    let repaired = cluster.until(&map, |map| map["data"]["ca.crt"] == certificate).await;
    assert!(repaired["metadata"]["annotations"]["kubernetes.io/description"].is_string());
    cluster.delete(&map).await;
    cluster.until(&map, |map| map["data"]["ca.crt"] == certificate).await;

    // A token in a Secret, for as long as the account is there.
    cluster
        .post(&format!("/api/v1/namespaces/{ns}/serviceaccounts"), json!({"metadata": {"name": "bot"}}))
        .await;
    let secret = json!({"metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "bot"}},
        "type": "kubernetes.io/service-account-token"});
    let secrets = format!("/api/v1/namespaces/{ns}/secrets");
    cluster.post(&secrets, secret).await;
    let filled =
        cluster.until(&format!("{secrets}/token"), |secret| secret["data"]["token"].is_string()).await;
    assert_eq!(filled["data"]["namespace"], STANDARD.encode(&ns));
    assert!(filled["metadata"]["annotations"]["kubernetes.io/service-account.uid"].is_string());
    let token = STANDARD.decode(filled["data"]["token"].as_str().unwrap()).unwrap();
    let review = json!({"spec": {"token": String::from_utf8(token).unwrap()}});
    let answer = cluster.post("/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    assert_eq!(answer["status"]["user"]["username"], format!("system:serviceaccount:{ns}:bot"));
    cluster.delete(&format!("/api/v1/namespaces/{ns}/serviceaccounts/bot")).await;
    cluster.gone(&format!("{secrets}/token")).await;
}

fn request(organization: &str, common_name: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, common_name);
    STANDARD.encode(params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap())
}

fn csr(name: &str, signer: &str, request: &str, usages: &[&str]) -> Value {
    json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"signerName": format!("kubernetes.io/{signer}"), "request": request, "usages": usages, "expirationSeconds": 3600}})
}

async fn approve(cluster: &Cluster, name: &str) {
    let mut found = cluster.get(&format!("{REQUESTS}/{name}")).await;
    found["status"] = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test"}]});
    cluster.put(&format!("{REQUESTS}/{name}/approval"), found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_signed_when_approved_and_fit() {
    let cluster = Cluster::without_nodes().await;
    let client = ["digital signature", "client auth"];
    cluster.post(REQUESTS, csr("user", "kube-apiserver-client", &request("dev", "jane"), &client)).await;
    approve(&cluster, "user").await;
    let signed = |csr: &Value| csr["status"]["certificate"].is_string();
    let found = cluster.until(&format!("{REQUESTS}/user"), signed).await;
    let pem = STANDARD.decode(found["status"]["certificate"].as_str().unwrap()).unwrap();
    let (_, pem) = parse_x509_pem(&pem).unwrap();
    let certificate = pem.parse_x509().unwrap();
    assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str().unwrap(), "jane");
    let validity = certificate.validity();
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 3600);

    // What a signer does not sign has failed for good.
    cluster
        .post(REQUESTS, csr("server", "kube-apiserver-client", &request("dev", "x"), &["server auth"]))
        .await;
    approve(&cluster, "server").await;
    let failed = cluster
        .until(&format!("{REQUESTS}/server"), |csr| condition(csr, "Failed")["status"] == "True")
        .await;
    assert_eq!(condition(&failed, "Failed")["reason"], "SignerValidationFailure");
    // A node asks for itself.
    let node = cluster.client_of("system:node:n1", &["system:nodes", "system:authenticated"]);
    let own =
        csr("node", "kube-apiserver-client-kubelet", &request("system:nodes", "system:node:n1"), &client);
    let post = http::Request::post(REQUESTS).header("content-type", "application/json");
    node.request::<Value>(post.body(own.to_string().into_bytes()).unwrap()).await.unwrap();
    let found = cluster
        .until(&format!("{REQUESTS}/node"), |csr| condition(csr, "Approved")["status"] == "True")
        .await;
    assert_eq!(condition(&found, "Approved")["reason"], "AutoApproved");
    cluster.until(&format!("{REQUESTS}/node"), signed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_aggregated() {
    let cluster = Cluster::without_nodes().await;
    let part = |name: &str, resource: &str| {
        json!({"metadata": {"name": name, "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
            "rules": [{"apiGroups": ["example.com"], "resources": [resource], "verbs": ["get"]}]})
    };
    cluster.post(ROLES, part("widgets-view", "widgets")).await;
    let allows = |role: &Value, resource: &str| {
        role["rules"]
            .as_array()
            .is_some_and(|rules| rules.iter().any(|rule| rule["resources"] == json!([resource])))
    };
    cluster.until(&format!("{ROLES}/view"), |role| allows(role, "widgets")).await;
    // View is a part of edit, which is a part of admin.
    cluster.until(&format!("{ROLES}/admin"), |role| allows(role, "widgets")).await;
    cluster.delete(&format!("{ROLES}/widgets-view")).await;
    cluster.until(&format!("{ROLES}/admin"), |role| !allows(role, "widgets")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_ranges_are_ready_and_stay_while_in_use() {
    let cluster = Cluster::without_nodes().await;
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    cluster
        .until(&format!("{ranges}/kubernetes"), |range| condition(range, "Ready")["status"] == "True")
        .await;
    cluster.post(ranges, json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]}})).await;
    let more = format!("{ranges}/more");
    let ready = cluster.until(&more, |range| condition(range, "Ready")["status"] == "True").await;
    assert_eq!(ready["metadata"]["finalizers"], json!(["networking.k8s.io/service-cidr-finalizer"]));
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.200.0.7", "ports": [{"port": 80}]}});
    cluster.post("/api/v1/namespaces/default/services", service).await;
    cluster.delete(&more).await;
    cluster.until(&more, |range| condition(range, "Ready")["reason"] == "Terminating").await;
    cluster.delete("/api/v1/namespaces/default/services/s").await;
    cluster.gone(&more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_for_devices_are_made_for_pods_and_go_with_them() {
    let cluster = Cluster::start().await;
    let templates = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates";
    let claims = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
    let pods = "/api/v1/namespaces/default/pods";
    let devices = json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]});
    let pod = json!({"metadata": {"name": "p", "annotations": {"play": "pending"}}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}]}});
    let pod = cluster.post(pods, pod).await;
    cluster.event("default", "p", "FailedResourceClaimCreation", "\"gpu\" not found").await;
    cluster
        .post(templates, json!({"metadata": {"name": "gpu"}, "spec": {"spec": {"devices": devices}}}))
        .await;
    let made = cluster.until_all(claims, |claims| claims.len() == 1).await.remove(0);
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], pod["metadata"]["uid"]);
    assert_eq!(made["metadata"]["annotations"]["resource.kubernetes.io/pod-claim-name"], "gpu");
    let told =
        cluster.until(&format!("{pods}/p"), |pod| pod["status"]["resourceClaimStatuses"].is_array()).await;
    assert_eq!(told["status"]["resourceClaimStatuses"][0]["resourceClaimName"], made["metadata"]["name"]);
    cluster.delete(&format!("{pods}/p")).await;
    cluster.until_all(claims, <[_]>::is_empty).await;
}
