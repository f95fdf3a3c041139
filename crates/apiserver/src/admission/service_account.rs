//! ServiceAccount: every pod runs as a service account, and finds that account's token, the cluster's CA and its
//! namespace under `/var/run/secrets/kubernetes.io/serviceaccount`.

use std::time::Duration;

use api::status::Status;
use rand::RngExt;
use serde_json::{Value, json};

use super::objects::{Objects, SERVICE_ACCOUNTS, annotation, at, items};
use super::{AdmissionRequest, Operation};
use crate::cache::Caches;
use crate::token::request::PROJECTED_SECONDS;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// A namespace gets its `default` account from a controller. Pods that are created right after it wait for that.
const PATIENCE: Duration = Duration::from_secs(1);

fn is_new_pod(request: &AdmissionRequest<'_>) -> bool {
    request.creates("", "pods")
}

fn account_name(pod: &Value) -> &str {
    match pod["spec"]["serviceAccountName"].as_str() {
        None | Some("") => "default",
        Some(name) => name,
    }
}

/// Waits until the account of the pod is in the cache, but not for long.
pub async fn wait_for_default(request: &AdmissionRequest<'_>, caches: &Caches) {
    if !is_new_pod(request) || !annotation(&request.object, MIRROR).is_empty() {
        return;
    }
    let resource = SERVICE_ACCOUNTS;
    let name = account_name(&request.object);
    let cache = caches.resource(resource.group, resource.resource);
    let mut changes = cache.changes();
    let there = async {
        while caches.get(resource, request.namespace, name).is_none() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    // Whether it has come or not is seen by `mutate`.
    let _ = tokio::time::timeout(PATIENCE, there).await;
}

pub fn mutate(request: &mut AdmissionRequest<'_>, objects: &dyn Objects) -> Result<(), Status> {
    if !is_new_pod(request) || !annotation(&request.object, MIRROR).is_empty() {
        return Ok(());
    }
    let name = account_name(&request.object).to_owned();
    let namespace = request.namespace;
    let Some(account) = objects.get(SERVICE_ACCOUNTS, namespace, &name) else {
        return Err(request.forbidden(format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        )));
    };
    let pod = &mut request.object;
    *at(pod, &["spec", "serviceAccountName"]) = json!(name);
    // Its former name, which clients still read.
    *at(pod, &["spec", "serviceAccount"]) = json!(name);
    if mounts_token(pod, &account) {
        mount_token(pod);
    }
    let has_pull_secrets = items(&pod["spec"]["imagePullSecrets"]).next().is_some();
    if !has_pull_secrets && items(&account["imagePullSecrets"]).next().is_some() {
        *at(pod, &["spec", "imagePullSecrets"]) = account["imagePullSecrets"].clone();
    }
    Ok(())
}

fn mounts_token(pod: &Value, account: &Value) -> bool {
    pod["spec"]["automountServiceAccountToken"]
        .as_bool()
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true)
}

fn mount_token(pod: &mut Value) {
    let existing = items(&pod["spec"]["volumes"])
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let is_new = existing.is_none();
    let name = existing.unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", suffix()));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let has_own = items(&container["volumeMounts"])
                .any(|mount| mount["mountPath"].as_str() == Some(MOUNT_PATH));
            if !has_own {
                mounted = true;
                let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
                append(container, &["volumeMounts"], mount);
            }
        }
    }
    if mounted && is_new {
        append(pod, &["spec", "volumes"], volume(&name));
    }
}

fn volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": PROJECTED_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
        },
    })
}

fn append(object: &mut Value, path: &[&str], item: Value) {
    match at(object, path) {
        Value::Array(items) => items.push(item),
        place => *place = json!([item]),
    }
}

/// Five letters as generated names have them: neither vowels nor look-alikes.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5).map(|_| LETTERS[random.random_range(0..LETTERS.len())] as char).collect()
}

