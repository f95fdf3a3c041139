use proptest::prelude::*;
use serde_json::json;

use super::*;

#[track_caller]
fn check(content_type: &str, body: &str, want: Value, duplicates: &[&str]) {
    let decoded = decode(content_type, body.as_bytes()).unwrap();
    assert_eq!(decoded.value, want);
    assert_eq!(decoded.duplicate_fields, duplicates);
}

#[test]
fn the_last_of_duplicate_fields_wins_and_is_named() {
    check(
        "application/json",
        r#"{"spec":{"a":1,"a":2,"l":[{"x":1},{"x":1,"x":2}]}}"#,
        json!({"spec":{"a":2,"l":[{"x":1},{"x":2}]}}),
        &["spec.a", "spec.l[1].x"],
    );
    let yaml = "spec:\n  a: 1\n  a: 2\n  b:\n  - x: 1\n    x: 2\n";
    check("application/yaml", yaml, json!({"spec": {"a": 2, "b": [{"x": 2}]}}), &["spec.a", "spec.b[0].x"]);
    let decoded = decode("application/yaml", yaml.as_bytes()).unwrap();
    assert_eq!(
        decoded.duplicate_field_messages().collect::<Vec<_>>(),
        [
            "yaml: unmarshal errors:\n  line 3: key \"a\" already set in map\n  line 6: key \"x\" already set in map"
        ]
    );
    let decoded = decode("application/json", br#"{"a":1,"a":2}"#).unwrap();
    assert_eq!(decoded.duplicate_field_messages().collect::<Vec<_>>(), ["duplicate field \"a\""]);
}

#[test]
fn yaml_values_become_json_values() {
    check(
        "application/yaml; charset=utf-8",
        "apiVersion: v1\nkind: ConfigMap\ndata:\n  n: \"1\"\n  t: |\n    one\n    two\nlist: [1, 2.5, true, null, ~]\n",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"n": "1", "t": "one\ntwo\n"}, "list": [1, 2.5, true, null, null]}),
        &[],
    );
}

#[test]
fn errors_are_worded_as_upstream_words_them() {
    #[track_caller]
    fn check(content_type: &str, body: &[u8], want: &str) {
        let error = decode(content_type, body).unwrap_err().to_string();
        assert_eq!(error, want);
    }
    check(
        "application/json",
        b"",
        "couldn't get version/kind; json parse error: unexpected end of JSON input",
    );
    check(
        "application/json",
        b"{\"a\":",
        "couldn't get version/kind; json parse error: unexpected end of JSON input",
    );
    check(
        "application/json",
        b"<html>",
        "couldn't get version/kind; json parse error: invalid character '<' looking for beginning of value",
    );
    check(
        "application/json",
        b"{\"a\":1]",
        "couldn't get version/kind; json parse error: invalid character ']' after object key:value pair",
    );
    let error = decode("text/html", b"<p>").unwrap_err();
    assert!(matches!(error, CodecError::UnsupportedMediaType { .. }));
    assert!(
        decode("application/yaml", b"a: [1")
            .unwrap_err()
            .to_string()
            .starts_with("error converting YAML to JSON: yaml: ")
    );
}

#[test]
fn bombs_are_refused() {
    let deep = "[".repeat(100_000);
    assert!(decode("application/json", deep.as_bytes()).is_err());
    assert!(decode("application/yaml", deep.as_bytes()).is_err());
    let mut laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (one, next) in
        ["a", "b", "c", "d", "e", "f", "g", "h"].iter().zip(["b", "c", "d", "e", "f", "g", "h", "i"])
    {
        laughs.push_str(&format!(
            "{next}: &{next} [*{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}, *{one}]\n"
        ));
    }
    assert!(decode("application/yaml", laughs.as_bytes()).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Not negative zero and the like: YAML and JSON have their own spellings of floats.
        (-1000_i32..1000).prop_map(|n| Value::from(f64::from(n) + 0.5)),
        "[ -~é\\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ -~]{0,8}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_comes_back(value in any_json()) {
        let bytes = encode(Format::Json, &value).unwrap();
        prop_assert_eq!(decode("application/json", &bytes).unwrap().value, value);
    }

    #[test]
    fn yaml_comes_back(map in prop::collection::btree_map("[a-z]{1,8}", any_json(), 1..5)) {
        let value = Value::Object(map.into_iter().collect());
        let bytes = encode(Format::Yaml, &value).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert_eq!(decode("application/yaml", &bytes).map_err(|e| TestCaseError::fail(format!("{e}: {text}")))?.value, value, "{}", text);
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode("application/json", &body);
        let _ = decode("application/yaml", &body);
    }
}
