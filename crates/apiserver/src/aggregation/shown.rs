//! What discovery and OpenAPI show of other servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::gvk::GroupVersionKind;
use api::registry::{Group, Registry, Resource, Subresource};
use serde_json::Value;

use super::Remote;
use super::order::{self, Rank};
use crate::admission::objects::items;

/// All of it, at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    pub versions: Vec<Foreign>,
    /// Of each APIService, by group and version.
    pub ranks: BTreeMap<(String, String), Rank>,
}

/// A group version of another server.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    pub group: String,
    pub version: String,
    /// Whether it is known that this is how things are now.
    pub current: bool,
    /// `resources` of its discovery document, as it last was.
    pub listing: Arc<Value>,
    /// Where its OpenAPI document is, if it has one.
    pub openapi_v3: Option<String>,
    /// Its OpenAPI document of version 2.
    pub openapi_v2: Option<Arc<Value>>,
}

impl Foreign {
    pub fn of(remote: &Remote) -> Self {
        let found = remote.found.lock();
        Self {
            group: remote.group.clone(),
            version: remote.version.clone(),
            current: found.available,
            listing: found.listing.clone(),
            openapi_v3: found.documents.v3.clone(),
            openapi_v2: found.documents.v2.clone(),
        }
    }

    /// Its resources as discovery shows them.
    fn resources(&self) -> Vec<Resource> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let texts =
            |value: &Value| items(value).filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
        let or =
            |value: &Value, own: &str| value.as_str().filter(|t| !t.is_empty()).unwrap_or(own).to_owned();
        let gvk = |entry: &Value| {
            let (group, version) = (or(&entry["group"], &self.group), or(&entry["version"], &self.version));
            GroupVersionKind::new(group, version, text(&entry["kind"]))
        };
        let mut resources: Vec<Resource> = Vec::new();
        for entry in items(&self.listing) {
            let name = text(&entry["name"]);
            match name.split_once('/') {
                None => resources.push(Resource {
                    gvk: GroupVersionKind::new(&self.group, &self.version, text(&entry["kind"])),
                    singular: text(&entry["singularName"]),
                    list_kind: format!("{}List", text(&entry["kind"])),
                    short_names: texts(&entry["shortNames"]),
                    categories: texts(&entry["categories"]),
                    namespaced: entry["namespaced"] == true,
                    verbs: texts(&entry["verbs"]),
                    subresources: Vec::new(),
                    schema: None,
                    custom: None,
                    selectable_fields: Vec::new(),
                    plural: name,
                }),
                Some((parent, sub)) => {
                    let sub =
                        Subresource { name: sub.to_owned(), gvk: gvk(entry), verbs: texts(&entry["verbs"]) };
                    if let Some(parent) = resources.iter_mut().find(|resource| resource.plural == parent) {
                        parent.subresources.push(sub);
                    }
                }
            }
        }
        resources
    }
}

impl Shown {
    /// What this server serves, with what others do, in the order that APIServices demand.
    pub fn with(&self, local: &Registry) -> Registry {
        let all = match self.versions.as_slice() {
            [] => local.clone(),
            versions => local.with(versions.iter().flat_map(Foreign::resources)),
        };
        let groups = self.groups(local);
        if groups == all.groups() { all } else { all.arranged(groups) }
    }

    fn groups(&self, local: &Registry) -> Vec<Group> {
        let own = local.groups().iter().flat_map(|group| {
            group.versions.iter().map(move |version| (group.name.clone(), version.clone()))
        });
        let foreign = self.versions.iter().map(|foreign| (foreign.group.clone(), foreign.version.clone()));
        order::arranged(own.chain(foreign).map(|(group, version)| {
            let rank = Rank::local(&group, &version);
            let key = (group, version);
            let rank = self.ranks.get(&key).copied().unwrap_or(rank);
            (key.0, key.1, rank)
        }))
    }

    pub fn find(&self, group: &str, version: &str) -> Option<&Foreign> {
        self.versions.iter().find(|foreign| foreign.group == group && foreign.version == version)
    }

    /// Whether what is shown of a group version may be out of date.
    pub fn is_stale(&self, group: &str, version: &str) -> bool {
        self.find(group, version).is_some_and(|foreign| !foreign.current)
    }
}
