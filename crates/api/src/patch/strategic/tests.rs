use super::*;
use crate::schema::{Object, SchemaRef, Shape};
use serde_json::json;

fn schema(name: &str) -> SchemaRef {
    builtin::named(&format!("io.k8s.api.{name}")).unwrap()
}

#[track_caller]
fn check(kind: &str, document: Value, patch: Value, want: Value) {
    assert_eq!(strategic_merge(&document, &patch, &schema(kind)), Ok(want), "{patch}");
}

#[test]
fn lists_merge_by_key() {
    check(
        "core.v1.PodSpec",
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
        json!({"containers": [{"name": "b", "image": "2", "env": [{"name": "X", "value": "1"}]}]}),
        json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2", "env": [{"name": "X", "value": "1"}]}]}),
    );
    // An item new to the server goes before those that the patch does not mention.
    check(
        "core.v1.PodSpec",
        json!({"containers": [{"name": "a"}]}),
        json!({"containers": [{"name": "c", "image": null}]}),
        json!({"containers": [{"name": "c"}, {"name": "a"}]}),
    );
    check(
        "core.v1.PodSpec",
        json!({"tolerations": [{"key": "a"}]}),
        json!({"tolerations": [{"key": "b"}]}),
        json!({"tolerations": [{"key": "b"}]}),
    );
}

#[test]
fn directives() {
    check(
        "core.v1.PodSpec",
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "a", "$patch": "delete"}]}),
        json!({"containers": [{"name": "b"}]}),
    );
    check(
        "core.v1.PodSpec",
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"containers": [{"name": "c"}, {"$patch": "replace"}]}),
        json!({"containers": [{"name": "c"}]}),
    );
    check(
        "core.v1.PodSpec",
        json!({"securityContext": {"runAsUser": 1}}),
        json!({"securityContext": {"runAsGroup": 2, "$patch": "replace"}}),
        json!({"securityContext": {"runAsGroup": 2}}),
    );
    check(
        "core.v1.PodSpec",
        json!({"securityContext": {"runAsUser": 1}, "nodeName": "n"}),
        json!({"securityContext": {"$patch": "delete"}, "nodeName": null}),
        json!({"securityContext": {}}),
    );
    check(
        "apps.v1.DeploymentSpec",
        json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}),
        json!({"strategy": {"type": "Recreate", "$retainKeys": ["type"]}}),
        json!({"strategy": {"type": "Recreate"}}),
    );
    check(
        "core.v1.PodSpec",
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]}),
        json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}),
    );
    check(
        "core.v1.PodSpec",
        json!({"containers": [{"name": "a"}, {"name": "b"}, {"name": "server"}]}),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "a", "image": "2"}]}),
        json!({"containers": [{"name": "b"}, {"name": "a", "image": "2"}, {"name": "server"}]}),
    );
    check(
        "core.v1.PodSpec",
        json!({"containers": [{"name": "a"}, {"name": "b"}]}),
        json!({"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}),
        json!({"containers": [{"name": "b"}, {"name": "a"}]}),
    );
}

#[test]
fn sets_of_scalars() {
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    check(
        "core.v1.Pod",
        finalizers(json!(["a", "b"])),
        finalizers(json!(["b", "c"])),
        finalizers(json!(["a", "b", "c"])),
    );
    check(
        "core.v1.Pod",
        finalizers(json!(["a", "b", "c"])),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}),
        finalizers(json!(["a", "c"])),
    );
    check(
        "core.v1.Pod",
        finalizers(json!(["a", "b"])),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}}),
        finalizers(json!(["c", "b"])),
    );
}

