//! What this server serves: every resource of the registry with its cache and where it is stored.
//!
//! A catalog never changes; adding a custom resource swaps it for a new one ([`Catalog::of`] is cheap enough for that).

use std::sync::Arc;

use ahash::AHashMap;
use api::gvk::GroupVersionKind;
use api::registry::{Registry, Resource};

use crate::aggregation::shown::Shown;
use crate::cache::Caches;
use crate::cache::resource::ResourceCache;
use crate::crd::{Custom, Definition, Version, priority};
use crate::server::documents::Documents;
use crate::strategy::{self, Strategy};

/// One resource in one version.
pub struct Served {
    pub resource: Arc<Resource>,
    /// `pods`, `deployments.apps`: as errors name it.
    pub group_resource: String,
    /// `v1`, `apps/v1`.
    pub api_version: String,
    pub storage: Arc<Storage>,
    pub cache: Arc<ResourceCache>,
    pub strategy: &'static Strategy,
    /// Of a custom resource.
    pub custom: Option<Custom>,
}

impl Served {
    /// A version of a custom resource.
    pub fn custom(definition: &Arc<Definition>, version: &Arc<Version>, caches: &Caches) -> Self {
        Self::of_definition(definition, version, Arc::new(definition.resource(version)), caches)
    }

    fn of_definition(
        definition: &Arc<Definition>,
        version: &Arc<Version>,
        resource: Arc<Resource>,
        caches: &Caches,
    ) -> Self {
        let (group, plural) = (&definition.group, &definition.accepted.plural);
        Self {
            group_resource: resource.group_resource(),
            api_version: resource.gvk.api_version(),
            cache: caches.resource(group, plural),
            strategy: strategy::of(group, plural),
            storage: Arc::new(Storage {
                group: group.clone(),
                plural: plural.clone(),
                gvk: definition.stored_gvk(),
                selectable_fields: definition.selectable.clone(),
            }),
            custom: Some(Custom { definition: definition.clone(), version: version.clone() }),
            resource,
        }
    }
}

/// How a resource is kept, whatever version or group it is asked for in.
pub struct Storage {
    pub group: String,
    pub plural: String,
    /// The type of the stored objects.
    pub gvk: GroupVersionKind,
    pub selectable_fields: Arc<[String]>,
}

type ByName<T> = AHashMap<String, AHashMap<String, T>>;

/// All resources of one moment.
pub struct Catalog {
    /// What clients discover: what is served here, and what others serve.
    pub registry: Registry,
    /// What of that others serve.
    pub shown: Arc<Shown>,
    local: Registry,
    by_version: AHashMap<String, ByName<Arc<Served>>>,
    pub documents: Documents,
}

/// Group and plural.
type Names = (&'static str, &'static str);

/// Kinds that are one collection under two groups: the second is stored as the first.
const ALIASES: &[(Names, Names)] = &[(("events.k8s.io", "events"), ("", "events"))];

impl Catalog {
    pub fn of(registry: Registry, caches: &Caches) -> Self {
        let mut by_version: AHashMap<String, ByName<Arc<Served>>> = AHashMap::new();
        for resource in registry.iter() {
            let Some(storage) = storage(&registry, &resource.gvk.group, &resource.plural) else {
                continue;
            };
            let served = Served {
                group_resource: resource.group_resource(),
                api_version: resource.gvk.api_version(),
                cache: caches.resource(&storage.group, &storage.plural),
                strategy: strategy::of(&storage.group, &storage.plural),
                storage: Arc::new(storage),
                resource: resource.clone(),
                custom: None,
            };
            by_version
                .entry(resource.gvk.group.clone())
                .or_default()
                .entry(resource.gvk.version.clone())
                .or_default()
                .insert(resource.plural.clone(), Arc::new(served));
        }
        Self {
            local: registry.clone(),
            registry,
            shown: Arc::default(),
            by_version,
            documents: Documents::default(),
        }
    }

    /// The built-in resources, and those that these definitions define.
    pub fn with_custom(definitions: &[Arc<Definition>], caches: &Caches) -> Self {
        let mut versions: Vec<(&Arc<Definition>, &Arc<Version>)> = definitions
            .iter()
            .flat_map(|definition| definition.versions.iter().map(move |version| (definition, version)))
            .filter(|(_, version)| version.served)
            .collect();
        // Groups by name, within them the newest version first.
        versions.sort_by(|(one, one_version), (other, other_version)| {
            let order = |version: &Version| std::cmp::Reverse(priority(&version.name));
            (&one.group, order(one_version), &one.name).cmp(&(
                &other.group,
                order(other_version),
                &other.name,
            ))
        });
        let registry = Registry::builtin()
            .with(versions.iter().map(|(definition, version)| definition.resource(version)));
        let mut catalog = Self::of(registry, caches);
        for (definition, version) in versions {
            let (group, plural) = (&definition.group, &definition.accepted.plural);
            let Some(resource) = catalog.registry.resource(group, &version.name, plural) else { continue };
            let served = Served::of_definition(definition, version, resource, caches);
            let of_group = catalog.by_version.entry(group.clone()).or_default();
            of_group.entry(version.name.clone()).or_default().insert(plural.clone(), Arc::new(served));
        }
        catalog
    }

    /// The same with what other servers serve, for discovery.
    pub fn showing(&self, shown: &Arc<Shown>) -> Self {
        Self {
            registry: shown.with(&self.local),
            shown: shown.clone(),
            local: self.local.clone(),
            by_version: self.by_version.clone(),
            documents: Documents::default(),
        }
    }

    /// What this server serves itself.
    pub fn local(&self) -> &Registry {
        &self.local
    }

    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Served>> {
        self.by_version.get(group)?.get(version)?.get(plural)
    }

    /// The resource of objects of this kind.
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<&Arc<Served>> {
        let resource = self.registry.kind(gvk)?;
        self.get(&gvk.group, &gvk.version, &resource.plural)
    }

    /// The resource in the version that its objects are stored in.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Arc<Served>> {
        let storage = storage(&self.local, group, plural)?;
        let served = self.get(&storage.gvk.group, &storage.gvk.version, plural)?;
        // The storage version of a custom resource need not be the newest, nor be served.
        let stored = &served.storage.gvk.version;
        Some(self.get(group, stored, plural).filter(|_| served.custom.is_some()).unwrap_or(served))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.by_version.values().flat_map(|versions| versions.values()).flat_map(|plurals| plurals.values())
    }
}

/// Where a resource is kept: the version that its group prefers, or the collection it is an alias of.
pub fn storage(registry: &Registry, group: &str, plural: &str) -> Option<Storage> {
    let asked = (group, plural);
    let (group, plural) =
        ALIASES.iter().find(|(alias, _)| *alias == asked).map_or(asked, |(_, stored)| *stored);
    let resource = registry
        .groups()
        .iter()
        .find(|known| known.name == group)?
        .versions
        .iter()
        .find_map(|version| registry.resource(group, version, plural))?;
    Some(Storage {
        group: group.to_owned(),
        plural: plural.to_owned(),
        gvk: resource.gvk.clone(),
        selectable_fields: resource.selectable_fields.iter().cloned().collect(),
    })
}
