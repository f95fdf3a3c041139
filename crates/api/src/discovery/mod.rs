//! The documents by which clients learn what is served: `/api`, `/apis` and below, and the aggregated form of both.

use serde_json::{Map, Value, json};

use crate::gvk::{GroupVersion, GroupVersionKind};
use crate::registry::{Group, Registry, Resource, Subresource};

/// `/api`: the versions of the core group. `address` (host:port) is where clients reach this server.
pub fn api_versions(registry: &Registry, address: &str) -> Value {
    let core = registry.groups().iter().find(|group| group.name.is_empty());
    json!({
        "kind": "APIVersions",
        "versions": core.map(|group| group.versions.clone()).unwrap_or_default(),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

/// `/apis`: all groups but the core one.
pub fn api_group_list(registry: &Registry) -> Value {
    let groups: Vec<Value> = named_groups(registry).map(|group| group_entry(group).into()).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub fn api_group(registry: &Registry, name: &str) -> Option<Value> {
    let group = named_groups(registry).find(|group| group.name == name)?;
    let mut entry = group_entry(group);
    entry.insert("kind".to_owned(), "APIGroup".into());
    entry.insert("apiVersion".to_owned(), "v1".into());
    Some(entry.into())
}

/// `/api/v1` and `/apis/<group>/<version>`: the resources of a version, each followed by its subresources.
pub fn api_resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    registry.has_group_version(group, version).then(|| {
        let resources: Vec<Value> = of_version(registry, group, version)
            .flat_map(|resource| {
                let below = resource.subresources.iter().map(|sub| subresource_entry(resource, sub));
                std::iter::once(resource_entry(resource)).chain(below)
            })
            .collect();
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": GroupVersion::new(group, version).to_string(),
            "resources": resources,
        })
    })
}

/// Which of the two roots an aggregated document describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// `/api`
    Core,
    /// `/apis`
    Groups,
}

/// `/api` or `/apis` for clients that accept `apidiscovery.k8s.io`: everything below the root in one answer.
/// `version` is that of `apidiscovery.k8s.io` which the client asked for, `v2` or `v2beta1`; they look the same.
/// `stale` tells of which group versions no more is known than how they once were.
pub fn aggregated(
    registry: &Registry,
    root: Root,
    version: &str,
    stale: &dyn Fn(&str, &str) -> bool,
) -> Value {
    let items: Vec<Value> = registry
        .groups()
        .iter()
        .filter(|group| group.name.is_empty() == (root == Root::Core))
        .map(|group| {
            let freshness = |version: &str| if stale(&group.name, version) { "Stale" } else { "Current" };
            let versions: Vec<Value> = group
                .versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> =
                        of_version(registry, &group.name, version).map(aggregated_resource).collect();
                    json!({"version": version, "resources": resources, "freshness": freshness(version)})
                })
                .collect();
            let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn named_groups(registry: &Registry) -> impl Iterator<Item = &Group> {
    registry.groups().iter().filter(|group| !group.name.is_empty())
}

fn of_version<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Resource> {
    let here = move |resource: &&Resource| resource.gvk.group == group && resource.gvk.version == version;
    registry.iter().map(AsRef::as_ref).filter(here)
}

fn group_entry(group: &Group) -> Map<String, Value> {
    let versions: Vec<Value> = group
        .versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{}/{version}", group.name), "version": version}))
        .collect();
    let mut entry = Map::new();
    entry.insert("name".to_owned(), group.name.as_str().into());
    entry.insert("preferredVersion".to_owned(), versions.first().cloned().unwrap_or_default());
    entry.insert("versions".to_owned(), versions.into());
    entry
}

fn resource_entry(resource: &Resource) -> Value {
    let mut entry = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.gvk.kind,
        "verbs": resource.verbs,
    });
    add_names(&mut entry, resource);
    entry
}

/// Short names and categories, which are left out where there are none.
fn add_names(entry: &mut Value, resource: &Resource) {
    for (key, names) in [("shortNames", &resource.short_names), ("categories", &resource.categories)] {
        if !names.is_empty() {
            entry[key] = names.as_slice().into();
        }
    }
}

fn subresource_entry(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = json!({
        "name": format!("{}/{}", resource.plural, sub.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": sub.gvk.kind,
        "verbs": sub.verbs,
    });
    // Only said where it differs from the list's own.
    if sub.gvk.group_version() != resource.group_version() {
        entry["group"] = sub.gvk.group.as_str().into();
        entry["version"] = sub.gvk.version.as_str().into();
    }
    entry
}

fn aggregated_resource(resource: &Resource) -> Value {
    let mut entry = json!({
        "resource": resource.plural,
        "responseKind": response_kind(&resource.gvk),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    add_names(&mut entry, resource);
    if !resource.subresources.is_empty() {
        let below = |sub: &Subresource| json!({"subresource": sub.name, "responseKind": response_kind(&sub.gvk), "verbs": sub.verbs});
        entry["subresources"] = resource.subresources.iter().map(below).collect();
    }
    entry
}

fn response_kind(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(list: &'a Value, name: &str) -> &'a Value {
        let found = list["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    }

    #[test]
    fn legacy_lists_resources_and_subresources() {
        let list = api_resource_list(&Registry::builtin(), "", "v1").unwrap();
        assert_eq!(list["groupVersion"], "v1");
        assert_eq!(
            *entry(&list, "pods"),
            json!({
                "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "shortNames": ["po"], "categories": ["all"],
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            })
        );
        assert_eq!(
            *entry(&list, "pods/eviction"),
            json!({
                "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy", "version": "v1",
                "kind": "Eviction", "verbs": ["create"],
            })
        );
        assert_eq!(entry(&list, "pods/status").get("group"), None);
        assert_eq!(api_resource_list(&Registry::builtin(), "apps", "v2"), None);
    }

    #[test]
    fn groups_name_the_preferred_version_first() {
        let group = api_group(&Registry::builtin(), "autoscaling").unwrap();
        assert_eq!(group["preferredVersion"], json!({"groupVersion": "autoscaling/v2", "version": "v2"}));
        assert_eq!(group["versions"].as_array().unwrap().len(), 2);
        assert_eq!(api_group(&Registry::builtin(), ""), None);
        let list = api_group_list(&Registry::builtin());
        assert!(list["groups"].as_array().unwrap().iter().all(|group| group["name"] != ""));
    }

    #[test]
    fn both_forms_of_discovery_say_the_same() {
        let registry = Registry::builtin();
        for root in [Root::Core, Root::Groups] {
            let document = aggregated(&registry, root, "v2", &|_, _| false);
            for group in document["items"].as_array().unwrap() {
                let name = group["metadata"]["name"].as_str().unwrap_or_default();
                for version in group["versions"].as_array().unwrap() {
                    let legacy =
                        api_resource_list(&registry, name, version["version"].as_str().unwrap()).unwrap();
                    let mut names = Vec::new();
                    for resource in version["resources"].as_array().unwrap() {
                        let plural = resource["resource"].as_str().unwrap();
                        names.push(plural.to_owned());
                        for sub in resource["subresources"].as_array().into_iter().flatten() {
                            names.push(format!("{plural}/{}", sub["subresource"].as_str().unwrap()));
                        }
                    }
                    let legacy: Vec<_> = legacy["resources"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|entry| entry["name"].as_str().unwrap().to_owned())
                        .collect();
                    assert_eq!(names, legacy);
                }
            }
        }
    }

    #[test]
    fn every_resource_has_a_schema() {
        for resource in Registry::builtin().iter() {
            assert!(resource.schema.is_some(), "{}", resource.gvk);
        }
    }
}
