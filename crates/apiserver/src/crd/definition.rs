//! What one CustomResourceDefinition defines.

use std::cmp::Reverse;
use std::sync::Arc;

use api::gvk::GroupVersionKind;
use api::registry::{Resource, Subresource};
use serde_json::Value;

use super::version::Version;
use super::wire;
use crate::cache::object::Object;
use crate::outbound::Destination;

/// A definition at one revision.
pub struct Definition {
    pub name: String,
    pub uid: String,
    /// Changes with the specification, and with nothing else.
    pub specification: u64,
    pub group: String,
    /// As asked for.
    pub requested: wire::Names,
    /// Those that no other definition of the group has.
    pub accepted: wire::Names,
    pub conditions: Vec<wire::Condition>,
    pub approval: Option<String>,
    pub namespaced: bool,
    pub terminating: bool,
    /// Whether its objects have still to be removed.
    pub cleanup: bool,
    pub conversion: Conversion,
    /// The version that objects are stored in.
    pub storage: String,
    /// The newest first, as discovery shows them.
    pub versions: Vec<Arc<Version>>,
    /// Whether the stored bytes of an object in a version are what that version shows: no other version has other
    /// fields.
    pub exact: bool,
    /// The fields of all versions that can be selected.
    pub selectable: Arc<[String]>,
    /// The stored definition.
    pub object: Arc<Object>,
}

/// How objects get from one version to another.
pub enum Conversion {
    /// By their `apiVersion` alone.
    None,
    Webhook {
        to: Destination,
        review_versions: Vec<String>,
    },
    /// A webhook that cannot be called, and why.
    Broken(String),
}

pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Of a definition that is going.
const LAST_VERBS: [&str; 5] = ["delete", "deletecollection", "get", "list", "watch"];

impl Definition {
    /// Reads a stored definition. What `before` has made of the same specification is kept.
    pub fn read(object: &Arc<Object>, before: Option<&Definition>) -> Result<Self, serde_json::Error> {
        let crd: wire::Crd<'_> = serde_json::from_slice(object.bytes())?;
        let specification = wire::specification(object.bytes())?;
        let same =
            before.filter(|before| before.uid == crd.metadata.uid && before.specification == specification);
        let storage = crd.spec.versions.iter().find(|version| version.storage);
        let storage = storage.map(|version| version.name.clone()).unwrap_or_default();
        let schema = |version: &wire::Version<'_>| {
            version.schema.as_ref().and_then(|schema| schema.openapi).map(|text| text.get().to_owned())
        };
        let first = crd.spec.versions.first().and_then(schema);
        let conversion = conversion(&crd.spec.conversion);
        let exact = matches!(conversion, Conversion::Webhook { .. })
            || crd.spec.versions.iter().all(|version| schema(version) == first);
        let mut versions: Vec<Arc<Version>> = crd
            .spec
            .versions
            .iter()
            .map(|version| match same.and_then(|same| same.version(&version.name)) {
                Some(known) => {
                    known.follow(object);
                    known.clone()
                }
                None => Arc::new(Version::new(object, specification, &crd, version)),
            })
            .collect();
        versions.sort_by_key(|version| Reverse(priority(&version.name)));
        let mut selectable: Vec<String> = Vec::new();
        for field in versions.iter().flat_map(|version| &version.selectable) {
            if !selectable.contains(field) {
                selectable.push(field.clone());
            }
        }
        let wire::Metadata { name, uid, deletion_timestamp, finalizers, annotations } = crd.metadata;
        Ok(Self {
            name,
            uid,
            specification,
            approval: annotations.get(api::validation::crd::APPROVED).cloned(),
            group: crd.spec.group,
            requested: crd.spec.names,
            accepted: crd.status.accepted_names.unwrap_or_default(),
            conditions: crd.status.conditions.unwrap_or_default(),
            namespaced: crd.spec.scope == "Namespaced",
            terminating: deletion_timestamp.is_some(),
            cleanup: deletion_timestamp.is_some() && finalizers.iter().any(|finalizer| finalizer == CLEANUP),
            conversion,
            storage,
            versions,
            exact,
            selectable: selectable.into(),
            object: object.clone(),
        })
    }

    pub fn version(&self, name: &str) -> Option<&Arc<Version>> {
        self.versions.iter().find(|version| version.name == name)
    }

    pub fn is_established(&self) -> bool {
        self.conditions.iter().any(|condition| condition.kind == "Established" && condition.status == "True")
    }

    /// The type of stored objects.
    pub fn stored_gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(&self.group, &self.storage, &self.accepted.kind)
    }

    /// The resource that a version serves.
    pub fn resource(&self, version: &Arc<Version>) -> Resource {
        let names = &self.accepted;
        let gvk = GroupVersionKind::new(&self.group, &version.name, &names.kind);
        let verbs = if self.terminating { &LAST_VERBS[..] } else { &VERBS[..] };
        let below = |name: &str, gvk: GroupVersionKind| Subresource {
            name: name.to_owned(),
            gvk,
            verbs: ["get", "patch", "update"].map(str::to_owned).into(),
        };
        let scale = version
            .scale
            .as_ref()
            .map(|_| below("scale", GroupVersionKind::new("autoscaling", "v1", "Scale")));
        let status = version.status.then(|| below("status", gvk.clone()));
        let own = ["metadata.name", "metadata.namespace"].map(str::to_owned);
        Resource {
            plural: names.plural.clone(),
            singular: names.singular.clone(),
            list_kind: names.list_kind.clone(),
            short_names: names.short_names.clone(),
            categories: names.categories.clone(),
            namespaced: self.namespaced,
            verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
            subresources: status.into_iter().chain(scale).collect(),
            schema: None,
            custom: Some(version.clone()),
            selectable_fields: own.into_iter().chain(version.selectable.iter().cloned()).collect(),
            gvk,
        }
    }
}

fn conversion(conversion: &wire::Conversion) -> Conversion {
    if conversion.strategy != "Webhook" {
        return Conversion::None;
    }
    let webhook = &conversion.webhook;
    let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
    match Destination::of_client_config(&webhook["clientConfig"]) {
        Ok(to) => Conversion::Webhook {
            to,
            review_versions: versions.filter_map(Value::as_str).map(str::to_owned).collect(),
        },
        Err(error) => Conversion::Broken(error.to_string()),
    }
}

/// `v2` before `v1`, these before `v2beta1`, `v1beta2`, `v1alpha1`, and names that are no versions last.
pub fn priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let parsed = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(digits);
        let major: u64 = major.parse().ok()?;
        if rest.is_empty() {
            return Some((3, major, 0));
        }
        let (stage, minor) = match rest.strip_prefix("beta") {
            Some(minor) => (2, minor),
            None => (1, rest.strip_prefix("alpha")?),
        };
        Some((stage, major, minor.parse().ok()?))
    };
    let (stage, major, minor) = parsed().unwrap_or((0, 0, 0));
    let name = if stage == 0 { version.to_owned() } else { String::new() };
    (stage, major, minor, std::cmp::Reverse(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_order() {
        let mut versions =
            ["v1alpha1", "foo1", "v10", "v2", "v11beta2", "v3beta1", "v12alpha1", "v11alpha2", "foo10"];
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        assert_eq!(
            versions,
            ["v10", "v2", "v11beta2", "v3beta1", "v12alpha1", "v11alpha2", "v1alpha1", "foo1", "foo10"]
        );
    }
}
