use serde_json::json;

use super::*;

#[test]
fn finds() {
    let object = json!({
        "metadata": {"labels": {"a.b/c": "x"}},
        "spec": {"list": [1, 2, 3], "n": 5},
        "status": {"conditions": [
            {"type": "Ready", "status": "True", "age": 3},
            {"type": "Synced", "status": "False", "age": 9},
        ]},
    });
    #[track_caller]
    fn check(object: &Value, path: &str, expected: Value) {
        let path = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(json!(path.find(object)), expected);
    }
    check(&object, ".spec.n", json!([5]));
    check(&object, "{.spec.n}", json!([5]));
    check(&object, ".spec.none", json!([]));
    check(&object, ".spec.list[0]", json!([1]));
    check(&object, ".spec.list[-1:]", json!([3]));
    check(&object, ".spec.list[-1]", json!([3]));
    check(&object, ".spec.list[0:2]", json!([1, 2]));
    check(&object, ".spec.list[*]", json!([1, 2, 3]));
    check(&object, ".spec.list[0,2]", json!([1, 3]));
    check(&object, ".metadata.labels['a.b/c']", json!(["x"]));
    check(&object, r".metadata.labels.a\.b/c", json!(["x"]));
    check(&object, r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]));
    check(&object, ".status.conditions[?(@.type != 'Ready')].status", json!(["False"]));
    check(&object, ".status.conditions[?(@.age > 3)].type", json!(["Synced"]));
    check(&object, ".status.conditions[?(@.age)].type", json!(["Ready", "Synced"]));
    check(&object, "..type", json!(["Ready", "Synced"]));
    check(&object, ".spec['n','none']", json!([5]));
}

#[test]
fn what_is_no_path_is_refused() {
    for bad in ["spec", ".spec[", ".spec[a]", ".spec{", ".a..", ".x[?(foo)]", ".spec[1:2:3:4]"] {
        assert!(JsonPath::parse(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "[.\\[\\]a*?(@)='\",:0-9\\\\ -]{0,24}") {
        if let Ok(path) = JsonPath::parse(&text) {
            path.find(&json!({"a": [1, {"a": "b"}]}));
        }
    }
}
