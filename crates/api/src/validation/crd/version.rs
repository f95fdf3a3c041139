//! What a version has beside its schema: columns, subresources, selectable fields, a warning.

use serde_json::Value;

use super::super::read::{given, is_true, items, text};
use super::paths::simple;
use crate::field::{FieldErrors, Path};
use crate::jsonpath::JsonPath;

const MAX_SELECTABLE: usize = 8;
const SIMPLE: &str = "must be a simple json path starting with .";

pub fn deprecation(version: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let warning = &version["deprecationWarning"];
    if !is_true(&version["deprecated"]) {
        return errors.invalid(path, warning.clone(), "can only be set for deprecated versions");
    }
    let text = text(warning);
    if text.is_empty() {
        errors.invalid(path, text, "must not be an empty string");
    } else if text.len() > 256 {
        errors.invalid(path, text, "must be <= 256 characters long");
    } else if text.trim() != text {
        errors.invalid(path, text, "must not have leading or trailing whitespace");
    } else if text.chars().any(char::is_control) {
        errors.invalid(
            path,
            text,
            "must only contain printable UTF-8 characters; non-printable characters found",
        );
    }
}

pub fn columns(columns: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    const TYPES: &str = "must be one of boolean,date,integer,number,string";
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (index, column) in items(columns).iter().enumerate() {
        let path = path.index(index);
        if text(&column["name"]).is_empty() {
            errors.required(&path.child("name"), "");
        }
        match text(&column["type"]) {
            "" => errors.required(&path.child("type"), TYPES),
            "boolean" | "date" | "integer" | "number" | "string" => {}
            other => errors.invalid(&path.child("type"), other, TYPES),
        }
        let format = text(&column["format"]);
        if !format.is_empty() && !FORMATS.contains(&format) {
            errors.invalid(&path.child("format"), format, format!("must be one of {}", FORMATS.join(",")));
        }
        match text(&column["jsonPath"]) {
            "" => errors.required(&path.child("JSONPath"), ""),
            json_path => {
                if !json_path.starts_with('.') {
                    errors.invalid(&path.child("JSONPath"), json_path, SIMPLE);
                } else if let Err(error) = JsonPath::parse(json_path) {
                    errors.invalid(
                        &path.child("JSONPath"),
                        json_path,
                        format!("is an invalid path: {error}"),
                    );
                }
            }
        }
    }
}

pub fn subresources(subresources: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let scale = &subresources["scale"];
    if !given(scale) {
        return;
    }
    let path = path.child("scale");
    let under = |field: &str, roots: &[&str], required: bool, problem: &str, errors: &mut FieldErrors| {
        let value = text(&scale[field]);
        let path = path.child(field);
        match (value.is_empty(), required) {
            (true, true) => errors.required(&path, ""),
            (true, false) => {}
            (false, _) => {
                let names = simple(value);
                let good = names.is_some_and(|names| {
                    names.len() > 1 && names.first().is_some_and(|name| roots.contains(name))
                });
                if !value.starts_with('.') {
                    errors.invalid(&path, value, SIMPLE);
                } else if !good {
                    errors.invalid(&path, value, problem);
                }
            }
        }
    };
    under("specReplicasPath", &["spec"], true, "should be a json path under .spec", errors);
    under("statusReplicasPath", &["status"], true, "should be a json path under .status", errors);
    let either = "should be a json path under either .spec or .status";
    under("labelSelectorPath", &["spec", "status"], false, either, errors);
}

pub fn selectable_fields(version: &Value, path: &Path<'_>, errors: &mut FieldErrors) {
    let fields = items(&version["selectableFields"]);
    if fields.len() > MAX_SELECTABLE {
        errors.too_many(path, fields.len(), MAX_SELECTABLE);
    }
    let mut seen = std::collections::HashSet::new();
    for (index, field) in fields.iter().enumerate() {
        let path = path.index(index);
        let path = path.child("jsonPath");
        let json_path = text(&field["jsonPath"]);
        if json_path.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let Some(names) = simple(json_path) else {
            let why = match json_path.chars().next() {
                Some(c) if c != '.' => format!("expected [ or . but got: {c}"),
                _ if json_path.contains('[') => "array notation is not allowed".to_owned(),
                _ => "must be a simple path of field names".to_owned(),
            };
            errors.invalid(&path, json_path, format!("is an invalid path: {why}"));
            continue;
        };
        {
            match leaf(&version["schema"]["openAPIV3Schema"], &names) {
                None => errors.invalid(&path, json_path, "is an invalid path: does not refer to a valid field"),
                Some("string" | "boolean" | "integer") => {}
                Some(_) => errors.invalid(
                    &path,
                    json_path,
                    "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                ),
            }
        }
        if !seen.insert(json_path) {
            errors.duplicate(&path, json_path);
        }
    }
}

/// The type of the field at the end of the path.
fn leaf<'a>(schema: &'a Value, names: &[&str]) -> Option<&'a str> {
    let mut schema = schema;
    for name in names {
        schema = schema.get("properties")?.get(*name)?;
    }
    Some(text(&schema["type"]))
}
