//! Which resources exist, under which names, with which verbs and subresources.
//!
//! The built-in ones are a table ([`builtin`]); custom and aggregated ones are added to a copy. A [`Registry`] never
//! changes: whoever serves it swaps it for a new one.

mod builtin;
pub mod docs;

use std::sync::{Arc, OnceLock};

use ahash::AHashMap;

use crate::gvk::{GroupVersion, GroupVersionKind, GroupVersionResource};
use crate::schema::{Schema, SchemaRef};

/// A collection of objects that the API serves.
#[derive(Clone, Debug)]
pub struct Resource {
    pub gvk: GroupVersionKind,
    /// What URLs say: `pods`.
    pub plural: String,
    pub singular: String,
    pub list_kind: String,
    pub short_names: Vec<String>,
    /// Groups of kinds for `kubectl get`, such as `all`.
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    pub subresources: Vec<Subresource>,
    /// What an object looks like. `None` where nothing is known of it.
    pub schema: Option<SchemaRef>,
    /// Where a custom resource has its schema from.
    pub custom: Option<Arc<dyn CustomSchema>>,
    /// Fields that `fieldSelector` may name, `metadata.name` and `metadata.namespace` included.
    pub selectable_fields: Vec<String>,
}

/// The schema of a custom resource, made when it is asked for: most are rarely used, and they are large.
pub trait CustomSchema: std::fmt::Debug + Send + Sync {
    fn schema(&self) -> &Schema;
    /// The OpenAPI schema as its author wrote it, descriptions included.
    fn published(&self) -> serde_json::Value;
    /// Changes with the schema.
    fn digest(&self) -> u64;
}

/// Something below an object: `status`, `scale`, `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    pub name: String,
    /// The type of its body.
    pub gvk: GroupVersionKind,
    pub verbs: Vec<String>,
}

impl Resource {
    pub fn group_version(&self) -> GroupVersion {
        self.gvk.group_version()
    }

    pub fn gvr(&self) -> GroupVersionResource {
        self.group_version().with_resource(&self.plural)
    }

    /// `pods`, `deployments.apps`: as errors name it.
    pub fn group_resource(&self) -> String {
        self.gvr().group_resource()
    }

    pub fn schema(&self) -> Option<&Schema> {
        self.schema.as_deref().or_else(|| Some(self.custom.as_ref()?.schema()))
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    pub fn supports(&self, verb: &str) -> bool {
        self.verbs.iter().any(|supported| supported == verb)
    }
}

impl Subresource {
    pub fn supports(&self, verb: &str) -> bool {
        self.verbs.iter().any(|supported| supported == verb)
    }

    /// What its body looks like, where it is a built-in type.
    pub fn schema(&self) -> Option<SchemaRef> {
        builtin::schema_of(&self.gvk)
    }
}

/// An API group as discovery shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// The preferred version first.
    pub versions: Vec<String>,
}

/// All resources of one moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// In the order in which discovery shows them.
    resources: Vec<Arc<Resource>>,
    /// group -> version -> plural -> index.
    by_name: AHashMap<String, AHashMap<String, AHashMap<String, usize>>>,
    by_kind: AHashMap<GroupVersionKind, usize>,
    groups: Vec<Group>,
}

impl Registry {
    /// What a default v1.36 server serves.
    pub fn builtin() -> Registry {
        static BUILTIN: OnceLock<Registry> = OnceLock::new();
        BUILTIN
            .get_or_init(|| Registry::new(builtin::resources().into_iter().map(Arc::new).collect()))
            .clone()
    }

    /// Resources in the order in which discovery shows them; the first version of a group is the preferred one.
    pub fn new(resources: Vec<Arc<Resource>>) -> Registry {
        let mut by_name: AHashMap<String, AHashMap<String, AHashMap<String, usize>>> = AHashMap::new();
        let mut by_kind = AHashMap::new();
        let mut groups: Vec<Group> = Vec::new();
        for (index, resource) in resources.iter().enumerate() {
            let GroupVersionKind { group, version, .. } = &resource.gvk;
            by_name
                .entry(group.clone())
                .or_default()
                .entry(version.clone())
                .or_default()
                .insert(resource.plural.clone(), index);
            by_kind.insert(resource.gvk.clone(), index);
            match groups.iter_mut().find(|known| known.name == *group) {
                None => groups.push(Group { name: group.clone(), versions: vec![version.clone()] }),
                Some(known) if known.versions.contains(version) => {}
                Some(known) => known.versions.push(version.clone()),
            }
        }
        Registry(Arc::new(Inner { resources, by_name, by_kind, groups }))
    }

    /// This registry with other resources behind its own. One of the same group, version and plural is replaced.
    pub fn with(&self, added: impl IntoIterator<Item = Resource>) -> Registry {
        let added: Vec<_> = added.into_iter().map(Arc::new).collect();
        let replaced = |old: &Arc<Resource>| added.iter().any(|new| new.gvr() == old.gvr());
        let mut all: Vec<_> = self.0.resources.iter().filter(|old| !replaced(old)).cloned().collect();
        all.extend(added.iter().cloned());
        Registry::new(all)
    }

    /// The same with its groups and their versions in another order, and with such that have no resources.
    pub fn arranged(&self, groups: Vec<Group>) -> Registry {
        let Inner { resources, by_name, by_kind, .. } = &*self.0;
        Registry(Arc::new(Inner {
            resources: resources.clone(),
            by_name: by_name.clone(),
            by_kind: by_kind.clone(),
            groups,
        }))
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let index = *self.0.by_name.get(group)?.get(version)?.get(plural)?;
        self.0.resources.get(index).cloned()
    }

    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<Arc<Resource>> {
        let index = *self.0.by_kind.get(gvk)?;
        self.0.resources.get(index).cloned()
    }

    /// In the order in which discovery shows them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.0.resources.iter()
    }

    /// The core group (with the empty name) first.
    pub fn groups(&self) -> &[Group] {
        &self.0.groups
    }

    pub fn has_group_version(&self, group: &str, version: &str) -> bool {
        self.0.by_name.get(group).is_some_and(|versions| versions.contains_key(version))
    }
}
