//! The Container Device Interface: what vendors write in /etc/cdi and /var/run/cdi that their devices need.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_cri::v1::{CdiDevice, ContainerConfig, Device, KeyValue, Mount};
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, Result};

/// Later directories win.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// A longer file is nobody's honest work.
const LARGEST_SPEC: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    devices: Vec<SpecDevice>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecDevice {
    name: String,
    #[serde(default)]
    container_edits: Edits,
}

/// What a container gets for a device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<BindMount>,
    /// As CDI writes them: a name and the rest of an OCI hook.
    hooks: Vec<Value>,
    #[serde(rename = "additionalGids")]
    pub additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeviceNode {
    path: String,
    host_path: String,
    permissions: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BindMount {
    host_path: String,
    container_path: String,
    options: Vec<String>,
}

/// What the devices need, together.
pub fn edits(devices: &[CdiDevice]) -> Result<Edits> {
    edits_from(devices, &DIRECTORIES.map(PathBuf::from))
}

fn edits_from(devices: &[CdiDevice], directories: &[PathBuf]) -> Result<Edits> {
    let mut all = Edits::default();
    if devices.is_empty() {
        return Ok(all);
    }
    let specs: Vec<Spec> = directories.iter().flat_map(|d| specs_in(d)).collect();
    let mut kinds = HashMap::new();
    for wanted in devices {
        let missing = || Error::InvalidArgument(format!("CDI device {:?} is not known", wanted.name));
        let (kind, name) = wanted.name.split_once('=').ok_or_else(missing)?;
        let found = specs
            .iter()
            .rev()
            .filter(|s| s.kind == kind)
            .find_map(|spec| spec.devices.iter().find(|d| d.name == name).map(|device| (spec, device)));
        let (spec, device) = found.ok_or_else(missing)?;
        if kinds.insert(kind, ()).is_none() {
            all.add(&spec.container_edits);
        }
        all.add(&device.container_edits);
    }
    Ok(all)
}

/// The specs of a directory by name; those that cannot be read are of no use to anybody.
fn specs_in(directory: &Path) -> Vec<Spec> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let json = match path.extension()?.to_str()? {
            "json" => true,
            "yaml" | "yml" => false,
            _ => return None,
        };
        if fs::metadata(path).ok()?.len() > LARGEST_SPEC {
            return None;
        }
        let text = fs::read_to_string(path).ok()?;
        let parsed: Result<Spec, String> = if json {
            serde_json::from_str(&text).map_err(|e| e.to_string())
        } else {
            serde_saphyr::from_str(&text).map_err(|e| e.to_string())
        };
        parsed
            .inspect_err(|error| tracing::warn!(path = %path.display(), error, "CDI spec is not valid"))
            .ok()
    };
    paths.iter().filter_map(read).collect()
}

impl Edits {
    fn add(&mut self, other: &Self) {
        self.env.extend(other.env.iter().cloned());
        self.device_nodes.extend(other.device_nodes.iter().cloned());
        self.mounts.extend(other.mounts.iter().cloned());
        self.hooks.extend(other.hooks.iter().cloned());
        self.additional_gids.extend(&other.additional_gids);
    }

    pub fn apply(&self, config: &mut ContainerConfig) {
        let pair = |entry: &String| {
            let (key, value) = entry.split_once('=')?;
            Some(KeyValue { key: key.to_owned(), value: value.to_owned() })
        };
        config.envs.extend(self.env.iter().filter_map(pair));
        config.devices.extend(self.device_nodes.iter().map(|node| Device {
            container_path: node.path.clone(),
            host_path: if node.host_path.is_empty() { node.path.clone() } else { node.host_path.clone() },
            permissions: node.permissions.clone(),
        }));
        config.mounts.extend(self.mounts.iter().map(|mount| Mount {
            container_path: mount.container_path.clone(),
            host_path: mount.host_path.clone(),
            readonly: mount.options.iter().any(|o| o == "ro"),
            ..Mount::default()
        }));
    }

    /// Hooks by their OCI name, as an OCI runtime carries them out; ours has none.
    pub fn hooks(&self) -> Option<Value> {
        let mut hooks = serde_json::Map::new();
        for hook in &self.hooks {
            let mut hook = hook.clone();
            let Some(name) = hook.as_object_mut().and_then(|h| h.remove("hookName")) else { continue };
            let Some(name) = name.as_str() else { continue };
            let list = hooks.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if let Some(list) = list.as_array_mut() {
                list.push(hook);
            }
        }
        (!hooks.is_empty()).then_some(hooks.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
        "containerEdits": {"env": ["COMMON=1"]},
        "devices": [
          {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}], "additionalGids": [5]}},
          {"name": "1", "containerEdits": {"env": ["ONE=a=b"],
            "mounts": [{"hostPath": "/lib", "containerPath": "/vendor", "options": ["ro", "bind"]}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true"]}]}}]}"#;

    fn check(names: &[&str], expected: Option<(&[&str], usize, usize)>) {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.json"), SPEC).unwrap();
        fs::write(directory.path().join("b.json"), "nonsense").unwrap();
        fs::write(directory.path().join("c.yaml"), "kind: v.com/net\ndevices: [{name: x}]\n").unwrap();
        let devices: Vec<_> = names.iter().map(|n| CdiDevice { name: (*n).to_owned() }).collect();
        let found = edits_from(&devices, &[directory.path().to_owned()]).ok().map(|edits| {
            let mut config = ContainerConfig::default();
            edits.apply(&mut config);
            let envs: Vec<String> = config.envs.iter().map(|e| format!("{}={}", e.key, e.value)).collect();
            (envs, config.devices.len(), config.mounts.len())
        });
        let expected = expected
            .map(|(envs, devices, mounts)| (envs.iter().map(|e| (*e).to_owned()).collect(), devices, mounts));
        assert_eq!(found, expected, "{names:?}");
    }

    #[test]
    fn devices_are_found_by_their_full_name() {
        check(&[], Some((&[], 0, 0)));
        check(&["vendor.com/gpu=0"], Some((&["COMMON=1"], 1, 0)));
        check(&["vendor.com/gpu=0", "vendor.com/gpu=1"], Some((&["COMMON=1", "ONE=a=b"], 1, 1)));
        check(&["v.com/net=x"], Some((&[], 0, 0)));
        for missing in ["vendor.com/gpu=2", "vendor.com/gpu", "other=0", ""] {
            check(&[missing], None);
        }
    }

    #[test]
    fn hooks_are_sorted_by_name() {
        let hook = serde_json::json!({"hookName": "prestart", "path": "/x"});
        let edits = Edits { hooks: vec![hook], ..Edits::default() };
        assert_eq!(edits.hooks(), Some(serde_json::json!({"prestart": [{"path": "/x"}]})));
        assert_eq!(Edits::default().hooks(), None);
    }
}
