//! Rules about objects whose schema is known: types, escaping, list kinds, costs.

use expressions::{Bindings, Budget, Environment, Program, Value, schema};
use serde_json::{Value as Json, json};

fn evaluated(schema: &Json, object: &Json, source: &str) -> Result<Json, String> {
    let of = schema::sized(schema, true);
    let environment = Environment::kubernetes().with("self", of.clone());
    let program = Program::compile(source, &environment).map_err(|error| error.to_string())?;
    let mut variables = Bindings::new();
    variables.set("self", Value::typed(object, &of.of));
    let value = program.evaluate(&variables, &mut Budget::default());
    value.and_then(|value| value.to_json()).map_err(|error| error.to_string())
}

#[test]
fn tell_what_json_means() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "at": {"type": "string", "format": "date-time"},
        "for": {"type": "string", "format": "duration"},
        "data": {"type": "string", "format": "byte"},
        "ratio": {"type": "number"},
        "x-y.z/a__b": {"type": "string"},
        "either": {"x-kubernetes-int-or-string": true},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "frees": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
        "untyped": {"x-kubernetes-preserve-unknown-fields": true},
        "unlisted": {"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": true}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    }}}});
    let object = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "n"}, "spec": {
        "at": "2020-01-01T00:00:00Z", "for": "1h", "data": "YWJj", "ratio": 2, "x-y.z/a__b": "v", "either": 5,
        "set": ["a", "b"], "map": [{"k": "x", "v": 1}, {"k": "y", "v": 2}], "free": {"a": {"b": 1}},
        "frees": [{"a": 1}, {"a": 2}, {"a": 1}], "untyped": 1, "unlisted": [1],
        "labels": {"app": "x"},
    }});
    let check = |source: &str| assert_eq!(evaluated(&schema, &object, source), Ok(json!(true)), "{source}");
    check("self.metadata.name == 'n' && self.kind == 'A'");
    check("self.spec.at.getFullYear() == 2020 && self.spec.__for__ == duration('60m')");
    check("self.spec.data == b'abc' && self.spec.ratio == 2.0");
    check("self.spec.x__dash__y__dot__z__slash__a__underscores__b == 'v'");
    check("self.spec.either == 5 && type(self.spec.either) == int");
    check("self.spec.set == ['b', 'a'] && self.spec.set + ['b', 'c'] == ['c', 'b', 'a']");
    check("self.spec.map + [] == self.spec.map && self.spec.map.exists(m, m.k == 'y' && m.v == 2)");
    check(
        "has(self.spec.free) && self.spec.frees[0] != self.spec.frees[1] && self.spec.frees[0] == self.spec.frees[2]",
    );
    check("self.spec.labels.app == 'x' && self.spec.labels['app'] == 'x'");
    let wrong = |source: &str, expected: &str| {
        let error = evaluated(&schema, &object, source).err().unwrap_or_default();
        assert!(error.contains(expected), "{source}: {error}");
    };
    wrong("self.spec.nothing == 1", "undefined field 'nothing'");
    // What nobody has declared is not seen.
    wrong("self.spec.free.a.b == 1", "undefined field 'a'");
    wrong("'a' in self.spec.free", "found no matching overload");
    wrong("has(self.spec.untyped)", "undefined field 'untyped'");
    wrong("self.spec.unlisted.size() == 1", "undefined field 'unlisted'");
    wrong("self.metadata.labels == {}", "undefined field 'labels'");
    wrong("self.spec.set.exists(s, s == 1)", "'_==_' applied to '(string, int)'");
}

#[test]
fn sizes_limit_costs() {
    let cost = |items: Json, source: &str| {
        let schema = json!({"type": "object", "properties": {"list": items}});
        let environment = Environment::kubernetes().with("self", schema::sized(&schema, true));
        Program::compile(source, &environment).map(|program| program.estimated_cost())
    };
    let bounded = json!({"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}});
    let unbounded = json!({"type": "array", "items": {"type": "string"}});
    let nested = "self.list.all(x, self.list.all(y, x == y))";
    assert!(cost(bounded.clone(), nested).is_ok_and(|cost| cost < 10_000));
    assert!(cost(unbounded.clone(), nested).is_ok_and(|cost| cost > 1_000_000_000));
    assert!(cost(unbounded, "self.list.size() < 5").is_ok_and(|cost| cost < 100));
    assert!(
        cost(bounded, "self.list.map(x, x + x).exists(x, x.matches('^a+$'))").is_ok_and(|cost| cost < 10_000)
    );
}
