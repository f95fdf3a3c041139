//! Devices that plugins lend to containers: resources such as `example.com/gpu`.
//!
//! A plugin registers ([`registry`]) and tells of its devices for as long as its stream lasts ([`plugin`]). The node
//! advertises them. A container is given devices when its pod is admitted ([`Devices::admit`]) and keeps them across its
//! restarts and ours: what was given to whom is in [`book`], which is on disk.

mod book;
mod choose;
mod plugin;
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod, ResourceHealth, ResourceStatus};
use parking_lot::Mutex;
use plugins::device as api;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::claims::is_claimed;
use crate::container::quantity;
use crate::meters;
use crate::numa::{Hint, Hints, Mask};
use crate::pod::ext::PodExt;
pub use book::{Book, Given};
use plugin::Plugin;
pub use registry::{register, serve};

const CALL: Duration = Duration::from_secs(30);

/// What a container gets along with its devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    pub envs: BTreeMap<String, String>,
    pub mounts: Vec<api::Mount>,
    pub devices: Vec<api::DeviceSpec>,
    pub annotations: BTreeMap<String, String>,
    pub cdi_devices: Vec<String>,
}

/// The devices of this node.
pub struct Devices {
    /// A file per resource that a plugin has ever served.
    served: PathBuf,
    plugins: Mutex<BTreeMap<String, Plugin>>,
    book: Mutex<Book>,
    /// One container at a time is given devices: what one gets the next one cannot have.
    giving: tokio::sync::Mutex<()>,
    /// NUMA nodes of the machine.
    nodes: Mask,
    /// There are other devices than before.
    pub changed: Notify,
    /// The same, for pods that have some.
    pub health: watch::Sender<u64>,
}

impl Devices {
    pub fn new(root: &Path, nodes: Mask) -> Self {
        Self {
            served: root.join("device-plugins").join("served"),
            plugins: Mutex::default(),
            book: Mutex::new(Book::read(&root.join("device-plugins"))),
            giving: tokio::sync::Mutex::default(),
            nodes,
            changed: Notify::new(),
            health: watch::Sender::new(0),
        }
    }

    /// By resource: how many there are, and how many of them are well.
    pub fn amounts(&self) -> BTreeMap<String, (i64, i64)> {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let plugins = self.plugins.lock();
        let of = |(name, plugin): (&String, &Plugin)| {
            (name.clone(), (count(plugin.devices.len()), count(plugin.healthy().count())))
        };
        plugins.iter().map(of).collect()
    }

    /// What was given to a container, for those who ask what pods have.
    pub fn given(&self, uid: &str, container: &str) -> Vec<(String, Given)> {
        self.book.lock().of(uid, container)
    }

    /// Whether some container of the pod has devices.
    pub fn has_any(&self, uid: &str) -> bool {
        self.book.lock().has(uid)
    }

    /// How the devices of a container are: `allocatedResourcesStatus`.
    pub fn health_of(&self, uid: &str, container: &str) -> Vec<ResourceStatus> {
        let plugins = self.plugins.lock();
        let health = |resource: &str, id: String| {
            let device = plugins.get(resource).and_then(|plugin| plugin.devices.get(&id));
            let health = device.map_or("Unknown", |one| if one.healthy { "Healthy" } else { "Unhealthy" });
            ResourceHealth { resource_id: id, health: Some(health.to_owned()), message: None }
        };
        let status = |(name, given): (String, Given)| ResourceStatus {
            resources: Some(given.ids.into_iter().map(|id| health(&name, id)).collect()),
            name,
        };
        self.given(uid, container).into_iter().map(status).collect()
    }

    pub fn topology(&self, resource: &str, id: &str) -> Vec<i64> {
        let plugins = self.plugins.lock();
        let device = plugins.get(resource).and_then(|plugin| plugin.devices.get(id));
        device.map(|device| device.numa_nodes.clone()).unwrap_or_default()
    }

