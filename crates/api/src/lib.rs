//! IO-free Kubernetes API machinery: kinds, schemas, patches, defaults, validation, codecs, tables.
//!
//! Objects are [`serde_json::Value`]s. A built-in kind and a custom resource take the same path through this
//! crate: what differs between kinds is data (a [`registry::Resource`] and its [`schema::Schema`]) plus the small
//! per-kind files under [`defaults`], [`validation`] and [`table`]. Nothing here knows HTTP, storage or tokio.

pub mod codec;
pub mod defaults;
pub mod disabled;
pub mod discovery;
pub mod field;
#[doc(hidden)]
pub mod fuzz;
pub mod gvk;
pub mod jsonpath;
pub mod openapi;
pub mod patch;
pub mod pods;
pub mod quantity;
pub mod registry;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
pub mod sysctl;
pub mod table;
pub mod validation;
pub mod version;
pub mod warnings;
pub mod zpages;
