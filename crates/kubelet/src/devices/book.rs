//! Who has which devices, kept in a file: a restarted kubelet must not give them away again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use plugins::device as api;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Extras;
use crate::checkpoint;

const FILE: &str = "kubelet_internal_checkpoint";

/// The devices of one resource that one container was given, and what the plugin said to that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Given {
    pub ids: Vec<String>,
    envs: BTreeMap<String, String>,
    /// In the container, on the node, and whether it is read-only.
    mounts: Vec<(String, String, bool)>,
    /// In the container, on the node, and what may be done with it.
    devices: Vec<(String, String, String)>,
    annotations: BTreeMap<String, String>,
    cdi_devices: Vec<String>,
}

impl Given {
    pub fn new(ids: Vec<String>, answer: api::ContainerAllocateResponse) -> Self {
        let mount = |mount: api::Mount| (mount.container_path, mount.host_path, mount.read_only);
        let device = |device: api::DeviceSpec| (device.container_path, device.host_path, device.permissions);
        Self {
            ids,
            envs: answer.envs.into_iter().collect(),
            mounts: answer.mounts.into_iter().map(mount).collect(),
            devices: answer.devices.into_iter().map(device).collect(),
            annotations: answer.annotations.into_iter().collect(),
            cdi_devices: answer.cdi_devices.into_iter().map(|device| device.name).collect(),
        }
    }

    pub fn add_to(self, extras: &mut Extras) {
        extras.envs.extend(self.envs);
        extras.annotations.extend(self.annotations);
        extras.cdi_devices.extend(self.cdi_devices);
        let mount =
            |(container_path, host_path, read_only)| api::Mount { container_path, host_path, read_only };
        extras.mounts.extend(self.mounts.into_iter().map(mount));
        let device = |(container_path, host_path, permissions)| api::DeviceSpec {
            container_path,
            host_path,
            permissions,
        };
        extras.devices.extend(self.devices.into_iter().map(device));
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    pod: String,
    container: String,
    resource: String,
    given: Given,
}

#[derive(Debug, Default)]
pub struct Book {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Book {
    pub fn read(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let entries = checkpoint::read(&path, "which devices pods have");
        Self { path, entries }
    }

    fn save(&self) -> Result<(), String> {
        checkpoint::write(&self.path, &self.entries)
    }

    fn find(&self, pod: &str, container: &str, resource: &str) -> Option<usize> {
        let is =
            |entry: &Entry| entry.pod == pod && entry.container == container && entry.resource == resource;
        self.entries.iter().position(is)
    }

    pub fn get(&self, pod: &str, container: &str, resource: &str) -> Option<Given> {
        let at = self.find(pod, container, resource)?;
        self.entries.get(at).map(|entry| entry.given.clone())
    }

    pub fn of(&self, pod: &str, container: &str) -> Vec<(String, Given)> {
        let own = self.entries.iter().filter(|entry| entry.pod == pod && entry.container == container);
        own.map(|entry| (entry.resource.clone(), entry.given.clone())).collect()
    }

    pub fn pods(&self) -> BTreeSet<String> {
        self.entries.iter().map(|entry| entry.pod.clone()).collect()
    }

    pub fn taken(&self, resource: &str) -> BTreeSet<String> {
        let of = self.entries.iter().filter(|entry| entry.resource == resource);
        of.flat_map(|entry| entry.given.ids.iter().cloned()).collect()
    }

    /// Written down before the container starts.
    pub fn give(&mut self, pod: &str, container: &str, resource: &str, given: Given) -> Result<(), String> {
        let entry = Entry {
            pod: pod.to_owned(),
            container: container.to_owned(),
            resource: resource.to_owned(),
            given,
        };
        self.entries.push(entry);
        self.save().inspect_err(|_| drop(self.entries.pop()))
    }

    pub fn release_of(&mut self, pod: &str, container: &str, resource: &str) {
        if let Some(at) = self.find(pod, container, resource) {
            self.entries.remove(at);
        }
    }

    pub fn release(&mut self, pod: &str) {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.pod != pod);
        if self.entries.len() != before
            && let Err(error) = self.save()
        {
            warn!(error, "devices of a pod that has ended stay taken after a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let answer = api::ContainerAllocateResponse {
            envs: [("A".to_owned(), "1".to_owned())].into(),
            ..Default::default()
        };
        let mut book = Book::read(dir.path());
        book.give("u", "c", "r/x", Given::new(vec!["d1".into()], answer)).unwrap();
        let mut book = Book::read(dir.path());
        assert_eq!(book.taken("r/x"), ["d1".to_owned()].into());
        let mut extras = Extras::default();
        book.get("u", "c", "r/x").unwrap().add_to(&mut extras);
        assert_eq!(extras.envs["A"], "1");
        book.release("u");
        assert!(Book::read(dir.path()).taken("r/x").is_empty());
        assert!(book.get("u", "c", "r/x").is_none());
    }
}
