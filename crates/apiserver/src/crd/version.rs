//! One version of a custom resource.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use api::registry::CustomSchema;
use api::schema::Schema;
use api::structural::{Structural, default, list_type, metadata};
use api::table::Columns;
use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::rules::Rules;
use super::wire;
use crate::cache::object::Object;

/// A version, with its schema made when it is first needed: hundreds of definitions with schemas of hundreds of
/// kilobytes may be there of which few are used.
pub struct Version {
    pub name: String,
    pub served: bool,
    /// What users of a deprecated version are told.
    pub deprecation: Option<String>,
    /// Whether the status is a subresource.
    pub status: bool,
    pub scale: Option<Scale>,
    /// `spec.color`
    pub selectable: Vec<String>,
    digest: u64,
    columns: Value,
    /// The stored definition. Its bytes are the cache's.
    source: ArcSwap<Object>,
    compiled: OnceLock<Compiled>,
}

/// Where the numbers of the scale subresource are: names of fields, from the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub replicas: Vec<String>,
    pub current: Vec<String>,
    pub selector: Option<Vec<String>>,
}

/// What is made of a version's schema.
pub struct Compiled {
    pub structural: Structural,
    /// The same as patches and field owners see it.
    pub schema: Schema,
    pub columns: Columns,
    pub rules: Rules,
    pub has_lists: bool,
    pub has_embedded: bool,
    pub has_defaults: bool,
}

impl Version {
    pub(super) fn new(
        object: &Arc<Object>,
        specification: u64,
        crd: &wire::Crd<'_>,
        version: &wire::Version<'_>,
    ) -> Self {
        let mut hasher = DefaultHasher::new();
        (&crd.metadata.uid, specification, &version.name).hash(&mut hasher);
        let path = |path: &str| path.trim_start_matches('.').split('.').map(str::to_owned).collect();
        let api_version = format!("{}/{}", crd.spec.group, version.name);
        let deprecation = version.deprecated.then(|| {
            let usual = || format!("{api_version} {} is deprecated", crd.spec.names.kind);
            version.deprecation_warning.clone().unwrap_or_else(usual)
        });
        Self {
            name: version.name.clone(),
            served: version.served,
            deprecation,
            status: version.subresources.status.is_some(),
            scale: version.subresources.scale.as_ref().map(|scale| Scale {
                replicas: path(&scale.spec_replicas_path),
                current: path(&scale.status_replicas_path),
                selector: scale.label_selector_path.as_deref().filter(|path| !path.is_empty()).map(path),
            }),
            selectable: version
                .selectable_fields
                .iter()
                .map(|field| field.json_path.trim_start_matches('.').to_owned())
                .collect(),
            digest: hasher.finish(),
            columns: version.additional_printer_columns.clone(),
            source: ArcSwap::from(object.clone()),
            compiled: OnceLock::new(),
        }
    }

    /// The definition has another revision, with the same specification.
    pub(super) fn follow(&self, object: &Arc<Object>) {
        self.source.store(object.clone());
    }

    /// The schema as its author wrote it.
    fn written(&self) -> Value {
        let source = self.source.load();
        let read = || -> Option<Value> {
            let crd: wire::Crd<'_> = serde_json::from_slice(source.bytes()).ok()?;
            let version = crd.spec.versions.into_iter().find(|version| version.name == self.name)?;
            serde_json::from_str(version.schema?.openapi?.get()).ok()
        };
        read().unwrap_or_else(|| json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
    }

    pub fn compiled(&self) -> &Compiled {
        self.compiled.get_or_init(|| {
            let written = self.written();
            let structural = Structural::parse(&written);
            // One that cannot be read was accepted by another server; its objects are kept whole.
            let schema = Schema::of_custom_resource(&written)
                .unwrap_or_else(|_| Schema::from(api::schema::Shape::Any(api::schema::Opaque::Json)));
            Compiled {
                has_lists: list_type::has_lists(&structural),
                has_embedded: metadata::has_embedded(&structural),
                has_defaults: default::has_defaults(&structural),
                columns: Columns::of_version(&json!({"additionalPrinterColumns": self.columns})),
                rules: Rules::compile(&written),
                structural,
                schema,
            }
        })
    }
}

impl CustomSchema for Version {
    fn schema(&self) -> &Schema {
        &self.compiled().schema
    }

    fn published(&self) -> Value {
        self.written()
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version").field("name", &self.name).finish_non_exhaustive()
    }
}
