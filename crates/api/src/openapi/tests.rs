use super::*;

fn group(group: &str, version: &str) -> Value {
    let bytes = v3_group(&Registry::builtin(), &GroupVersion::new(group, version)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Every reference leads to a definition of the same document.
fn check_references(node: &Value, document: &Value) {
    match node {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.trim_start_matches('#');
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            map.values().for_each(|value| check_references(value, document));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(item, document)),
        _ => {}
    }
}

#[test]
fn documents_are_complete() {
    let registry = Registry::builtin();
    for group in registry.groups() {
        for version in &group.versions {
            let bytes = v3_group(&registry, &GroupVersion::new(&group.name, version)).unwrap();
            let document: Value = serde_json::from_slice(&bytes).unwrap();
            check_references(&document, &document);
        }
    }
    let v2: Value = serde_json::from_slice(&v2(&registry)).unwrap();
    check_references(&v2, &v2);
    assert!(v2["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
    assert_eq!(v3_group(&registry, &GroupVersion::new("apps", "v9")), None);
}

#[test]
fn kubectl_finds_what_it_looks_for() {
    let core = group("", "v1");
    let pod = &core["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
    assert_eq!(
        pod["x-kubernetes-group-version-kind"],
        json!([{"group": "", "version": "v1", "kind": "Pod"}])
    );
    assert!(pod["description"].as_str().unwrap().starts_with("Pod is a collection of containers"));
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "", "version": "v1", "kind": "Pod"})
    );
    let names: Vec<_> =
        patch["parameters"].as_array().unwrap().iter().map(|parameter| &parameter["name"]).collect();
    assert!(names.contains(&&json!("fieldValidation")) && names.contains(&&json!("dryRun")));
    assert!(core["paths"]["/api/v1/pods"]["get"].is_object());
    assert!(core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"].is_object());
}

#[test]
fn lists_say_how_they_are_merged() {
    let core = group("", "v1");
    let field = |kind: &str, field: &str| {
        core["components"]["schemas"][format!("io.k8s.api.core.v1.{kind}")]["properties"][field].clone()
    };
    #[track_caller]
    fn check(field: &Value, list_type: &str, keys: Value, strategy: Value, merge_key: Value) {
        assert_eq!(field["x-kubernetes-list-type"], list_type, "{field}");
        assert_eq!(field["x-kubernetes-list-map-keys"], keys, "{field}");
        assert_eq!(field["x-kubernetes-patch-strategy"], strategy, "{field}");
        assert_eq!(field["x-kubernetes-patch-merge-key"], merge_key, "{field}");
    }
    let none = Value::Null;
    check(&field("PodSpec", "containers"), "map", json!(["name"]), json!("merge"), json!("name"));
    check(&field("PodSpec", "volumes"), "map", json!(["name"]), json!("merge,retainKeys"), json!("name"));
    check(&field("PodSpec", "tolerations"), "atomic", none.clone(), none.clone(), none.clone());
    check(&field("PodSpec", "imagePullSecrets"), "map", json!(["name"]), json!("merge"), json!("name"));
    check(&field("PodSpec", "hostAliases"), "map", json!(["ip"]), json!("merge"), json!("ip"));
    check(
        &field("PodSpec", "topologySpreadConstraints"),
        "map",
        json!(["topologyKey", "whenUnsatisfiable"]),
        json!("merge"),
        json!("topologyKey"),
    );
    check(
        &field("Container", "ports"),
        "map",
        json!(["containerPort", "protocol"]),
        json!("merge"),
        json!("containerPort"),
    );
    check(&field("Container", "env"), "map", json!(["name"]), json!("merge"), json!("name"));
    check(
        &field("Container", "volumeMounts"),
        "map",
        json!(["mountPath"]),
        json!("merge"),
        json!("mountPath"),
    );
    check(&field("Container", "args"), "atomic", none.clone(), none.clone(), none.clone());
    check(&field("ServiceSpec", "ports"), "map", json!(["port", "protocol"]), json!("merge"), json!("port"));
    check(&field("PodStatus", "conditions"), "map", json!(["type"]), json!("merge"), json!("type"));
    let meta =
        &core["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"];
    check(&meta["finalizers"], "set", none.clone(), json!("merge"), none.clone());
    check(&meta["ownerReferences"], "map", json!(["uid"]), json!("merge"), json!("uid"));
    assert_eq!(
        group("apps", "v1")["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"]
            ["x-kubernetes-patch-strategy"],
        "retainKeys"
    );
}

#[test]
fn the_index_names_each_document() {
    let index = v3_index(&Registry::builtin());
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    assert!(index["paths"]["api/v1"].is_object());
}

#[test]
fn old_clients_get_the_same_definitions_as_protobuf() {
    let registry = Registry::builtin();
    let bytes = v2_protobuf(&v2(&registry));
    let document: Value = serde_json::from_slice(&v2(&registry)).unwrap();
    let mut reader = crate::codec::wire::Reader::new(&bytes);
    let (mut paths, mut definitions) = (0, 0);
    while let Some(field) = reader.field().unwrap() {
        let count = |bytes| {
            let mut reader = crate::codec::wire::Reader::new(bytes);
            std::iter::from_fn(|| reader.field().unwrap()).count()
        };
        match field.number {
            8 => paths = count(field.bytes("paths").unwrap()),
            9 => definitions = count(field.bytes("definitions").unwrap()),
            _ => {}
        }
    }
    assert_eq!(paths, document["paths"].as_object().unwrap().len());
    assert_eq!(definitions, document["definitions"].as_object().unwrap().len());
}
