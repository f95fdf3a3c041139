//! Devices that plugins lend to containers: resources such as `example.com/gpu`.
//!
//! A plugin registers ([`registry`]) and tells of its devices for as long as its stream lasts ([`plugin`]). The node
//! advertises them. A container is given devices when it is started for the first time ([`Devices::allocate`]) and keeps
//! them across its restarts and ours: what was given to whom is in [`book`], which is on disk.

mod book;
mod plugin;
mod registry;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use plugins::device as api;
use tokio::sync::Notify;
use tracing::warn;

use crate::container::quantity;
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
    /// There are other devices than before.
    pub changed: Notify,
}

impl Devices {
    pub fn new(root: &Path) -> Self {
        Self {
            served: root.join("device-plugins").join("served"),
            plugins: Mutex::default(),
            book: Mutex::new(Book::read(&root.join("device-plugins"))),
            giving: tokio::sync::Mutex::default(),
            changed: Notify::new(),
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

    /// Gives a container the devices that it asks for, unless it has them, and gets it ready to use them.
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
                if self.marker(name).exists() {
                    return Err(format!("no device plugin serves {name} at present"));
                }
                // Somebody else's, who only counts it.
                continue;
            }
            let given = match held {
                Some(given) => given,
                None => {
                    let _one_at_a_time = self.giving.lock().await;
                    let plugin = known.clone().ok_or_else(|| format!("no plugin for {name}"))?;
                    self.give(&plugin, pod, container, name, wanted).await?
                }
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
        plugin: &Plugin,
        pod: &Pod,
        container: &Container,
        resource: &str,
        wanted: usize,
    ) -> Result<Given, String> {
        // What init containers that have ended were given serves the ones that follow.
        let follows = pod.pod_spec().containers.iter().any(|main| main.name == container.name);
        let taken = {
            let mut book = self.book.lock();
            if follows {
                let plain = pod.pod_spec().init_containers.iter().flatten();
                let plain = plain.filter(|init| init.restart_policy.as_deref() != Some("Always"));
                plain.for_each(|init| book.release_of(pod.uid(), &init.name, resource));
            }
            book.taken(resource)
        };
        let free: Vec<String> = plugin.healthy().filter(|id| !taken.contains(*id)).cloned().collect();
        if free.len() < wanted {
            return Err(format!(
                "requested number of devices unavailable for {resource}. Requested: {wanted}, Available: {}",
                free.len()
            ));
        }
        let ids = plugin.choose(free, wanted).await;
        let response = plugin.allocate(&ids).await?;
        let given = Given::new(ids, response);
        self.book.lock().give(pod.uid(), &container.name, resource, given.clone())?;
        Ok(given)
    }
}
