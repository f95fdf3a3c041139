//! The types of kinds: built in, or defined by users.

use std::sync::Arc;

use api::gvk::GroupVersionKind;
use api::registry::Registry;
use api::schema::builtin;
use expressions::types::{ObjectField, ObjectType};
use expressions::{Type, schema};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

pub struct Types {
    registry: Registry,
    definitions: Vec<Arc<CustomResourceDefinition>>,
}

impl Types {
    pub fn new(definitions: Vec<Arc<CustomResourceDefinition>>) -> Self {
        Self { registry: Registry::builtin(), definitions }
    }

    /// The kind that a resource is of.
    pub fn kind(&self, group: &str, version: &str, plural: &str) -> Option<GroupVersionKind> {
        if let Some(resource) = self.registry.resource(group, version, plural) {
            return Some(resource.gvk.clone());
        }
        let definition = self.definitions.iter().map(|definition| &definition.spec);
        let mut found = definition.filter(|spec| spec.group == group && spec.names.plural == plural);
        let spec = found.find(|spec| spec.versions.iter().any(|served| served.name == version))?;
        Some(GroupVersionKind::new(group, version, &spec.names.kind))
    }

    /// What objects of the kind look like.
    pub fn of(&self, kind: &GroupVersionKind) -> Option<Type> {
        if let Some(resource) = self.registry.kind(kind) {
            return Some(schema::builtin(resource.schema()));
        }
        let mut specs = self.definitions.iter().map(|definition| &definition.spec);
        let spec = specs.find(|spec| spec.group == kind.group && spec.names.kind == kind.kind)?;
        let version = spec.versions.iter().find(|version| version.name == kind.version)?;
        let openapi = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
        let openapi = serde_json::to_value(openapi).ok()?;
        Some(with_metadata(schema::declared(&openapi, true)))
    }
}

/// Rules of definitions see the name alone; policies see all metadata.
fn with_metadata(of: Type) -> Type {
    let Type::Object(object) = of else { return of };
    let metadata = builtin::named(METADATA);
    let metadata = schema::builtin(metadata.as_deref());
    let mut fields = object.fields.clone();
    fields.insert("metadata".to_owned(), ObjectField { property: "metadata".into(), value: metadata.into() });
    Type::Object(ObjectType { name: object.name.clone(), fields, constructible: false }.into())
}
