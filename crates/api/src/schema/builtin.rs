//! The definitions of Kubernetes v1.36, from a table made out of published crates.
//!
//! `data/definitions.json.gz` holds the types and is read on first use; `data/descriptions.json.gz` holds the prose
//! for `kubectl explain`, in the same order, and is inflated only while an OpenAPI document is made. Both are written by
//!
//! ```sh
//! cd xtask && cargo run --release -- schemas
//! ```

use std::io::BufReader;
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Schema, SchemaRef, Shape};
use crate::gvk::GroupVersionKind;

static DEFINITIONS_GZ: &[u8] = include_bytes!("../../data/definitions.json.gz");
static DESCRIPTIONS_GZ: &[u8] = include_bytes!("../../data/descriptions.json.gz");

/// The prose of one definition: its own, then one for each of its fields, in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    pub text: String,
    pub fields: Vec<String>,
}

/// One entry of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The published name, `io.k8s.api.core.v1.Pod`.
    pub name: String,
    pub schema: Schema,
}

/// All built-in definitions, sorted by name.
pub fn definitions() -> &'static [Definition] {
    static TABLE: OnceLock<Vec<Definition>> = OnceLock::new();
    TABLE.get_or_init(|| read(DEFINITIONS_GZ))
}

/// The definition with that index. Indices come from the table itself, so that they are always in it; anything else
/// is treated as an untyped value.
pub(crate) fn definition(index: u16) -> &'static Schema {
    static UNTYPED: Schema = Schema { shape: Shape::Any(super::Opaque::Json), nullable: true };
    definitions().get(usize::from(index)).map_or(&UNTYPED, |definition| &definition.schema)
}

/// The definition of that published name.
pub fn named(name: &str) -> Option<SchemaRef> {
    let index = definitions().binary_search_by(|definition| definition.name.as_str().cmp(name)).ok()?;
    u16::try_from(index).ok().map(SchemaRef::Builtin)
}

/// Inflates the prose, one entry for each definition. Costs a few milliseconds and a few megabytes while it is held.
pub fn descriptions() -> Vec<Description> {
    read(DESCRIPTIONS_GZ)
}

/// Reads one of the tables that are part of this binary: a damaged one is a broken build, which the tests notice.
fn read<T: DeserializeOwned>(compressed: &[u8]) -> T {
    serde_json::from_reader(BufReader::new(GzDecoder::new(compressed)))
        .expect("a table made by `xtask schemas` is valid")
}

/// The published name of the definition of a built-in type. `None` for groups that are not built in.
pub fn name_of(gvk: &GroupVersionKind) -> Option<String> {
    let package = match gvk.group.as_str() {
        "" => "io.k8s.api.core",
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration",
        "rbac.authorization.k8s.io" => "io.k8s.api.rbac",
        "flowcontrol.apiserver.k8s.io" => "io.k8s.api.flowcontrol",
        "internal.apiserver.k8s.io" => "io.k8s.api.apiserverinternal",
        group => {
            return builtin_group(group)
                .map(|name| format!("io.k8s.api.{name}.{}.{}", gvk.version, gvk.kind));
        }
    };
    Some(format!("{package}.{}.{}", gvk.version, gvk.kind))
}

/// `networking` for `networking.k8s.io`; groups without a dot are `apps`, `autoscaling`, `batch` and `policy`.
fn builtin_group(group: &str) -> Option<&str> {
    match group.strip_suffix(".k8s.io") {
        Some(name) if !name.contains('.') => Some(name),
        Some(_) => None,
        None => Some(group).filter(|group| !group.contains('.')),
    }
}

/// The published name of the definition with that index; `None` for the nameless types behind the published ones.
pub fn name(index: u16) -> Option<&'static str> {
    let definition = definitions().get(usize::from(index))?;
    Some(definition.name.as_str()).filter(|name| !name.starts_with('~'))
}
