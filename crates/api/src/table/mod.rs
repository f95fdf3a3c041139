//! What `kubectl get` shows: `meta.k8s.io/v1` Tables, made on the server.
//!
//! The columns of a kind and the function that fills them are a [`Printer`]; they stand in one file per family of
//! kinds. Kinds without one show their name and when they were created.

mod access;
mod autoscaling;
mod batch;
mod cells;
mod cluster;
mod config;
mod custom;
mod duration;
mod extension;
mod network;
mod pods;
mod resources;
mod storage;
mod workloads;

pub use custom::Columns;
pub use duration::human_duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::registry::Resource;
use cells::{name, text};

/// How much of each object a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    /// A `PartialObjectMetadata`, which `kubectl get --watch` and `--sort-by` use.
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; `None` for a value that is not known.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

/// What a table needs beside its rows.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Ages are relative to this.
    pub now: Timestamp,
    pub include: IncludeObject,
    /// The `metadata` of the list, or of the only object.
    pub metadata: Option<&'a Value>,
    /// Whether to say what the columns are. Later events of a watch leave it out.
    pub headers: bool,
}

impl Options<'_> {
    pub fn new(now: Timestamp, include: IncludeObject) -> Self {
        Options { now, include, metadata: None, headers: true }
    }
}

/// The table of these objects, as JSON.
pub fn render<'a>(
    resource: &Resource,
    objects: impl IntoIterator<Item = &'a Value>,
    options: Options<'_>,
) -> Value {
    let printer = printer(resource);
    let rows: Vec<Value> =
        objects.into_iter().map(|object| row(printer, resource, object, &options)).collect();
    let columns =
        if options.headers { printer.columns.iter().map(Column::definition).collect() } else { Vec::new() };
    document(columns, rows, &options)
}

/// The table around its rows.
fn document(columns: Vec<Value>, rows: Vec<Value>, options: &Options<'_>) -> Value {
    let mut metadata = Map::new();
    for key in ["resourceVersion", "continue", "remainingItemCount"] {
        if let Some(value) = options.metadata.and_then(|metadata| metadata.get(key)) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The columns of a kind and what stands in them.
struct Printer {
    columns: &'static [Column],
    cells: fn(&Value, Timestamp) -> Vec<Value>,
}

struct Column {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    description: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    priority: i32,
}

const fn column(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

const fn number(name: &'static str, description: &'static str) -> Column {
    Column { kind: "integer", ..column(name, description) }
}

/// Only shown with `-o wide`.
const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { priority: 1, ..column(name, description) }
}

const NAME: Column = Column {
    format: "name",
    ..column(
        "Name",
        "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically.",
    )
};
const AGE: Column = column("Age", "How long ago the object was created.");

impl Column {
    fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}

/// Kinds that nobody made columns for.
static DEFAULT: Printer = Printer {
    columns: &[
        NAME,
        Column {
            kind: "date",
            ..column(
                "Created At",
                "CreationTimestamp is a timestamp representing the server time when this object was created.",
            )
        },
    ],
    cells: |object, _| vec![name(object), text(object, "/metadata/creationTimestamp").into()],
};

fn printer(resource: &Resource) -> &'static Printer {
    let gvk = &resource.gvk;
    let found = match gvk.group.as_str() {
        "" => pods::printer(&gvk.kind)
            .or_else(|| workloads::printer(&gvk.kind))
            .or_else(|| network::printer(&gvk.kind))
            .or_else(|| cluster::printer(&gvk.kind))
            .or_else(|| config::printer(&gvk.kind))
            .or_else(|| storage::printer(&gvk.kind)),
        "apps" => workloads::printer(&gvk.kind),
        "batch" => batch::printer(&gvk.kind),
        "autoscaling" => autoscaling::printer(&gvk.kind, &gvk.version),
        "networking.k8s.io" | "discovery.k8s.io" => network::printer(&gvk.kind),
        "rbac.authorization.k8s.io" | "certificates.k8s.io" => access::printer(&gvk.kind),
        "storage.k8s.io" => storage::printer(&gvk.kind),
        "coordination.k8s.io" | "scheduling.k8s.io" | "node.k8s.io" | "events.k8s.io" | "policy" => {
            cluster::printer(&gvk.kind)
        }
        "resource.k8s.io" => resources::printer(&gvk.kind),
        "admissionregistration.k8s.io" | "apiregistration.k8s.io" | "flowcontrol.apiserver.k8s.io" => {
            extension::printer(&gvk.kind)
        }
        _ => None,
    };
    found.unwrap_or(&DEFAULT)
}

fn row(printer: &Printer, resource: &Resource, object: &Value, options: &Options<'_>) -> Value {
    let mut row = json!({"cells": (printer.cells)(object, options.now)});
    if let (true, Some(condition)) = (resource.gvk.kind == "Pod", pods::row_condition(object)) {
        row["conditions"] = json!([condition]);
    }
    with_object(row, object, options.include)
}

/// The row with as much of its object as was asked for.
fn with_object(mut row: Value, object: &Value, include: IncludeObject) -> Value {
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object.get("metadata").unwrap_or(&Value::Null),
            });
        }
        IncludeObject::Object => row["object"] = object.clone(),
    }
    row
}

#[cfg(test)]
mod tests;
