//! Who has which devices, kept in a file: a restarted kubelet must not give them away again.
//!
//! `kubelet_internal_checkpoint` is written as upstream writes it: agents read from it which devices a pod has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use plugins::device as api;
use prost::Message;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Extras;
use crate::checkpoint::{self, printed_map};

const FILE: &str = "kubelet_internal_checkpoint";
/// Stands for the NUMA node of a device that is near none.
pub const NO_NODE: i64 = -1;

/// The devices of one resource that one container was given, and what the plugin said to that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    pub ids: Vec<String>,
    by_node: BTreeMap<i64, Vec<String>>,
    response: api::ContainerAllocateResponse,
}

impl Given {
    /// `nodes` tells which NUMA nodes a device is near.
    pub fn new(
        ids: Vec<String>,
        nodes: impl Fn(&str) -> Vec<i64>,
        response: api::ContainerAllocateResponse,
    ) -> Self {
        let mut by_node: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for id in &ids {
            let near = Some(nodes(id)).filter(|near| !near.is_empty()).unwrap_or_else(|| vec![NO_NODE]);
            near.into_iter().for_each(|node| by_node.entry(node).or_default().push(id.clone()));
        }
        Self { ids, by_node, response }
    }

    pub fn add_to(self, extras: &mut Extras) {
        let response = self.response;
        extras.envs.extend(response.envs);
        extras.annotations.extend(response.annotations);
        extras.cdi_devices.extend(response.cdi_devices.into_iter().map(|device| device.name));
        extras.mounts.extend(response.mounts);
        extras.devices.extend(response.devices);
    }
}

/// Field names are upstream's, which are those of Go.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    #[serde(rename = "Data")]
    data: Data,
    #[serde(rename = "Checksum")]
    checksum: u32,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
    /// Devices that are well, by resource.
    registered_devices: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "PodUID")]
    pod: String,
    container_name: String,
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: BTreeMap<i64, Vec<String>>,
    alloc_resp: String,
}

impl Entry {
    fn given(&self) -> Given {
        let response = BASE64.decode(&self.alloc_resp).unwrap_or_default();
        let ids: BTreeSet<&String> = self.device_ids.values().flatten().collect();
        Given {
            ids: ids.into_iter().cloned().collect(),
            by_node: self.device_ids.clone(),
            response: api::ContainerAllocateResponse::decode(response.as_slice()).unwrap_or_default(),
        }
    }

    fn printed(&self) -> String {
        let response: Vec<String> =
            BASE64.decode(&self.alloc_resp).unwrap_or_default().iter().map(u8::to_string).collect();
        format!(
            "{{PodUID:(string){} ContainerName:(string){} ResourceName:(string){} \
             DeviceIDs:(checkpoint.DevicesPerNUMA){} AllocResp:([]uint8)[{}]}}",
            self.pod,
            self.container_name,
            self.resource_name,
            printed_map(&self.device_ids, |ids| printed_list(ids)),
            response.join(" ")
        )
    }
}

fn printed_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

impl Data {
    fn compute(&self) -> u32 {
        let entries = match &self.pod_device_entries {
            Some(entries) => {
                let entries: Vec<String> = entries.iter().map(Entry::printed).collect();
                printed_list(&entries)
            }
            None => "<nil>".into(),
        };
        checkpoint::checksum(&format!(
            "(checkpoint.checkpointData){{PodDeviceEntries:([]checkpoint.PodDevicesEntry){entries} \
             RegisteredDevices:(map[string][]string){}}}",
            printed_map(&self.registered_devices, |ids| printed_list(ids))
        ))
    }
}

#[derive(Debug, Default)]
pub struct Book {
    path: PathBuf,
    entries: Vec<Entry>,
    registered: BTreeMap<String, Vec<String>>,
}

impl Book {
    pub fn read(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let file: File = checkpoint::read_checked(&path, "which devices pods have", |file: &File| {
            (file.checksum, file.data.compute())
        });
        let entries = file.data.pod_device_entries.unwrap_or_default();
        Self { path, entries, registered: file.data.registered_devices }
    }

    fn save(&self) -> Result<(), String> {
        let data = Data {
            pod_device_entries: (!self.entries.is_empty()).then(|| self.entries.clone()),
            registered_devices: self.registered.clone(),
        };
        checkpoint::write(&self.path, &File { checksum: data.compute(), data })
    }