pub fn validate(request: &AdmissionRequest<'_>) -> Result<(), Status> {
    if request.operation != Operation::Create || !is_new_pod(request) {
        return Ok(());
    }
    let pod = &request.object;
    if annotation(pod, MIRROR).is_empty() {
        return Ok(());
    }
    // A mirror pod shows what a node runs from a file; the API gives such pods nothing.
    let spec = &pod["spec"];
    if !spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    for volume in items(&spec["volumes"]) {
        for source in items(&volume["projected"]["sources"]) {
            if source["serviceAccountToken"].is_object() {
                return Err(
                    request.forbidden("a mirror pod may not use ServiceAccountToken volume projections")
                );
            }
        }
        if volume["secret"].is_object() {
            return Err(request.forbidden("a mirror pod may not reference secrets"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::objects::tests::Fixture;
    use super::super::testing::Case;
    use super::*;

    fn fixture() -> Fixture {
        let account = |name: &str, extra: Value| {
            let mut account = extra;
            account["metadata"] = json!({"namespace": "ns", "name": name});
            account
        };
        Fixture::new()
            .add(SERVICE_ACCOUNTS, account("default", json!({"imagePullSecrets": [{"name": "pull"}]})))
            .add(SERVICE_ACCOUNTS, account("quiet", json!({"automountServiceAccountToken": false})))
    }

    fn pod(spec: Value) -> Value {
        json!({"metadata": {"namespace": "ns", "name": "x"}, "spec": spec})
    }

    fn admitted(spec: Value) -> Value {
        Case::create("", "pods", pod(spec)).run(|request| mutate(request, &fixture())).expect("admitted")
    }

    #[test]
    fn a_pod_gets_its_token() {
        let pod = admitted(
            json!({"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"mountPath": MOUNT_PATH}]}],
                                  "initContainers": [{"name": "i"}]}),
        );
        let spec = &pod["spec"];
        assert_eq!(spec["serviceAccountName"], "default");
        assert_eq!(spec["serviceAccount"], "default");
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "pull"}]));
        let volume = &spec["volumes"][0];
        let name = volume["name"].as_str().expect("a name");
        assert!(name.starts_with(VOLUME_PREFIX) && name.len() == VOLUME_PREFIX.len() + 5, "{name}");
        assert_eq!(volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"], 3607);
        let mount = json!([{"name": name, "readOnly": true, "mountPath": MOUNT_PATH}]);
        assert_eq!(spec["containers"][0]["volumeMounts"], mount);
        assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
        assert_eq!(spec["containers"][1]["volumeMounts"], json!([{"mountPath": MOUNT_PATH}]));
    }

    #[test]
    fn who_does_not_want_one_gets_none() {
        let check = |spec: Value| assert!(admitted(spec)["spec"]["volumes"].is_null());
        check(json!({"containers": [{}], "automountServiceAccountToken": false}));
        check(json!({"containers": [{}], "serviceAccountName": "quiet"}));
        check(json!({"containers": [{"volumeMounts": [{"mountPath": MOUNT_PATH}]}]}));
        let pod = admitted(
            json!({"containers": [{}], "serviceAccountName": "quiet", "automountServiceAccountToken": true}),
        );
        assert!(pod["spec"]["volumes"][0].is_object());
    }

    #[test]
    fn refusals() {
        let missing = Case::create("", "pods", pod(json!({"serviceAccountName": "nobody"})));
        assert_eq!(
            missing.refusal(|request| mutate(request, &fixture())),
            r#"pods "x" is forbidden: error looking up service account ns/nobody: serviceaccount "nobody" not found"#
        );
        let mut mirror = pod(json!({"volumes": [{"secret": {}}]}));
        mirror["metadata"]["annotations"] = json!({MIRROR: "hash"});
        let mirror = Case::create("", "pods", mirror);
        assert!(mirror.refusal(|request| validate(request)).contains("may not reference secrets"));
        assert_eq!(mirror.run(|request| mutate(request, &fixture())).expect("untouched"), mirror.object);
    }
}
