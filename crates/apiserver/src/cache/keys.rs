//! Where objects are kept in the store: laid out as upstream's API server does below its `--etcd-prefix`, so that its
//! tools and its people find what they look for.
//!
//! A built-in resource is kept under its plural (some under an older name), one of a CustomResourceDefinition under its
//! group and plural; so are the two that upstream's other servers own.

use std::sync::LazyLock;

use ahash::AHashMap;
use api::registry::Registry;

/// Names that differ from the plural.
const RENAMED: &[((&str, &str), &str)] = &[
    (("", "replicationcontrollers"), "controllers"),
    (("", "endpoints"), "services/endpoints"),
    (("", "nodes"), "minions"),
    (("", "services"), "services/specs"),
    (("networking.k8s.io", "ingresses"), "ingress"),
];

/// Built-in, yet kept under their group.
const UNDER_GROUP: &[&str] = &["apiextensions.k8s.io", "apiregistration.k8s.io"];

/// Collections that are stored as those of another group.
const ALIASES: &[(&str, &str)] = &[("events.k8s.io", "events")];

struct Places {
    by_resource: AHashMap<&'static str, AHashMap<&'static str, &'static str>>,
    by_place: AHashMap<&'static str, (&'static str, &'static str)>,
}

/// Built-in resources; they are as many for as long as the process lives, so their names may be.
static PLACES: LazyLock<Places> = LazyLock::new(|| {
    let mut places = Places { by_resource: AHashMap::new(), by_place: AHashMap::new() };
    let keep = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
    for resource in Registry::builtin().iter() {
        let name = (resource.gvk.group.as_str(), resource.plural.as_str());
        if UNDER_GROUP.contains(&name.0) || ALIASES.contains(&name) {
            continue;
        }
        let of_group = places.by_resource.entry(keep(name.0)).or_default();
        if of_group.contains_key(name.1) {
            continue;
        }
        let renamed = RENAMED.iter().find(|(renamed, _)| *renamed == name).map(|(_, place)| *place);
        let (group, plural) = (keep(name.0), keep(name.1));
        let place = renamed.unwrap_or(plural);
        of_group.insert(plural, place);
        places.by_place.insert(place, (group, plural));
    }
    places
});

/// The key of an object in the store.
pub fn store_key(group: &str, plural: &str, key: &str) -> String {
    match PLACES.by_resource.get(group).and_then(|of_group| of_group.get(plural)) {
        Some(place) => ["/", place, "/", key].concat(),
        None => ["/", group, "/", plural, "/", key].concat(),
    }
}

/// Group, plural and the object's own key, of a key in the store.
pub fn split_key(stored: &[u8]) -> Option<(&str, &str, &str)> {
    let key = std::str::from_utf8(stored).ok()?.strip_prefix('/')?;
    let (first, rest) = key.split_once('/')?;
    if let Some((group, plural)) = PLACES.by_place.get(first) {
        return Some((group, plural, rest));
    }
    let (second, rest) = rest.split_once('/')?;
    // The groups of custom resources are domains.
    if first.contains('.') {
        return Some((first, second, rest));
    }
    let place = key.get(..first.len() + 1 + second.len())?;
    PLACES.by_place.get(place).map(|(group, plural)| (*group, *plural, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_upstream_keeps_them() {
        #[track_caller]
        fn check(group: &str, plural: &str, key: &str, stored: &str) {
            assert_eq!(store_key(group, plural, key), stored);
            assert_eq!(split_key(stored.as_bytes()), Some((group, plural, key)));
        }
        check("", "pods", "default/a", "/pods/default/a");
        check("", "nodes", "n1", "/minions/n1");
        check("", "services", "default/a", "/services/specs/default/a");
        check("", "endpoints", "default/a", "/services/endpoints/default/a");
        check("", "replicationcontrollers", "default/a", "/controllers/default/a");
        check("", "events", "default/a", "/events/default/a");
        check("apps", "deployments", "default/a", "/deployments/default/a");
        check("networking.k8s.io", "ingresses", "default/a", "/ingress/default/a");
        check("rbac.authorization.k8s.io", "clusterroles", "system:node", "/clusterroles/system:node");
        check(
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "a.b.c",
            "/apiextensions.k8s.io/customresourcedefinitions/a.b.c",
        );
        check(
            "apiregistration.k8s.io",
            "apiservices",
            "v1.apps",
            "/apiregistration.k8s.io/apiservices/v1.apps",
        );
        check("example.com", "pods", "default/a", "/example.com/pods/default/a");
        for other in ["pods/a", "/", "/pods", "/nothing/a", "/masterleases/10.0.0.1", "/services/other/a"] {
            assert_eq!(split_key(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn no_two_resources_share_a_place() {
        let registry = Registry::builtin();
        for resource in registry.iter().filter(|resource| resource.supports("list")) {
            let name = (resource.gvk.group.as_str(), resource.plural.as_str());
            if ALIASES.contains(&name) {
                continue;
            }
            let stored = store_key(name.0, name.1, "k");
            assert_eq!(split_key(stored.as_bytes()), Some((name.0, name.1, "k")), "{name:?}");
        }
    }
}
