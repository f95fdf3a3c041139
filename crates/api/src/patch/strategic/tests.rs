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
    check(json!({"securityContext": {"$patch": "frob"}}), "unknown patch type: frob in map");
    check(
        json!({"containers": [{"image": "x"}]}),
        "map: {\"image\":\"x\"} does not contain declared merge key: name",
    );
    check(json!({"containers": [1]}), "items of \"containers\" in the patch must be objects");
    check(json!({"$setElementOrder/containers": 1}), "$setElementOrder must be a list");
    check(
        json!({"securityContext": {"$retainKeys": ["x"], "runAsUser": 1}}),
        "the $retainKeys directive does not list field \"runAsUser\", which the patch sets",
    );
}

#[test]
fn custom_resources_have_no_strategy() {
    let custom = Schema::from(Shape::Object(Object::default()));
    assert_eq!(strategic_merge(&json!({}), &json!({}), &custom), Err(PatchError::StrategicUnsupported));
}
