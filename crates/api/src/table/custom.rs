//! Columns that the author of a custom resource has chosen (`additionalPrinterColumns`).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::duration::since;
use super::{NAME, Options};
use crate::jsonpath::{self, JsonPath};

/// The columns of one version of a custom resource.
#[derive(Debug)]
pub struct Columns(Vec<Column>);

#[derive(Debug)]
struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    path: Option<JsonPath>,
}

impl Columns {
    /// From `spec.versions[*]`. Without any, there is the age.
    pub fn of_version(version: &Value) -> Self {
        let given = version["additionalPrinterColumns"].as_array().filter(|columns| !columns.is_empty());
        let columns = given.map(|columns| columns.iter().map(Column::parse).collect());
        Self(columns.unwrap_or_else(|| {
            vec![Column::parse(&json!({
                "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
                "description": "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata",
            }))]
        }))
    }

    /// The table of these objects.
    pub fn render<'a>(&self, objects: impl IntoIterator<Item = &'a Value>, options: Options<'_>) -> Value {
        let rows = objects
            .into_iter()
            .map(|object| {
                let name = object["metadata"]["name"].clone();
                let cells: Vec<Value> = std::iter::once(name)
                    .chain(self.0.iter().map(|column| column.cell(object, options.now)))
                    .collect();
                super::with_object(json!({"cells": cells}), object, options.include)
            })
            .collect();
        let definitions = match options.headers {
            true => std::iter::once(NAME.definition()).chain(self.0.iter().map(Column::definition)).collect(),
            false => Vec::new(),
        };
        super::document(definitions, rows, &options)
    }
}

impl Column {
    fn parse(column: &Value) -> Self {
        let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
        let description = match text("description") {
            none if none.is_empty() => {
                format!("Custom resource definition column (in JSONPath format): {}", text("jsonPath"))
            }
            text => text,
        };
        Self {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description,
            priority: column["priority"].as_i64().unwrap_or(0),
            // Checked when the definition was accepted; a path of an older server may be none: an empty column.
            path: JsonPath::parse(&text("jsonPath")).ok(),
        }
    }

    fn definition(&self) -> Value {
        json!({
            "name": self.name, "type": self.kind, "format": self.format, "description": self.description,
            "priority": self.priority,
        })
    }

    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let Some(value) = self.path.as_ref().and_then(|path| path.first(object)) else {
            return Value::Null;
        };
        match (self.kind.as_str(), value) {
            ("string", Value::Null) => Value::Null,
            ("string", value) => jsonpath::print(value).into(),
            ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => whole.into(),
                (None, Some(float)) => (float as i64).into(),
                (None, None) => Value::Null,
            },
            ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
            ("date", Value::String(time)) => match time.parse::<Timestamp>() {
                Ok(_) => since(Some(time), now).into(),
                Err(_) => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::IncludeObject;

    #[test]
    fn cells_by_type() {
        let version = json!({"additionalPrinterColumns": [
            {"name": "Spec", "type": "string", "jsonPath": ".spec.cron"},
            {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
            {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
            {"name": "List", "type": "string", "jsonPath": ".spec.list"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]});
        let object = json!({
            "metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"cron": "* *", "replicas": 3, "list": [1, "a"]},
        });
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let table = Columns::of_version(&version).render([&object], Options::new(now, IncludeObject::None));
        assert_eq!(table["rows"][0]["cells"], json!(["x", "* *", 3, null, "[1,\"a\"]", "60s"]));
        assert_eq!(table["columnDefinitions"][2]["priority"], 1);
        let table = Columns::of_version(&json!({})).render([&object], Options::new(now, IncludeObject::None));
        assert_eq!(table["rows"][0]["cells"], json!(["x", "60s"]));
    }
}
