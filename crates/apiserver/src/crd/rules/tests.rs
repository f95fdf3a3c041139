use api::structural::Structural;
use serde_json::{Value, json};

use super::*;

fn schema(rules: Value) -> Value {
    json!({
        "type": "object",
        "properties": {"spec": {
            "type": "object",
            "x-kubernetes-validations": rules,
            "properties": {
                "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "maxLength": 10},
                "ports": {
                    "type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object", "required": ["name"],
                        "properties": {"name": {"type": "string", "maxLength": 10}, "port": {"type": "integer",
                            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "ports stay"}]}},
                    },
                },
            },
        }},
    })
}

fn judge(rules: Value, spec: Value, old: Option<Value>) -> Vec<String> {
    found(rules, spec, old).errors.iter().map(ToString::to_string).collect()
}

fn found(rules: Value, spec: Value, old: Option<Value>) -> Found {
    let schema = schema(rules);
    let rules = Rules::compile(&schema);
    let mut found = Found::default();
    let object =
        |spec: Value| json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "x"}, "spec": spec});
    rules.judge(&object(spec), old.map(object).as_ref(), &Structural::parse(&schema), &mut found);
    found
}

#[test]
fn broken_rules_are_told() {
    let rule = json!([{"rule": "self.min <= self.max", "message": "min may not exceed max"}]);
    assert_eq!(judge(rule.clone(), json!({"min": 1, "max": 2}), None), [""; 0]);
    let broken = json!({"min": 3, "max": 2});
    assert_eq!(judge(rule.clone(), broken.clone(), None), ["spec: Invalid value: min may not exceed max"]);
    // Not touched.
    let unchanged = found(rule.clone(), broken.clone(), Some(broken));
    assert!(unchanged.errors.is_empty());
    let forgiven: Vec<String> = unchanged.forgiven.iter().map(ToString::to_string).collect();
    assert_eq!(forgiven, ["spec: Invalid value: min may not exceed max"]);
    // Where items with keys stand is no change.
    let ports =
        |names: [&str; 2]| json!({"min": 3, "max": 2, "ports": names.map(|name| json!({"name": name}))});
    assert_eq!(judge(rule, ports(["a", "b"]), Some(ports(["b", "a"]))), [""; 0]);
    let rule = json!([{
        "rule": "self.min <= self.max", "messageExpression": "'min ' + string(self.min) + ' exceeds ' + string(self.max)",
        "reason": "FieldValueForbidden", "fieldPath": ".min",
    }]);
    assert_eq!(judge(rule, json!({"min": 3, "max": 2}), None), ["spec.min: Forbidden: min 3 exceeds 2"]);
    let rule = json!([{"rule": "self.min <= self.max"}]);
    assert_eq!(
        judge(rule.clone(), json!({"min": 3, "max": 2}), None),
        ["spec: Invalid value: failed rule: self.min <= self.max"]
    );
    assert_eq!(
        judge(rule, json!({"min": 3}), None),
        ["spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max"]
    );
}

#[test]
fn changes_are_judged_by_what_was_there() {
    let spec = |port: i64| json!({"ports": [{"name": "b", "port": 1}, {"name": "a", "port": port}]});
    let old = json!({"ports": [{"name": "a", "port": 80}]});
    assert_eq!(judge(json!([]), spec(81), None), [""; 0]);
    assert_eq!(judge(json!([]), spec(80), Some(old.clone())), [""; 0]);
    assert_eq!(judge(json!([]), spec(81), Some(old)), ["spec.ports[1].port: Invalid value: 81: ports stay"]);
    let first = json!([{"rule": "oldSelf.hasValue() || self.min == 0", "optionalOldSelf": true, "message": "starts at 0"}]);
    assert_eq!(judge(first.clone(), json!({"min": 1}), None), ["spec: Invalid value: starts at 0"]);
    assert_eq!(judge(first, json!({"min": 1}), Some(json!({"min": 0}))), [""; 0]);
}

#[test]
fn definitions_with_bad_rules_are_refused() {
    #[track_caller]
    fn check(rules: Value, expected: &str) {
        let crd =
            json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema(rules)}}]}});
        let mut errors = FieldErrors::new();
        check_definition(&crd, None, &mut errors);
        match expected {
            "" => assert!(errors.is_empty(), "{errors}"),
            expected => assert!(errors.to_string().contains(expected), "{expected}\n{errors}"),
        }
        // What was accepted stays.
        let mut errors = FieldErrors::new();
        check_definition(&crd, Some(&crd), &mut errors);
        assert!(errors.is_empty());
    }
    check(json!([{"rule": "self.min <= self.max"}]), "");
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    check(json!([{"rule": ""}]), &format!("{at}.rule: Required value: rule is not specified"));
    check(
        json!([{"rule": "self.none == 1"}]),
        &format!(
            "{at}.rule: Invalid value: {{\"Rule\":\"self.none == 1\",\"Message\":\"\",\"MessageExpression\":\"\",\
             \"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: compilation failed: "
        ),
    );
    check(json!([{"rule": "self.none == 1"}]), "undefined field 'none'");
    check(json!([{"rule": "self.min +"}]), "Syntax error");
    check(json!([{"rule": "self.min"}]), "cel expression must evaluate to a bool");
    check(json!([{"rule": "true", "reason": "X"}]), &format!("{at}.reason: Unsupported value: \"X\""));
    check(json!([{"rule": "true", "fieldPath": "a b"}]), &format!("{at}.fieldPath: Invalid value"));
    check(
        json!([{"rule": "true", "message": "a\nb"}]),
        ".message: Invalid value: \"a\\nb\": must not contain line breaks",
    );
    check(json!([{"rule": "true", "fieldPath": ".nowhere"}]), &format!("{at}.fieldPath: Invalid value"));
    check(json!([{"rule": "true", "fieldPath": ".min"}]), "");
    check(
        json!([{"rule": "true", "messageExpression": " "}]),
        "messageExpression must be non-empty if specified",
    );
    check(json!([{"rule": "true", "messageExpression": "1"}]), "messageExpression must evaluate to a string");
    let mut expensive = schema(json!([]));
    expensive["properties"]["spec"]["properties"]["list"] = json!({
        "type": "array", "items": {"type": "array", "items": {"type": "string"}},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}],
    });
    expensive["properties"]["spec"]["properties"]["set"] = json!({
        "type": "array", "maxItems": 3, "items": {"type": "string", "maxLength": 3, "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
    });
    let crd = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": expensive}}]}});
    let mut errors = FieldErrors::new();
    check_definition(&crd, None, &mut errors);
    let told = errors.to_string();
    assert!(
        told.contains("Forbidden: estimated rule cost exceeds budget by factor of more than 100x"),
        "{told}"
    );
    assert!(told.contains("oldSelf cannot be used on the uncorrelatable portion"), "{told}");
}