    /// The IDs of all devices, by resource.
    pub fn all(&self) -> Vec<(String, Vec<String>)> {
        let plugins = self.plugins.lock();
        plugins
            .iter()
            .map(|(name, plugin)| (name.clone(), plugin.devices.keys().cloned().collect()))
            .collect()
    }

    /// The pods that have devices.
    pub fn pods(&self) -> BTreeSet<String> {
        self.book.lock().pods()
    }

    fn marker(&self, resource: &str) -> PathBuf {
        self.served.join(resource.replace('/', "~"))
    }

    /// Remembers that the resource is a plugin's, so that after a restart nobody is started without his devices.
    fn note(&self, resource: &str) {
        let marker = self.marker(resource);
        let noted = std::fs::create_dir_all(&self.served).and_then(|()| std::fs::write(&marker, ""));
        if let Err(error) = noted {
            warn!(path = %marker.display(), %error, "cannot note that a plugin serves a resource");
        }
    }

    /// The pod has ended: its devices are free.
    pub fn release(&self, uid: &str) {
        self.book.lock().release(uid);
    }

    /// What the container asks for of resources that plugins serve.
    fn wants(&self, container: &Container) -> Vec<(String, usize)> {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let plugins = self.plugins.lock();
        let names = limits.into_iter().flat_map(BTreeMap::keys).filter(|name| plugins.contains_key(*name));
        let amount = |name: &String| usize::try_from(quantity::value_of(limits, name)?).ok();
        names
            .filter_map(|name| Some((name.clone(), amount(name)?)))
            .filter(|(_, wanted)| *wanted > 0)
            .collect()
    }

    /// Whether plugins have a say about the container.
    pub fn concerns(&self, container: &Container) -> bool {
        !self.wants(container).is_empty()
    }

    fn free(plugin: &Plugin, book: &Book, resource: &str) -> BTreeSet<String> {
        let taken = book.taken(resource);
        plugin.healthy().filter(|id| !taken.contains(*id)).cloned().collect()
    }

    /// What plain init containers of the pod have, and no container that runs on beside the others.
    fn reusable(pod: &Pod, book: &Book, resource: &str) -> BTreeSet<String> {
        let of = |container: &Container| {
            book.get(pod.uid(), &container.name, resource).map(|given| given.ids).unwrap_or_default()
        };
        let sidecar = |init: &&Container| init.restart_policy.as_deref() == Some("Always");
        let inits = || pod.pod_spec().init_containers.iter().flatten();
        let mut reusable: BTreeSet<String> = inits().filter(|init| !sidecar(init)).flat_map(of).collect();
        let lasting: BTreeSet<String> =
            inits().filter(sidecar).chain(&pod.pod_spec().containers).flat_map(of).collect();
        reusable.retain(|id| !lasting.contains(id));
        reusable
    }

    /// The NUMA nodes whose devices could serve the container.
    pub fn hints(&self, pod: &Pod, container: &Container) -> Hints {
        let hints = |(name, wanted): (String, usize)| {
            let plugin = self.plugins.lock().get(&name).cloned()?;
            let book = self.book.lock();
            let (free, reusable) = match book.get(pod.uid(), &container.name, &name) {
                Some(given) => (given.ids.into_iter().collect(), BTreeSet::new()),
                None => (Self::free(&plugin, &book, &name), Self::reusable(pod, &book, &name)),
            };
            let hints = choose::hints_for(self.nodes, &plugin.devices, &free, &reusable, wanted);
            Some((name, hints))
        };
        self.wants(container).into_iter().filter_map(hints).collect()
    }

    /// The same, for all of the pod's containers at once.
    pub fn pod_hints(&self, pod: &Pod) -> Hints {
        let spec = pod.pod_spec();
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let names: BTreeSet<String> =
            containers().flat_map(|one| self.wants(one)).map(|(name, _)| name).collect();
        let hints = |name: String| {
            let amount = |container: &Container| {
                self.wants(container).into_iter().find(|(of, _)| *of == name).map_or(0, |(_, wanted)| wanted)
            };
            let wanted = crate::affinity::most(spec, amount);
            let plugin = self.plugins.lock().get(&name).cloned()?;
            let book = self.book.lock();
            let own: BTreeSet<String> = containers()
                .filter_map(|one| book.get(pod.uid(), &one.name, &name))
                .flat_map(|given| given.ids)
                .collect();
            let free = if own.is_empty() { Self::free(&plugin, &book, &name) } else { own };
            let hints = choose::hints_for(self.nodes, &plugin.devices, &free, &BTreeSet::new(), wanted);
            Some((name, hints))
        };
        names.into_iter().filter_map(hints).collect()
    }

