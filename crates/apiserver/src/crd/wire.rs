//! The parts of a stored definition that are always needed. Schemas are left as the text that they are.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;

/// A digest of the specification as it is stored.
pub fn specification(stored: &[u8]) -> Result<u64, serde_json::Error> {
    #[derive(Deserialize)]
    struct Text<'a> {
        #[serde(borrow)]
        spec: &'a RawValue,
    }
    let text: Text<'_> = serde_json::from_slice(stored)?;
    let mut hasher = DefaultHasher::new();
    text.spec.get().hash(&mut hasher);
    Ok(hasher.finish())
}

#[derive(Deserialize)]
pub struct Crd<'a> {
    pub metadata: Metadata,
    #[serde(borrow)]
    pub spec: Spec<'a>,
    #[serde(default)]
    pub status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    pub uid: String,
    pub deletion_timestamp: Option<String>,
    pub finalizers: Vec<String>,
    pub annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
pub struct Spec<'a> {
    #[serde(default)]
    pub group: String,
    #[serde(default)]
    pub names: Names,
    #[serde(default)]
    pub scope: String,
    #[serde(borrow, default)]
    pub versions: Vec<Version<'a>>,
    #[serde(default)]
    pub conversion: Conversion,
}

#[derive(Clone, Debug, Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Names {
    pub plural: String,
    pub singular: String,
    pub kind: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Conversion {
    pub strategy: String,
    pub webhook: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Version<'a> {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub served: bool,
    #[serde(default)]
    pub storage: bool,
    #[serde(default)]
    pub deprecated: bool,
    #[serde(default)]
    pub deprecation_warning: Option<String>,
    #[serde(borrow, default)]
    pub schema: Option<Schema<'a>>,
    #[serde(default)]
    pub subresources: Subresources,
    #[serde(default)]
    pub selectable_fields: Vec<SelectableField>,
    #[serde(default)]
    pub additional_printer_columns: serde_json::Value,
}

#[derive(Deserialize)]
pub struct Schema<'a> {
    #[serde(borrow, default, rename = "openAPIV3Schema")]
    pub openapi: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Subresources {
    pub status: Option<serde_json::Value>,
    pub scale: Option<Scale>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Scale {
    pub spec_replicas_path: String,
    pub status_replicas_path: String,
    pub label_selector_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelectableField {
    #[serde(default)]
    pub json_path: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    pub accepted_names: Option<Names>,
    pub conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
}