#[test]
fn malformed_patches() {
    #[track_caller]
    fn check(patch: Value, want: &str) {
        let document = json!({"containers": [{"name": "a"}], "securityContext": {"runAsUser": 1}});
        let error = strategic_merge(&document, &patch, &schema("core.v1.PodSpec")).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
    check(json!([]), "a strategic merge patch must be a JSON object");
    let unknown = |what: &str| format!("unknown patch type: {what} in map: map[$patch:{what}]");
    check(json!({"securityContext": {"$patch": "frob"}}), &unknown("frob"));
    check(json!({"securityContext": {"$patch": "merge"}}), &unknown("merge"));
    check(json!({"securityContext": {"$patch": ["x"]}}), &unknown("[x]"));
    check(json!({"containers": [{"$patch": "frob"}]}), &unknown("frob"));
    let merge = "merging lists cannot yet be specified in the patch";
    check(json!({"containers": [{"name": "a", "$patch": "merge"}]}), merge);
    let unkeyed = |item: &str| format!("map: map[{item}] does not contain declared merge key: name");
    check(json!({"containers": [{"image": "x"}]}), &unkeyed("image:x"));
    check(json!({"containers": [{"$patch": "delete"}]}), &unkeyed("$patch:delete"));
    check(json!({"$setElementOrder/containers": [{"image": "x"}]}), &unkeyed("image:x"));
    check(json!({"containers": [1]}), "list element types are not identical: [[map[name:a]] [1]]");
    check(
        json!({"$deleteFromPrimitiveList/containers": ["a"]}),
        "list element types are not identical: [[map[name:a]] [a]]",
    );
    let list = |found: &str| format!("expected a []interface {{}}, but received a {found}");
    check(json!({"$setElementOrder/containers": "x"}), &list("string"));
    check(json!({"$setElementOrder/containers": {}, "containers": []}), &list("map[string]interface {}"));
    check(json!({"$setElementOrder/securityContext": []}), &list("map[string]interface {}"));
    check(json!({"$deleteFromPrimitiveList/containers": true}), &list("bool"));
    check(json!({"$setElementOrder/containers": ["a"]}), "value for key 0 is not a map");
    check(
        json!({"$setElementOrder/containers": ["a"], "containers": [{"name": "a"}]}),
        "expected a map[string]interface {}, but received a string",
    );
    check(
        json!({"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}),
        "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
    );
    check(
        json!({"$setElementOrder/zzz": []}),
        "unable to find api field in struct PodSpec for the json field \"zzz\"",
    );
    for retain in [json!(["x"]), json!("runAsUser"), json!({}), json!(null), json!([])] {
        let patch = json!({"securityContext": {"$retainKeys": retain, "runAsUser": 1}});
        check(patch, "invalid patch format of retainKeys");
    }
}

#[test]
fn what_does_not_go_together_has_no_reason() {
    let document = json!({"containers": [{"name": "a"}]});
    let status = |patch: Value| {
        let failed = strategic_merge(&document, &patch, &schema("core.v1.PodSpec")).unwrap_err();
        let status = crate::status::Status::from(failed);
        (status.code, status.reason.to_string())
    };
    assert_eq!(status(json!({"containers": [{"name": "a", "$patch": "x"}]})), (500, String::new()));
    let bad = (400, "BadRequest".to_owned());
    assert_eq!(status(json!({"containers": [{"name": "a", "$retainKeys": 1}]})), bad);
}

#[test]
fn orders_that_name_nothing_or_too_much() {
    let document = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    let merged = |patch: Value| strategic_merge(&document, &patch, &schema("core.v1.PodSpec")).unwrap();
    let named = |name: &str| json!({"name": name});
    let empty = json!({"$setElementOrder/containers": [], "containers": [{"name": "b", "image": "i"}]});
    assert_eq!(merged(empty)["containers"], json!([{"name": "a"}, {"name": "b", "image": "i"}]));
    let order = [named("gone"), named("b"), named("a"), named("b")];
    assert_eq!(
        merged(json!({"$setElementOrder/containers": order}))["containers"],
        json!([named("a"), named("b")])
    );
}

#[test]
fn custom_resources_have_no_strategy() {
    let custom = Schema::from(Shape::Object(Object::default()));
    assert_eq!(strategic_merge(&json!({}), &json!({}), &custom), Err(PatchError::StrategicUnsupported));
}