    /// Gives a container of a new pod the devices that it asks for, near the hint's nodes.
    pub async fn admit(&self, pod: &Pod, container: &Container, hint: Option<Hint>) -> Result<(), String> {
        for (name, wanted) in self.wants(container) {
            if self.book.lock().get(pod.uid(), &container.name, &name).is_none() {
                self.give(pod, container, &name, wanted, hint).await?;
            }
        }
        Ok(())
    }

    /// Gets a container ready to use its devices, which it is given now if it has none yet: its pod was admitted by a
    /// kubelet that knew no plugin.
    pub async fn allocate(&self, pod: &Pod, container: &Container) -> Result<Extras, String> {
        let mut extras = Extras::default();
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        for name in limits.into_iter().flat_map(BTreeMap::keys) {
            let wanted =
                quantity::value_of(limits, name).and_then(|amount| usize::try_from(amount).ok()).unwrap_or(0);
            let known = self.plugins.lock().get(name).cloned();
            let held = self.book.lock().get(pod.uid(), &container.name, name);
            if wanted == 0 {
                continue;
            }
            if known.is_none() && held.is_none() {
                if self.marker(name).exists() && !is_claimed(pod, name) {
                    return Err(format!("no device plugin serves {name} at present"));
                }
                // Somebody else's, who only counts it.
                continue;
            }
            let given = match held {
                Some(given) => given,
                None => self.give(pod, container, name, wanted, None).await?,
            };
            if let Some(plugin) = known.filter(|plugin| plugin.options.pre_start_required) {
                plugin.pre_start(&given.ids).await?;
            }
            given.add_to(&mut extras);
        }
        Ok(extras)
    }

    async fn give(
        &self,
        pod: &Pod,
        container: &Container,
        resource: &str,
        wanted: usize,
        hint: Option<Hint>,
    ) -> Result<Given, String> {
        let _one_at_a_time = self.giving.lock().await;
        let plugin = self.plugins.lock().get(resource).cloned();
        let plugin = plugin.ok_or_else(|| format!("no plugin serves {resource}"))?;
        let (mut ids, free) = {
            let book = self.book.lock();
            let reusable = Self::reusable(pod, &book, resource);
            (reusable.into_iter().take(wanted).collect::<Vec<_>>(), Self::free(&plugin, &book, resource))
        };
        let missing = wanted - ids.len();
        if free.len() < missing {
            return Err(format!(
                "requested number of devices unavailable for {resource}. Requested: {missing}, Available: {}",
                free.len()
            ));
        }
        let (near, free) = choose::ordered(&plugin.devices, free.into_iter().collect(), hint);
        if near >= missing {
            // The plugin may prefer some of those that are near.
            let near = free.into_iter().take(near).collect();
            ids.extend(plugin.choose(near, &ids, missing).await);
        } else {
            let mut free = free.into_iter();
            ids.extend(free.by_ref().take(near));
            ids.extend(plugin.choose(free.collect(), &ids, missing - near).await);
        }
        let began = Instant::now();
        let response = plugin.allocate(&ids).await?;
        let labels = [("resource_name", resource)];
        meters::observe("kubelet_device_plugin_alloc_duration_seconds", &labels, began.elapsed());
        let nodes =
            |id: &str| plugin.devices.get(id).map(|device| device.numa_nodes.clone()).unwrap_or_default();
        let given = Given::new(ids, nodes, response);
        self.book.lock().give(pod.uid(), &container.name, resource, &given)?;
        Ok(given)
    }
}
