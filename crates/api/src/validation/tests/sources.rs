//! Sources of volumes, and pods of Windows.

use super::*;

fn pod(volume: Value) -> Value {
    let mut named = json!({"name": "v"});
    named.as_object_mut().unwrap().extend(volume.as_object().unwrap().clone());
    json!({"spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [named]}})
}

#[test]
fn of_pods() {
    #[track_caller]
    fn volume(volume: Value, want: &[&str]) {
        check("v1", "Pod", pod(volume), want);
    }
    volume(
        json!({"configMap": {"name": "c"}, "emptyDir": {}, "nfs": {}}),
        &[
            "spec.volumes[0].nfs: Forbidden: may not specify more than 1 volume type",
            "spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type",
        ],
    );
    volume(
        json!({"nfs": {"path": ""}}),
        &[
            "spec.volumes[0].nfs.server: Required value",
            "spec.volumes[0].nfs.path: Required value",
            r#"spec.volumes[0].nfs.path: Invalid value: "": must be an absolute path"#,
        ],
    );
    let iscsi = |iqn: &str, more: Value| {
        let mut source = json!({"targetPortal": "127.0.0.1", "iqn": iqn, "lun": 1, "fsType": "ext4"});
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"iscsi": source})
    };
    for good in
        ["iqn.2015-02.example.com:test", "eui.0123456789ABCDEF", "naa.62004567BA64678D0123456789ABCDEF"]
    {
        volume(iscsi(good, json!({})), &[]);
    }
    for bad in ["iqn.2015-02.example.com", "iqn.15-02.a:b", "eui.1", "iqn.2015-02.a:b c"] {
        let want = format!("spec.volumes[0].iscsi.iqn: Invalid value: \"{bad}\": must be valid format");
        volume(iscsi(bad, json!({})), &[&want]);
    }
    volume(
        iscsi("x", json!({"lun": 256, "chapAuthSession": true, "initiatorName": "y"})),
        &[
            r#"spec.volumes[0].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa"#,
            "spec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
            "spec.volumes[0].iscsi.secretRef: Required value",
            r#"spec.volumes[0].iscsi.initiatorname: Invalid value: "y": must be valid format starting with iqn, eui, or naa"#,
        ],
    );
    volume(
        json!({"fc": {}}),
        &[
            "spec.volumes[0].fc.targetWWNs: Required value: must specify either targetWWNs or wwids, but not both",
        ],
    );
    volume(
        json!({"fc": {"targetWWNs": ["a"]}}),
        &["spec.volumes[0].fc.lun: Required value: lun is required if targetWWNs is specified"],
    );
    volume(
        json!({"azureDisk": {"diskName": "d", "diskURI": "x", "cachingMode": "Some", "kind": "Managed"}}),
        &[
            r#"spec.volumes[0].azureDisk.cachingMode: Unsupported value: "Some": supported values: "None", "ReadOnly", "ReadWrite""#,
            r#"spec.volumes[0].azureDisk.diskURI: Unsupported value: "x": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}""#,
        ],
    );
    volume(
        json!({"flexVolume": {"driver": "d", "options": {"k8s.io/x": "y", "o": "p"}}}),
        &[
            r#"spec.volumes[0].flexVolume.options[k8s.io/x]: Invalid value: "k8s.io/x": kubernetes.io and k8s.io namespaces are reserved"#,
        ],
    );
    volume(
        json!({"gitRepo": {"repository": "r", "directory": "../x"}}),
        &[r#"spec.volumes[0].gitRepo.directory: Invalid value: "../x": must not contain '..'"#],
    );
    volume(
        json!({"storageos": {"volumeName": "A_b"}}),
        &[&format!(
            r#"spec.volumes[0].storageos.volumeName: Invalid value: "A_b": {}"#,
            names::dns1123_label("A_b").unwrap()
        )],
    );
}

#[test]
fn of_volumes() {
    let volume = |source: Value| {
        let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
        spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!({"spec": spec})
    };
    check(
        "v1",
        "PersistentVolume",
        volume(json!({"cinder": {"volumeID": "v", "secretRef": {"name": "s"}}})),
        &["spec.cinder.secretRef.namespace: Required value"],
    );
    check(
        "v1",
        "PersistentVolume",
        volume(json!({"glusterfs": {"endpoints": "e", "path": "p", "endpointsNamespace": ""}})),
        &[
            r#"spec.glusterfs.endpointsNamespace: Invalid value: "": if the endpointnamespace is set, it must be a valid namespace name"#,
        ],
    );
    let csi = |more: Value| {
        let mut source = json!({"driver": "d", "volumeHandle": "h"});
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        volume(json!({"csi": source}))
    };
    let secret = json!({"name": "s", "namespace": "n"});
    check_update(
        "v1",
        "PersistentVolume",
        csi(json!({})),
        csi(json!({"controllerExpandSecretRef": secret})),
        &[],
    );
    check_update(
        "v1",
        "PersistentVolume",
        csi(json!({"controllerExpandSecretRef": secret})),
        csi(json!({})),
        &["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
    );
}

#[test]
fn of_windows() {
    let pod = |spec: Value, context: Value| {
        let mut whole = json!({"containers": [{"name": "c", "image": "i", "securityContext": context}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"spec": whole})
    };
    let options = |options: Value| json!({"windowsOptions": options});
    check(
        "v1",
        "Pod",
        pod(json!({"os": {"name": "linux"}}), options(json!({"runAsUserName": "x"}))),
        &[
            "spec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ],
    );
    check(
        "v1",
        "Pod",
        pod(
            json!({"os": {"name": "windows"}, "hostPID": true, "shareProcessNamespace": false}),
            json!({"runAsUser": 1}),
        ),
        &[
            "spec.hostPID: Forbidden: cannot be set for a windows pod",
            "spec.shareProcessNamespace: Forbidden: cannot be set for a windows pod",
            "spec.containers[0].securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
        ],
    );
    let host =
        json!({"os": {"name": "windows"}, "securityContext": {"windowsOptions": {"hostProcess": true}}});
    check(
        "v1",
        "Pod",
        pod(host, options(json!({"hostProcess": false}))),
        &[
            "spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid value: false: pod hostProcess value must be identical if both are specified, was true",
        ],
    );
    check(
        "v1",
        "Pod",
        pod(json!({}), options(json!({"hostProcess": true}))),
        &[
            "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
        ],
    );
    let user = |name: &str, why: &[&str]| {
        let field = "spec.containers[0].securityContext.windowsOptions.runAsUserName";
        let want: Vec<String> = why
            .iter()
            .map(|why| format!("{field}: Invalid value: {}: {why}", crate::field::quote(name)))
            .collect();
        let want: Vec<&str> = want.iter().map(String::as_str).collect();
        check("v1", "Pod", pod(json!({}), options(json!({"runAsUserName": name}))), &want);
    };
    user("ContainerUser", &[]);
    user("NT AUTHORITY\\SYSTEM", &[]);
    user("", &["runAsUserName cannot be an empty string"]);
    user("a\\b\\c", &["runAsUserName cannot contain more than one backslash"]);
    user("a\\", &["runAsUserName's User cannot be empty"]);
    user(". .", &["runAsUserName's User cannot contain only periods or spaces"]);
}

#[test]
fn statuses_of_pods() {
    let pod = |policy: &str, status: Value| json!({"spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}, "status": status});
    let ended = |code: i64| json!({"containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": code}}}]});
    let runs = || json!({"containerStatuses": [{"name": "c", "state": {"running": {}}}]});
    let refused =
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"];
    check_status("v1", "Pod", pod("Never", ended(1)), pod("Never", runs()), &refused);
    check_status("v1", "Pod", pod("OnFailure", ended(0)), pod("OnFailure", runs()), &refused);
    check_status("v1", "Pod", pod("OnFailure", ended(1)), pod("OnFailure", runs()), &[]);
    check_status("v1", "Pod", pod("Always", ended(0)), pod("Always", runs()), &[]);
    check_status(
        "v1",
        "Pod",
        pod("Always", json!({})),
        pod(
            "Always",
            json!({"podIPs": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}], "hostIP": "1.1.1.1", "hostIPs": [{"ip": "1.1.1.2"}],
                "conditions": [{"type": "Ready"}, {"type": "a b"}]}),
        ),
        &[
            &format!(
                r#"status.conditions[1].Type: Invalid value: "a b": {}"#,
                names::qualified_name("a b").unwrap()
            ),
            r#"status.podIPs: Invalid value: [{"ip":"1.2.3.4"},{"ip":"1.2.3.5"}]: may specify no more than one IP for each IP family"#,
            r#"status.hostIPs[0].ip: Invalid value: "1.1.1.2": must be equal to `hostIP`"#,
        ],
    );
}

#[test]
fn profiles_in_annotations() {
    let key = |container: &str| format!("container.apparmor.security.beta.kubernetes.io/{container}");
    let pod = json!({
        "metadata": {"annotations": {key("c"): "odd", key("d"): "localhost/x"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    let (odd, lost) = (key("c"), key("d"));
    check(
        "v1",
        "Pod",
        pod,
        &[
            &format!(
                r#"metadata.annotations[{odd}]: Invalid value: "odd": invalid AppArmor profile name: "odd""#
            ),
            &format!(r#"metadata.annotations[{lost}]: Invalid value: "d": container not found"#),
        ],
    );
}
