//! What `kubectl get podmetrics` shows.

use serde_json::{Value, json};

use crate::objects::total;

pub fn render(objects: &[Value]) -> Value {
    let column = |name: &str, format: &str, description: &str| json!({"name": name, "type": "string", "format": format, "description": description, "priority": 0});
    let rows: Vec<Value> = objects.iter().map(row).collect();
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [
            column("Name", "name", "Name must be unique within a namespace."),
            column("CPU", "", "What is used of the processors."),
            column("Memory", "", "The working set."),
            column("Window", "", "The time over which the use was measured."),
        ],
        "rows": rows,
    })
}

fn row(object: &Value) -> Value {
    let (cpu, memory) = total(object);
    json!({
        "cells": [object["metadata"]["name"], cpu.to_string(), memory.to_string(), object["window"]],
        "object": {
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
        },
    })
}