    fn find(&self, pod: &str, container: &str, resource: &str) -> Option<usize> {
        let is = |entry: &Entry| {
            entry.pod == pod && entry.container_name == container && entry.resource_name == resource
        };
        self.entries.iter().position(is)
    }

    pub fn get(&self, pod: &str, container: &str, resource: &str) -> Option<Given> {
        let at = self.find(pod, container, resource)?;
        self.entries.get(at).map(Entry::given)
    }

    pub fn of(&self, pod: &str, container: &str) -> Vec<(String, Given)> {
        let own = self.entries.iter().filter(|entry| entry.pod == pod && entry.container_name == container);
        own.map(|entry| (entry.resource_name.clone(), entry.given())).collect()
    }

    pub fn has(&self, pod: &str) -> bool {
        self.entries.iter().any(|entry| entry.pod == pod)
    }

    pub fn pods(&self) -> BTreeSet<String> {
        self.entries.iter().map(|entry| entry.pod.clone()).collect()
    }

    pub fn taken(&self, resource: &str) -> BTreeSet<String> {
        let of = self.entries.iter().filter(|entry| entry.resource_name == resource);
        of.flat_map(|entry| entry.device_ids.values().flatten().cloned()).collect()
    }

    /// A plugin has told of its devices, and these are well.
    pub fn register(&mut self, resource: &str, healthy: Vec<String>) {
        if self.registered.get(resource) == Some(&healthy) {
            return;
        }
        self.registered.insert(resource.to_owned(), healthy);
        if let Err(error) = self.save() {
            warn!(error, "devices of a plugin are not known after a restart");
        }
    }

    /// Written down before the container starts.
    pub fn give(&mut self, pod: &str, container: &str, resource: &str, given: &Given) -> Result<(), String> {
        let entry = Entry {
            pod: pod.to_owned(),
            container_name: container.to_owned(),
            resource_name: resource.to_owned(),
            device_ids: given.by_node.clone(),
            alloc_resp: BASE64.encode(given.response.encode_to_vec()),
        };
        self.entries.push(entry);
        self.save().inspect_err(|_| drop(self.entries.pop()))
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
        let given = Given::new(vec!["d1".into(), "d2".into()], |id| vec![i64::from(id == "d2")], answer);
        book.give("u", "c", "r/x", &given).unwrap();
        let mut book = Book::read(dir.path());
        assert_eq!(book.taken("r/x"), ["d1".to_owned(), "d2".to_owned()].into());
        assert_eq!(book.get("u", "c", "r/x").as_ref(), Some(&given));
        let mut extras = Extras::default();
        given.add_to(&mut extras);
        assert_eq!(extras.envs["A"], "1");
        book.release("u");
        assert!(Book::read(dir.path()).taken("r/x").is_empty());
        assert!(book.get("u", "c", "r/x").is_none());
    }

    /// Files that upstream's kubelet has written.
    #[test]
    fn files_of_another_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let check = |text: &str, taken: &[&str]| {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let taken: BTreeSet<String> = taken.iter().map(|id| (*id).to_owned()).collect();
            let book = Book::read(dir.path());
            assert_eq!(book.taken("nvidia.com/gpu"), taken, "{text}");
            book.save().unwrap();
            std::fs::read_to_string(dir.path().join(FILE)).unwrap()
        };
        let one = r#"{"Data":{"PodDeviceEntries":[{"PodUID":"bf52b2cd-b611-4e79-86b1-280b283185c3","ContainerName":"check","ResourceName":"nvidia.com/gpu","DeviceIDs":{"-1":["tegra"]},"AllocResp":"Ch8KFk5WSURJQV9WSVNJQkxFX0RFVklDRVMSBXRlZ3Jh"}],"RegisteredDevices":{"nvidia.com/gpu":["tegra"]}},"Checksum":3660592824}"#;
        assert_eq!(check(one, &["tegra"]), one);
        let none = r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{"nvidia.com/gpu":["GPU-0650a168-e770-3ea8-8ac3-8a1d419763e0"]}},"Checksum":3952659280}"#;
        assert_eq!(check(none, &[]), none);
        check(&one.replace("3660592824", "1"), &[]);
    }
}
