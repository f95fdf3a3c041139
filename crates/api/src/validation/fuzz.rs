//! Objects for property tests: mostly shaped as their schema says, with wrong types and odd values strewn in, so that
//! tests reach deep into per-kind code and still meet every kind of nonsense there.

use crate::gvk::GroupVersionKind;
use crate::registry::Registry;
use crate::schema::{Schema, Shape};
use fuzzing::Chance as Rng;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const WORDS: [&str; 40] = [
    "",
    "a",
    "b",
    "name",
    "Always",
    "Never",
    "OnFailure",
    "RollingUpdate",
    "Recreate",
    "OnDelete",
    "ClusterIP",
    "NodePort",
    "LoadBalancer",
    "ExternalName",
    "None",
    "25%",
    "100%",
    "-1",
    "1Gi",
    "100m",
    "cpu",
    "memory",
    "TCP",
    "http",
    "Exists",
    "In",
    "*",
    "*/5 * * * *",
    "10.0.0.1",
    "::1",
    "a.b/c",
    "kubernetes",
    "Indexed",
    "ClientIP",
    "/a/../b",
    "Container",
    "Resource",
    "..",
    "é\u{0}",
    "$(A)",
];

/// Any built-in kind with an object of it.
pub fn any_object() -> impl Strategy<Value = (GroupVersionKind, Value)> {
    any::<u64>().prop_map(|seed| {
        let mut rng = Rng(seed);
        let registry = Registry::builtin();
        let kinds: Vec<_> = registry.iter().filter(|r| r.schema.is_some()).collect();
        // Pods and workloads have most of the code.
        let favourite = ["Pod", "Deployment", "Service", "Job", "StatefulSet"][rng.below(5)];
        let resource = match kinds.iter().find(|r| r.gvk.kind == favourite) {
            Some(found) if rng.one_in(2) => found,
            _ => kinds[rng.below(kinds.len())],
        };
        let object = value(resource.schema().unwrap(), 0, &mut rng);
        (resource.gvk.clone(), object)
    })
}

/// A kind with two objects of it.
pub fn any_pair() -> impl Strategy<Value = (GroupVersionKind, Value, Value)> {
    (any_object(), any::<u64>()).prop_map(|((gvk, one), seed)| {
        let mut rng = Rng(seed);
        let resource = Registry::builtin().kind(&gvk).unwrap();
        let mut other = value(resource.schema().unwrap(), 0, &mut rng);
        // Half of them differ only here and there, as real updates do.
        if rng.one_in(2) {
            let mut near = one.clone();
            mix(&mut near, &other, &mut rng);
            other = near;
        }
        (gvk, one, other)
    })
}

fn mix(target: &mut Value, other: &Value, rng: &mut Rng) {
    match (target, other) {
        (Value::Object(a), Value::Object(b)) => {
            for (key, value) in b {
                match a.get_mut(key) {
                    Some(mine) if !rng.one_in(6) => mix(mine, value, rng),
                    _ if rng.one_in(3) => {
                        a.insert(key.clone(), value.clone());
                    }
                    _ => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => a.iter_mut().zip(b).for_each(|(x, y)| mix(x, y, rng)),
        (target, other) if rng.one_in(4) => *target = other.clone(),
        _ => {}
    }
}

fn word(rng: &mut Rng) -> Value {
    json!(WORDS[rng.below(WORDS.len())])
}

fn number(rng: &mut Rng) -> Value {
    let numbers = [
        0,
        1,
        2,
        3,
        80,
        443,
        65535,
        65536,
        420,
        -1,
        i64::from(i32::MAX),
        i64::from(i32::MIN),
        i64::MAX,
        i64::MIN,
    ];
    json!(numbers[rng.below(numbers.len())])
}

fn nonsense(rng: &mut Rng) -> Value {
    match rng.below(8) {
        0 => Value::Null,
        1 => json!(true),
        2 => number(rng),
        3 => json!(1.5e300),
        4 => word(rng),
        5 => json!([]),
        6 => json!([[{}], null, 1, "a"]),
        _ => json!({"a": {"b": []}, "name": 1, "": null}),
    }
}

fn value(schema: &Schema, depth: usize, rng: &mut Rng) -> Value {
    if rng.one_in(24) {
        return nonsense(rng);
    }
    match &schema.shape {
        Shape::Any(_) => nonsense(rng),
        Shape::Boolean => json!(rng.one_in(2)),
        Shape::Int32 | Shape::Int64 | Shape::Number => number(rng),
        Shape::IntOrString if rng.one_in(2) => number(rng),
        Shape::Quantity if rng.one_in(2) => json!(["1", "500m", "1Gi", "0.1", "-1", "x"][rng.below(6)]),
        Shape::Time | Shape::MicroTime => json!("2026-01-01T00:00:00Z"),
        Shape::List(list) => {
            let len = if depth > 9 { 0 } else { rng.below(4) };
            (0..len).map(|_| value(&list.items, depth + 1, rng)).collect()
        }
        Shape::Map(map) => {
            let len = if depth > 9 { 0 } else { rng.below(4) };
            let entries = (0..len)
                .map(|_| (WORDS[rng.below(WORDS.len())].to_owned(), value(&map.values, depth + 1, rng)));
            Value::Object(entries.collect())
        }
        Shape::Object(object) => {
            let mut out = Map::new();
            for field in &object.fields {
                let wanted =
                    if field.required || depth < 2 { !rng.one_in(8) } else { rng.one_in(3 + depth / 2) };
                if wanted && depth < 12 {
                    out.insert(field.name.to_string(), value(&field.schema, depth + 1, rng));
                }
            }
            Value::Object(out)
        }
        _ => word(rng),
    }
}
