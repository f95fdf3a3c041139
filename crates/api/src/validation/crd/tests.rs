use serde_json::{Value, json};

use crate::field::FieldErrors;

fn crd() -> Value {
    json!({
        "metadata": {"name": "crontabs.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList"},
            "conversion": {"strategy": "None"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}},
            }],
        },
    })
}

#[track_caller]
fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut object = crd();
    change(&mut object);
    let mut errors = FieldErrors::new();
    super::create(&object, &mut errors);
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for expected in expected {
        assert!(messages.iter().any(|message| message.contains(expected)), "{expected}\nin {messages:#?}");
    }
    assert_eq!(messages.is_empty(), expected.is_empty(), "{messages:#?}");
}

#[track_caller]
fn check_spec(spec: Value, expected: &[&str]) {
    check(
        |crd| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec,
        expected,
    );
}

#[test]
fn definitions() {
    check(|_| (), &[]);
    check(
        |crd| crd["metadata"]["name"] = json!("x"),
        &[r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#],
    );
    check(
        |crd| crd["spec"]["scope"] = json!("X"),
        &[r#"spec.scope: Unsupported value: "X": supported values: "Cluster", "Namespaced""#],
    );
    check(
        |crd| crd["spec"]["versions"][0]["storage"] = json!(false),
        &["spec.versions: Invalid value: ", "must have exactly one version marked as storage version"],
    );
    check(
        |crd| {
            let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            schema["properties"]["metadata"] = json!({"type": "object", "required": ["name"]});
        },
        &["properties[metadata]: Forbidden: must not specify anything other than name and generateName"],
    );
    check(
        |crd| crd["spec"]["versions"][0]["schema"] = Value::Null,
        &["spec.versions[0].schema.openAPIV3Schema: Required value"],
    );
    check(
        |crd| crd["spec"]["names"]["kind"] = json!("1x"),
        &["spec.names.kind: Invalid value: \"1x\": may have mixed case"],
    );
    check(
        |crd| crd["spec"]["conversion"] = json!({"strategy": "Webhook"}),
        &["spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook"],
    );
    check(
        |crd| {
            crd["spec"]["group"] = json!("x.k8s.io");
            crd["metadata"]["name"] = json!("crontabs.x.k8s.io");
        },
        &[
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval",
        ],
    );
    check(
        |crd| {
            crd["spec"]["versions"][0]["subresources"] =
                json!({"scale": {"specReplicasPath": ".x", "statusReplicasPath": ".status.n"}})
        },
        &[
            "spec.subresources.scale.specReplicasPath: Invalid value: \".x\": should be a json path under .spec",
        ],
    );
    check(
        |crd| {
            crd["spec"]["versions"][0]["additionalPrinterColumns"] =
                json!([{"name": "a", "type": "x", "jsonPath": "spec["}])
        },
        &[
            "spec.additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec[\": must be a simple json path starting with .",
        ],
    );
    check(
        |crd| {
            crd["spec"]["versions"][0]["selectableFields"] =
                json!([{"jsonPath": ".spec.none"}, {"jsonPath": ".metadata.name"}])
        },
        &["does not refer to a valid field", "is an invalid path: does not refer to a valid field"],
    );
}

#[test]
fn schemas_are_structural() {
    const AT: &str = "spec.validation.openAPIV3Schema.properties[spec]";
    #[track_caller]
    fn check(spec: Value, expected: &str) {
        check_spec(spec, &[&format!("{AT}{expected}")]);
    }
    check_spec(json!({"x-kubernetes-preserve-unknown-fields": true}), &[]);
    check_spec(
        json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
        &[],
    );
    check(json!({}), ".type: Required value: must not be empty for specified object fields");
    check(json!({"type": "float"}), ".type: Unsupported value: \"float\"");
    check(json!({"type": "array"}), ".items: Required value: must be specified");
    check(
        json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
        ".additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
    );
    check(
        json!({"type": "object", "anyOf": [{"properties": {"a": {"minLength": 1}}}]}),
        ".properties[a]: Required value: because it is defined in spec.validation.openAPIV3Schema.properties[spec].anyOf[0].properties[a]",
    );
    check(
        json!({"type": "object", "anyOf": [{"type": "object"}]}),
        ".anyOf[0].type: Forbidden: must be empty to be structural",
    );
    check(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
               "items": {"type": "object", "properties": {"k": {"type": "string"}}}}),
        ".items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
    );
    check(
        json!({"type": "string", "pattern": "("}),
        ".pattern: Invalid value: \"(\": must be a valid regular expression",
    );
    check(
        json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
        ".properties[a].default: Invalid value: \"string\": ",
    );
    check(
        json!({"type": "object", "default": {"a": 1}}),
        ".default: Invalid value: {\"a\":1}: must not have unknown fields",
    );
    check(
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
        ".x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
    );
    check(
        json!({"type": "string", "anyOf": [{"x-kubernetes-validations": [{"rule": "true"}]}]}),
        ".anyOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural",
    );
    check(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
               "items": {"type": "object", "nullable": true, "required": ["k"], "properties": {"k": {"type": "string"}}}}),
        ".items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is map",
    );
    check(
        json!({"type": "null"}),
        ".type: Forbidden: type cannot be set to null, use nullable as an alternative",
    );
    check(json!({"type": "object", "$ref": "x"}), ".$ref: Forbidden: $ref is not supported");
}

#[test]
fn what_objects_rely_on_stays() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Value), expected: &str) {
        let mut old = crd();
        old["status"] =
            json!({"conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1"]});
        let mut new = old.clone();
        change(&mut new);
        let mut errors = FieldErrors::new();
        super::update(&new, &old, &mut errors);
        assert!(errors.iter().any(|error| error.to_string().contains(expected)), "{expected} in {errors}");
    }
    check(
        |crd| crd["spec"]["scope"] = json!("Cluster"),
        "spec.scope: Invalid value: \"Cluster\": field is immutable",
    );
    check(
        |crd| crd["spec"]["versions"][0]["name"] = json!("v2"),
        "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions",
    );
}
