//! Volumes and claims: binding, protection, attachment.

use serde_json::{Value, json};

use crate::cluster::{Cluster, name};

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";
const ATTACHMENTS: &str = "/apis/storage.k8s.io/v1/volumeattachments";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn merge(mut into: Value, more: Value) -> Value {
    into.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    into
}

fn claim(name: &str, more: Value) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""});
    json!({"metadata": {"name": name}, "spec": merge(spec, more)})
}

fn volume(name: &str, size: &str, more: Value) -> Value {
    let spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
        "csi": {"driver": "csi.example.com", "volumeHandle": name}});
    json!({"metadata": {"name": name}, "spec": merge(spec, more)})
}

fn class(name: &str, mode: &str, is_default: bool) -> Value {
    json!({"metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": is_default.to_string()}},
        "provisioner": "csi.example.com", "volumeBindingMode": mode})
}

fn phase(wanted: &str) -> impl Fn(&Value) -> bool {
    move |object: &Value| object["status"]["phase"] == wanted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_get_the_volumes_that_suit_them() {
    let cluster = Cluster::start().await;
    let claim_path = |name: &str| format!("{CLAIMS}/{name}");
    let volume_path = |name: &str| format!("{VOLUMES}/{name}");
    for (name, size) in [("big", "10Gi"), ("fits", "2Gi"), ("small", "500Mi")] {
        cluster.post(VOLUMES, volume(name, size, json!({}))).await;
        cluster.until(&volume_path(name), phase("Available")).await;
    }
    cluster.post(CLAIMS, claim("a", json!({}))).await;
    let a = cluster.until(&claim_path("a"), phase("Bound")).await;
    assert_eq!(
        (&a["spec"]["volumeName"], &a["status"]["capacity"]["storage"]),
        (&json!("fits"), &json!("2Gi"))
    );
    for annotation in ["pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"] {
        assert_eq!(a["metadata"]["annotations"][annotation], "yes");
    }
    let fits = cluster.until(&volume_path("fits"), phase("Bound")).await;
    assert_eq!(fits["spec"]["claimRef"]["uid"], a["metadata"]["uid"]);
    assert_eq!(fits["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));

    // Nothing suits: it waits, and takes what comes.
    cluster
        .post(CLAIMS, claim("shared", json!({"accessModes": ["ReadWriteMany"], "volumeMode": "Block"})))
        .await;
    cluster.until(&claim_path("shared"), phase("Pending")).await;
    cluster
        .event("default", "shared", "FailedBinding", "no persistent volumes available for this claim")
        .await;
    cluster
        .post(
            VOLUMES,
            volume("shared", "1Gi", json!({"accessModes": ["ReadWriteMany"], "volumeMode": "Block"})),
        )
        .await;
    cluster.until(&claim_path("shared"), phase("Bound")).await;

    // A volume in particular, by either side.
    cluster.post(CLAIMS, claim("named", json!({"volumeName": "big"}))).await;
    let named = cluster.until(&claim_path("named"), phase("Bound")).await;
    assert_eq!(named["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], Value::Null);
    let reserved = json!({"claimRef": {"namespace": "default", "name": "mine"}});
    cluster.post(VOLUMES, volume("reserved", "50Gi", reserved)).await;
    let reserved = cluster.until(&volume_path("reserved"), phase("Available")).await;
    cluster.post(CLAIMS, claim("mine", json!({}))).await;
    let mine = cluster.until(&claim_path("mine"), phase("Bound")).await;
    assert_eq!(mine["spec"]["volumeName"], json!(name(&reserved)));
    cluster.post(CLAIMS, claim("too-much", json!({"volumeName": "small"}))).await;
    cluster.event("default", "too-much", "VolumeMismatch", "requested PV is too small").await;

    // Released, and not given to anyone again.
    cluster.delete(&claim_path("a")).await;
    cluster.gone(&claim_path("a")).await;
    cluster.until(&volume_path("fits"), phase("Released")).await;
    cluster.delete(&volume_path("fits")).await;
    cluster.gone(&volume_path("fits")).await;
    // A bound one is protected while its claim is there; once it has gone anyway the claim has lost it.
    cluster.delete(&volume_path("big")).await;
    let held = cluster.get(&volume_path("big")).await;
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    cluster.patch(&volume_path("big"), json!({"metadata": {"finalizers": null}})).await;
    cluster.until(&claim_path("named"), phase("Lost")).await;
    cluster.event("default", "named", "ClaimLost", "Bound claim has lost its PersistentVolume").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn classes_decide_who_makes_a_volume_and_when() {
    let cluster = Cluster::start().await;
    let path = |name: &str| format!("{CLAIMS}/{name}");
    // It asks for no class, and there is no default yet.
    let mut any = claim("any", json!({}));
    any["spec"].as_object_mut().unwrap().remove("storageClassName");
    cluster.post(CLAIMS, any).await;
    cluster.until(&path("any"), phase("Pending")).await;
    cluster.post(CLAIMS, claim("later", json!({"storageClassName": "late"}))).await;
    cluster
        .event("default", "later", "ProvisioningFailed", "storageclass.storage.k8s.io \"late\" not found")
        .await;
    cluster.post(CLASSES, class("standard", "Immediate", true)).await;
    let provisioner = |claim: &Value| {
        claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "csi.example.com"
    };
    let any = cluster.until(&path("any"), provisioner).await;
    assert_eq!(any["spec"]["storageClassName"], "standard");
    assert_eq!(
        any["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-provisioner"],
        "csi.example.com"
    );
    cluster.event("default", "any", "ExternalProvisioning", "external provisioner 'csi.example.com'").await;

    cluster.post(CLASSES, class("late", "WaitForFirstConsumer", false)).await;
    cluster.event("default", "later", "WaitForFirstConsumer", "waiting for first consumer").await;
    // A volume that is free is the scheduler's to choose.
    cluster.post(VOLUMES, volume("free", "1Gi", json!({"storageClassName": "late"}))).await;
    cluster.until(&format!("{VOLUMES}/free"), phase("Available")).await;
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "node-0"}}});
    cluster.patch(&path("later"), selected).await;
    let later = cluster.until(&path("later"), provisioner).await;
    assert_eq!(later["status"]["phase"], "Pending");
    // What the provisioner makes refers to the claim.
    let made = json!({"storageClassName": "late", "persistentVolumeReclaimPolicy": "Delete",
        "claimRef": {"namespace": "default", "name": "later", "uid": later["metadata"]["uid"]}});
    let mut made = volume("made", "1Gi", made);
    made["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": "csi.example.com"});
    cluster.post(VOLUMES, made).await;
    let later = cluster.until(&path("later"), phase("Bound")).await;
    assert_eq!(later["spec"]["volumeName"], "made");
    // Its capacity is then told by whoever makes it grow.
    cluster.patch(&path("later/status"), json!({"status": {"capacity": {"storage": "3Gi"}}})).await;
    cluster.patch(&format!("{VOLUMES}/made"), json!({"metadata": {"labels": {"seen": "1"}}})).await;
    cluster.delete(&path("later")).await;
    cluster.until(&format!("{VOLUMES}/made"), phase("Released")).await;
    // Nobody is there who could delete this one.
    cluster.post(VOLUMES, volume("orphan", "1Gi", json!({"persistentVolumeReclaimPolicy": "Delete"}))).await;
    cluster.post(CLAIMS, claim("short", json!({}))).await;
    cluster.until(&path("short"), phase("Bound")).await;
    cluster.delete(&path("short")).await;
    cluster.until(&format!("{VOLUMES}/orphan"), phase("Failed")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_stay_while_pods_use_them_and_are_made_for_them() {
    let cluster = Cluster::start().await;
    cluster.post(VOLUMES, volume("v", "1Gi", json!({}))).await;
    cluster.post(CLAIMS, claim("c", json!({}))).await;
    let path = format!("{CLAIMS}/c");
    cluster.until(&path, phase("Bound")).await;
    let template =
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let volumes = json!([{"name": "c", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "scratch", "ephemeral": {"volumeClaimTemplate": template}}]);
    let pod = json!({"metadata": {"name": "user"}, "spec": {"volumes": volumes, "containers": [{"name": "c", "image": "i"}]}});
    let pod = cluster.post(PODS, pod).await;
    let made = cluster.until(&format!("{CLAIMS}/user-scratch"), |_| true).await;
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], pod["metadata"]["uid"]);
    cluster.until(&format!("{PODS}/user"), phase("Running")).await;
    cluster.delete(&path).await;
    let held = cluster.until(&path, |claim| claim["metadata"]["deletionTimestamp"].is_string()).await;
    assert_eq!(held["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    cluster.delete(&format!("{PODS}/user")).await;
    cluster.gone(&path).await;
    cluster.gone(&format!("{CLAIMS}/user-scratch")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_attached_where_pods_are() {
    let cluster = Cluster::start().await;
    for node in ["n1", "n2"] {
        let managed = json!({"volumes.kubernetes.io/controller-managed-attach-detach": "true"});
        cluster.post("/api/v1/nodes", json!({"metadata": {"name": node, "annotations": managed}})).await;
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        cluster.patch(&format!("/api/v1/nodes/{node}/status"), ready).await;
    }
    cluster.post(VOLUMES, volume("v", "1Gi", json!({}))).await;
    cluster.post(CLAIMS, claim("c", json!({}))).await;
    cluster.until(&format!("{CLAIMS}/c"), phase("Bound")).await;
    let pod = |name: &str, node: &str| {
        json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]}})
    };
    let attachments = "/apis/storage.k8s.io/v1/volumeattachments?labelSelector=%21other";
    let foreign = json!({"metadata": {"name": "foreign", "labels": {"other": ""}}, "spec": {"attacher": "x", "nodeName": "n1",
        "source": {"persistentVolumeName": "none"}}});
    cluster.post(ATTACHMENTS, foreign).await;
    cluster.post(PODS, pod("one", "n1")).await;
    let found = cluster.until_all(attachments, |all| all.len() == 1).await.remove(0);
    assert_eq!(
        found["spec"],
        json!({"attacher": "csi.example.com", "nodeName": "n1", "source": {"persistentVolumeName": "v"}})
    );
    assert!(name(&found).starts_with("csi-"));
    cluster
        .patch(&format!("{ATTACHMENTS}/{}/status", name(&found)), json!({"status": {"attached": true}}))
        .await;
    let unique = "kubernetes.io/csi/csi.example.com^v";
    cluster.until("/api/v1/nodes/n1", |node| node["status"]["volumesAttached"][0]["name"] == unique).await;
    cluster
        .event("default", "one", "SuccessfulAttachVolume", "AttachVolume.Attach succeeded for volume \"v\"")
        .await;
    cluster.patch("/api/v1/nodes/n1/status", json!({"status": {"volumesInUse": [unique]}})).await;

    cluster.post(PODS, pod("two", "n2")).await;
    cluster.event("default", "two", "FailedAttachVolume", "Multi-Attach error for volume \"v\"").await;
    cluster.delete(&format!("{PODS}/one")).await;
    cluster.gone(&format!("{PODS}/one")).await;
    // The node still has it mounted: it stays.
    assert_eq!(cluster.items(attachments).await.len(), 1);
    cluster.patch("/api/v1/nodes/n1/status", json!({"status": {"volumesInUse": null}})).await;
    cluster.until_all(attachments, |all| all.len() == 1 && all[0]["spec"]["nodeName"] == "n2").await;
    cluster.until("/api/v1/nodes/n1", |node| node["status"]["volumesAttached"].is_null()).await;
    assert!(cluster.find(&format!("{ATTACHMENTS}/foreign")).await.is_some(), "what others attach is theirs");
}
