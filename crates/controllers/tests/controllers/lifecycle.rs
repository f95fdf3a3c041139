//! The ends of things: namespaces, owners and their dependents, custom resources included.

use http::Method;
use serde_json::{Value, json};

use crate::cluster::{Cluster, condition, name, names};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const NODES: &str = "/api/v1/nodes";

fn map(name: &str, owners: Value) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": owners}})
}

fn owner(object: &Value, api_version: &str, kind: &str, blocks: bool) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "name": name(object), "uid": object["metadata"]["uid"],
        "blockOwnerDeletion": blocks})
}

fn by(object: &Value) -> Value {
    json!([owner(object, "v1", "ConfigMap", true)])
}

fn widgets() -> Value {
    json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependents_go_stay_or_go_first() {
    let cluster = Cluster::start().await;
    let path = |name: &str| format!("{MAPS}/{name}");
    // Background: at once, then what it owned.
    let a = cluster.post(MAPS, map("a", json!(null))).await;
    let b = cluster.post(MAPS, map("b", by(&a))).await;
    cluster.post(MAPS, map("c", by(&b))).await;
    cluster.delete(&path("a")).await;
    cluster.gone(&path("c")).await;
    cluster.gone(&path("b")).await;

    // Foreground: waits for those who block, not for those who do not.
    let a = cluster.post(MAPS, map("a", json!(null))).await;
    let mut held = map("held", by(&a));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.post(MAPS, held).await;
    let mut free = map("free", json!([owner(&a, "v1", "ConfigMap", false)]));
    free["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.post(MAPS, free).await;
    cluster.delete_with(&path("a"), json!({"propagationPolicy": "Foreground"})).await;
    cluster.until(&path("held"), |map| map["metadata"]["deletionTimestamp"].is_string()).await;
    cluster.until(&path("free"), |map| map["metadata"]["deletionTimestamp"].is_string()).await;
    let waiting = cluster.get(&path("a")).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    cluster.patch(&path("held"), json!({"metadata": {"finalizers": null}})).await;
    cluster.gone(&path("a")).await;
    cluster.patch(&path("free"), json!({"metadata": {"finalizers": null}})).await;
    cluster.gone(&path("free")).await;

    // Orphan: stays, without the reference.
    let a = cluster.post(MAPS, map("a", json!(null))).await;
    cluster.post(MAPS, map("b", by(&a))).await;
    cluster.delete_with(&path("a"), json!({"propagationPolicy": "Orphan"})).await;
    cluster.gone(&path("a")).await;
    cluster.until(&path("b"), |map| map["metadata"]["ownerReferences"].is_null()).await;

    // Two owners: the last one counts, references to the other go.
    let (x, y) =
        (cluster.post(MAPS, map("x", json!(null))).await, cluster.post(MAPS, map("y", json!(null))).await);
    let both = json!([owner(&x, "v1", "ConfigMap", true), owner(&y, "v1", "ConfigMap", true)]);
    cluster.post(MAPS, map("both", both)).await;
    cluster.delete(&path("x")).await;
    cluster
        .until(&path("both"), |map| {
            map["metadata"]["ownerReferences"].as_array().is_some_and(|all| all.len() == 1)
        })
        .await;
    cluster.delete(&path("y")).await;
    cluster.gone(&path("both")).await;

    // A circle does not hold itself up.
    let one = cluster.post(MAPS, map("one", json!(null))).await;
    let two = cluster.post(MAPS, map("two", by(&one))).await;
    let three = cluster.post(MAPS, map("three", by(&two))).await;
    cluster.patch(&path("one"), json!({"metadata": {"ownerReferences": by(&three)}})).await;
    cluster.delete_with(&path("one"), json!({"propagationPolicy": "Foreground"})).await;
    for gone in ["one", "two", "three"] {
        cluster.gone(&path(gone)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_elsewhere_and_never_born() {
    let cluster = Cluster::start().await;
    let other = cluster.namespace("other").await;
    let stranger =
        cluster.post(&format!("/api/v1/namespaces/{other}/configmaps"), map("stranger", json!(null))).await;
    cluster.post(MAPS, map("lost", by(&stranger))).await;
    cluster.event("default", "lost", "OwnerRefInvalidNamespace", "does not exist in namespace").await;
    cluster.gone(&format!("{MAPS}/lost")).await;
    let never = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "0000"}]);
    cluster.post(MAPS, map("late", never)).await;
    cluster.gone(&format!("{MAPS}/late")).await;
    // A kind that nobody serves may come: nothing is deleted for it.
    let unknown = json!([{"apiVersion": "example.com/v1", "kind": "Nothing", "name": "x", "uid": "1111"}]);
    cluster.post(MAPS, map("kept", unknown)).await;
    // What belongs to something of the whole cluster goes with that.
    let node = cluster.post(NODES, json!({"metadata": {"name": "owner"}})).await;
    cluster.post(MAPS, map("of-node", json!([owner(&node, "v1", "Node", false)]))).await;
    cluster.delete(&format!("{NODES}/owner")).await;
    cluster.gone(&format!("{MAPS}/of-node")).await;
    assert!(cluster.find(&format!("{MAPS}/kept")).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn custom_resources_own_and_are_owned() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, widgets()).await;
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    cluster.until(&definition, |crd| condition(crd, "Established")["status"] == "True").await;
    let w = cluster
        .post(WIDGETS, json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}))
        .await;
    cluster.post(MAPS, map("part", json!([owner(&w, "example.com/v1", "Widget", true)]))).await;
    let a = cluster.post(MAPS, map("a", json!(null))).await;
    let child = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "child", "ownerReferences": by(&a)}});
    cluster.post(WIDGETS, child).await;
    cluster.delete(&format!("{MAPS}/a")).await;
    cluster.gone(&format!("{WIDGETS}/child")).await;
    cluster.delete_with(&format!("{WIDGETS}/w"), json!({"propagationPolicy": "Foreground"})).await;
    cluster.gone(&format!("{WIDGETS}/w")).await;
    cluster.gone(&format!("{MAPS}/part")).await;

    // With the definition go the resources, and with them what they own.
    let w = cluster
        .post(WIDGETS, json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}))
        .await;
    cluster.post(MAPS, map("part", json!([owner(&w, "example.com/v1", "Widget", false)]))).await;
    cluster.delete(&definition).await;
    cluster.gone(&definition).await;
    cluster.gone(&format!("{MAPS}/part")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_ends_with_all_in_it_pods_first() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, widgets()).await;
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    cluster.until(&definition, |crd| condition(crd, "Established")["status"] == "True").await;
    let ns = cluster.namespace("doomed").await;
    let path = format!("/api/v1/namespaces/{ns}");
    let pod = json!({"metadata": {"name": "p", "finalizers": ["example.com/hold"]}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.post(&format!("{path}/pods"), pod).await;
    cluster
        .post(
            &format!("{path}/configmaps"),
            json!({"metadata": {"name": "m", "finalizers": ["example.com/map"]}}),
        )
        .await;
    cluster.post(&format!("{path}/secrets"), json!({"metadata": {"name": "s"}})).await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    cluster.post(&format!("/apis/example.com/v1/namespaces/{ns}/widgets"), widget).await;
    cluster.delete(&path).await;
    let told =
        cluster.until(&path, |ns| condition(ns, "NamespaceContentRemaining")["status"] == "True").await;
    assert_eq!(told["status"]["phase"], "Terminating");
    let remaining = condition(&told, "NamespaceContentRemaining");
    assert_eq!(remaining["reason"], "SomeResourcesRemain");
    assert_eq!(remaining["message"], "Some resources are remaining: pods. has 1 resource instances");
    let finalizers = condition(&told, "NamespaceFinalizersRemaining");
    assert_eq!(
        (&finalizers["reason"], &finalizers["message"]),
        (
            &json!("SomeFinalizersRemain"),
            &json!(
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
            )
        )
    );
    for reason in [
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionContentFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
    ] {
        assert_eq!(condition(&told, reason)["status"], "False");
    }
    assert!(cluster.find(&format!("{path}/secrets/s")).await.is_some(), "pods go first");
    let refused = cluster
        .try_send(
            Method::POST,
            &format!("{path}/configmaps"),
            "application/json",
            &json!({"metadata": {"name": "new"}}),
        )
        .await;
    assert!(refused.is_err());
    cluster.patch(&format!("{path}/pods/p"), json!({"metadata": {"finalizers": null}})).await;
    cluster
        .until(&path, |ns| {
            condition(ns, "NamespaceFinalizersRemaining")["message"]
                .as_str()
                .unwrap()
                .contains("example.com/map")
        })
        .await;
    cluster.patch(&format!("{path}/configmaps/m"), json!({"metadata": {"finalizers": null}})).await;
    cluster.gone(&path).await;
    assert!(cluster.items("/apis/example.com/v1/widgets").await.is_empty());
    let spaces = cluster.items("/api/v1/namespaces").await;
    assert_eq!(names(&spaces), ["default", "kube-node-lease", "kube-public", "kube-system"]);
}
