//! Network configurations: the first of a directory, as every CNI runtime chooses.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result};

/// A longer file is nobody's honest work.
const LARGEST: u64 = 1 << 20;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    pub cni_version: String,
    pub disable_check: bool,
    pub disable_gc: bool,
    pub plugins: Vec<Plugin>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    /// The program's name.
    pub kind: String,
    config: Map<String, Value>,
}

impl Network {
    /// Major and minor number.
    pub fn version(&self) -> (u32, u32) {
        let mut numbers = self.cni_version.split('.').map(|n| n.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }
}

impl Plugin {
    pub fn set(&mut self, key: &str, value: Value) {
        self.config.insert(key.to_owned(), value);
    }

    /// What the plugin reads: its part of the configuration, and what is known only now.
    pub fn input(&self, network: &Network, capabilities: &Map<String, Value>, previous: &Value) -> Value {
        let mut config = self.config.clone();
        config.insert("name".to_owned(), network.name.clone().into());
        config.insert("cniVersion".to_owned(), network.cni_version.clone().into());
        // Only what the plugin says it is capable of.
        let wanted = config.remove("capabilities");
        let able = |name: &String| wanted.as_ref().is_some_and(|w| w[name] == true);
        let given: Map<String, Value> =
            capabilities.iter().filter(|(name, _)| able(name)).map(|(k, v)| (k.clone(), v.clone())).collect();
        if !given.is_empty() {
            config.insert("runtimeConfig".to_owned(), given.into());
        }
        if !previous.is_null() {
            config.insert("prevResult".to_owned(), previous.clone());
        }
        config.into()
    }
}

/// The network of a directory: of its files the first by name that is a configuration.
pub fn load(directory: &Path) -> Result<Network> {
    let none = || Error::Cni(format!("no network configuration in {}", directory.display()));
    let mut files = candidates(directory);
    files.sort();
    let mut problem = None;
    for file in files {
        match read(&file) {
            Ok(network) => return Ok(network),
            Err(error) => problem = problem.or(Some(error)),
        }
    }
    Err(problem.unwrap_or_else(none))
}

/// Files that look like configurations.
pub fn candidates(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "conf" || e == "conflist" || e == "json"));
    files
}

fn read(file: &Path) -> Result<Network> {
    let broken = |what: &str| Error::Cni(format!("{}: {what}", file.display()));
    if fs::metadata(file).is_ok_and(|m| m.len() > LARGEST) {
        return Err(broken("it is too long"));
    }
    let text = fs::read(file).map_err(Error::io("read", file))?;
    let config: Map<String, Value> = serde_json::from_slice(&text).map_err(|e| broken(&e.to_string()))?;
    parse(config).map_err(broken)
}

fn parse(config: Map<String, Value>) -> Result<Network, &'static str> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let flag = |key: &str| config.get(key).is_some_and(|v| v == true || v == "true");
    let name = text("name");
    let usable = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !name.chars().all(usable) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err("its network has no valid name");
    }
    let plugins = match config.get("plugins") {
        Some(list) => list.as_array().ok_or("plugins is not a list")?.clone(),
        // A file with one plugin and no list.
        None => vec![config.clone().into()],
    };
    if plugins.is_empty() {
        return Err("it has no plugins");
    }
    let plugin = |value: Value| {
        let Value::Object(config) = value else { return Err("a plugin is not an object") };
        let kind = config.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        // It becomes part of a path.
        if kind.is_empty() || kind.contains('/') || kind.starts_with('.') {
            return Err("a plugin has no valid type");
        }
        Ok(Plugin { kind, config })
    };
    let version = text("cniVersion");
    Ok(Network {
        name,
        cni_version: if version.is_empty() { "0.1.0".to_owned() } else { version },
        disable_check: flag("disableCheck"),
        disable_gc: flag("disableGC"),
        plugins: plugins.into_iter().map(plugin).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_that_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        assert!(load(directory.path()).unwrap_err().to_string().contains("no network configuration"));
        write("00-ignored.txt", "{}");
        write("01-broken.conflist", "{");
        assert!(load(directory.path()).unwrap_err().to_string().contains("01-broken"));
        write("20-last.conflist", r#"{"name": "last", "plugins": [{"type": "ptp"}]}"#);
        write("10-single.conf", r#"{"name": "single", "cniVersion": "1.1.0", "type": "bridge"}"#);
        let network = load(directory.path()).unwrap();
        assert_eq!((network.name.as_str(), network.version(), network.plugins.len()), ("single", (1, 1), 1));
        for bad in [
            json!({"name": "x", "plugins": []}),
            json!({"name": "x", "plugins": [{}]}),
            json!({"name": "x", "plugins": [{"type": "../sh"}]}),
            json!({"name": "x", "plugins": 7}),
            json!({"name": "../x", "type": "bridge"}),
            json!({"type": "bridge"}),
        ] {
            let Value::Object(config) = bad else { panic!() };
            assert!(parse(config.clone()).is_err(), "{config:?}");
        }
    }

    #[test]
    fn plugins_get_what_they_are_capable_of() {
        let Value::Object(config) = json!({"name": "n", "cniVersion": "1.0.0", "plugins": [
            {"type": "bridge"}, {"type": "portmap", "capabilities": {"portMappings": true}}]})
        else {
            panic!()
        };
        let network = parse(config).unwrap();
        let capabilities =
            Map::from_iter([("portMappings".to_owned(), json!([1])), ("dns".to_owned(), json!({}))]);
        let input = |n: usize, previous: &Value| network.plugins[n].input(&network, &capabilities, previous);
        assert_eq!(input(0, &Value::Null), json!({"type": "bridge", "name": "n", "cniVersion": "1.0.0"}));
        assert_eq!(
            input(1, &json!({"ips": []})),
            json!({"type": "portmap", "name": "n", "cniVersion": "1.0.0",
                "runtimeConfig": {"portMappings": [1]}, "prevResult": {"ips": []}})
        );
    }
}
