use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::builtin;

fn schema(name: &str) -> SchemaRef {
    builtin::named(name).unwrap_or_else(|| panic!("{name} is not in the table"))
}

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const POD: &str = "io.k8s.api.core.v1.Pod";
const CONFIG_MAP: &str = "io.k8s.api.core.v1.ConfigMap";

#[test]
fn wrong_types_are_worded_as_go_words_them() {
    #[track_caller]
    fn check(kind: &str, mut object: Value, want: &str) {
        let report = schema(kind).check(&mut object);
        let got: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
        assert_eq!(got, [want]);
    }
    check(
        DEPLOYMENT,
        json!({"spec": {"replicas": "three"}}),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        DEPLOYMENT,
        json!({"spec": {"replicas": 1.5}}),
        "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        DEPLOYMENT,
        json!({"spec": {"replicas": 3_000_000_000_u64}}),
        "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    check(
        DEPLOYMENT,
        json!({"spec": []}),
        "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
    );
    check(
        POD,
        json!({"spec": {"containers": [{"name": "a", "image": 1}]}}),
        "json: cannot unmarshal number into Go struct field Container.spec.containers.image of type string",
    );
    check(
        POD,
        json!({"spec": {"containers": {}}}),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    // A zero of another type too.
    check(
        POD,
        json!({"metadata": {"resourceVersion": 0}}),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.resourceVersion of type string",
    );
    check(
        POD,
        json!({"spec": {"volumes": ""}}),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.volumes of type []v1.Volume",
    );
    check(
        CONFIG_MAP,
        json!({"data": {"a": 1}}),
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
    );
    check(
        POD,
        json!({"metadata": {"labels": {"a": true}}}),
        "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
    );
    check(POD, json!("pod"), "json: cannot unmarshal string into Go value of type v1.Pod");
    check(CONFIG_MAP, json!({"binaryData": {"a": "%%"}}), "illegal base64 data at input byte 0");
}

#[test]
fn unknown_fields_are_named_and_dropped() {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod", "sepc": {},
        "spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": "x", "ports": [{"port": 1}]}]},
    });
    let report = schema(POD).check(&mut object);
    assert_eq!(report.errors, []);
    assert_eq!(report.unknown, ["spec.containers[1].ports[0].port", "spec.containers[1].imagee", "sepc"]);
    assert_eq!(
        object,
        json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{}]}]}})
    );
}

#[test]
fn values_take_the_form_in_which_they_are_stored() {
    #[track_caller]
    fn check(kind: &str, mut object: Value, want: Value) {
        let report = schema(kind).check(&mut object);
        assert_eq!(report, SchemaReport::default());
        assert_eq!(object, want);
    }
    let resources = |cpu: Value| json!({"spec": {"containers": [{"resources": {"limits": {"cpu": cpu}}}]}});
    check(POD, resources(json!(2)), resources(json!("2")));
    check(POD, resources(json!(0.5)), resources(json!("500m")));
    check(POD, resources(json!("1000m")), resources(json!("1")));
    let created = |time: &str| json!({"metadata": {"creationTimestamp": time}});
    check(POD, created("2026-01-02T03:04:05+01:00"), created("2026-01-02T02:04:05Z"));
    check(POD, created("2026-01-02T03:04:05.678Z"), created("2026-01-02T03:04:05Z"));
    // Nulls are absences, except inside lists and maps, where they are Go's zero values.
    check(POD, json!({"metadata": {"creationTimestamp": null}, "spec": null}), json!({"metadata": {}}));
    check(CONFIG_MAP, json!({"data": {"a": null}}), json!({"data": {"a": ""}}));
    check(POD, json!({"spec": {"containers": [null]}}), json!({"spec": {"containers": [{}]}}));
    check(CONFIG_MAP, json!({"binaryData": {"a": "aGVs\nbG8="}}), json!({"binaryData": {"a": "aGVsbG8="}}));
    let probe =
        |port: Value| json!({"spec": {"containers": [{"livenessProbe": {"httpGet": {"port": port}}}]}});
    check(POD, probe(json!(80)), probe(json!(80)));
    check(POD, probe(json!("http")), probe(json!("http")));
}

#[test]
fn zero_values_that_mean_nothing_are_not_kept() {
    #[track_caller]
    fn check(kind: &str, mut object: Value, want: Value) {
        assert_eq!(schema(kind).check(&mut object), SchemaReport::default());
        assert_eq!(object, want);
    }
    check(
        POD,
        json!({"metadata": {"labels": {}, "namespace": ""}, "spec": {"hostNetwork": false, "containers": [], "volumes": []}}),
        json!({"metadata": {}, "spec": {"containers": []}}),
    );
    let same = |kind: &str, object: Value| check(kind, object.clone(), object);
    same(DEPLOYMENT, json!({"spec": {"replicas": 0, "strategy": {}}}));
    same(POD, json!({"spec": {"automountServiceAccountToken": false, "securityContext": {}}}));
    same(POD, json!({"spec": {"volumes": [{"emptyDir": {}, "name": "a"}]}}));
    same("io.k8s.api.core.v1.PersistentVolumeClaim", json!({"spec": {"storageClassName": ""}}));
    same("io.k8s.api.coordination.v1.Lease", json!({"spec": {"holderIdentity": ""}}));
}

#[test]
fn free_form_values_are_kept() {
    let mut object = json!({"data": {"any": [1, null, {"x": "y"}]}, "revision": 1});
    let before = object.clone();
    assert_eq!(schema("io.k8s.api.apps.v1.ControllerRevision").check(&mut object), SchemaReport::default());
    assert_eq!(object, before);
}

#[test]
fn recursion_in_schemas_and_in_objects_ends() {
    let mut inner = json!({"type": "object"});
    for _ in 0..2000 {
        inner = json!({"not": inner});
    }
    let report =
        schema("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").check(&mut inner);
    assert_eq!(report.errors, [SchemaError::Depth]);
    // Dropping a nested value takes stack as well: take it apart.
    while let Value::Object(mut map) = inner {
        inner = map.remove("not").unwrap_or_default();
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "metadata",
        "name",
        "labels",
        "spec",
        "containers",
        "image",
        "ports",
        "resources",
        "limits",
        "cpu",
        "x",
        "volumes",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..6).prop_map(|map| Value::Object(
                map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn a_checked_object_needs_no_change(mut object in any_json()) {
        let report = schema(POD).check(&mut object);
        if report.errors.is_empty() {
            let mut again = object.clone();
            prop_assert_eq!(schema(POD).check(&mut again), SchemaReport::default());
            prop_assert_eq!(again, object);
        }
    }
}
