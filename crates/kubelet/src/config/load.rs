//! Reading configuration: a file, and a directory of further ones that are laid over it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{KubeletConfiguration, fields};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// A configuration file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the kubelet configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot understand the kubelet configuration {path}: {reason}")]
    Parse { path: PathBuf, reason: String },
}

impl KubeletConfiguration {
    /// Reads a YAML or JSON file and warns about what is not honoured.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(Some(path), None)
    }

    /// As [`Self::load`]; then the `*.conf` files of `dir`, by name, each over what was before: objects are merged,
    /// everything else is replaced.
    pub fn load_with(path: Option<&Path>, dir: Option<&Path>) -> Result<Self, ConfigError> {
        let mut files: Vec<PathBuf> = path.map(Path::to_owned).into_iter().collect();
        files.extend(dir.map(drop_ins).transpose()?.into_iter().flatten());
        let mut whole = Value::Object(serde_json::Map::new());
        for file in &files {
            let text = std::fs::read_to_string(file)
                .map_err(|source| ConfigError::Read { path: file.clone(), source })?;
            let parse = |reason: String| ConfigError::Parse { path: file.clone(), reason };
            merge(&mut whole, read(&text).map_err(parse)?);
            // Checked file by file, so that the one with the mistake is named.
            let so_far: Self =
                serde_json::from_value(whole.clone()).map_err(|error| parse(error.to_string()))?;
            for field in so_far.unknown.keys() {
                let why = fields::reason(field).unwrap_or("no such field is known");
                tracing::warn!(path = %file.display(), field, why, "a field of the kubelet's configuration has no effect");
            }
        }
        let last = files.last().cloned().unwrap_or_default();
        serde_json::from_value(whole)
            .map_err(|error| ConfigError::Parse { path: last, reason: error.to_string() })
    }
}

fn drop_ins(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries =
        std::fs::read_dir(dir).map_err(|source| ConfigError::Read { path: dir.to_owned(), source })?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    files.sort();
    Ok(files)
}

pub(super) fn read(text: &str) -> Result<Value, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let is = |field: &str, wanted: &str| match value.get(field).and_then(Value::as_str) {
        Some(found) if found == wanted => Ok(()),
        Some(found) => Err(format!("{field} is {found:?}, not {wanted}")),
        None => Err(format!("it has no {field}; {wanted} is expected")),
    };
    is("kind", KIND)?;
    is("apiVersion", API_VERSION)?;
    Ok(value)
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("apiVersion: {API_VERSION}\nkind: {KIND}\n{text}")).unwrap();
            path
        };
        let base = file(
            "base.yaml",
            "maxPods: 7\nsystemReserved: {cpu: '1'}\nevictionHard: {memory.available: 1Mi}\n",
        );
        file("10-a.conf", "maxPods: 8\nsystemReserved: {memory: 1Gi}\n");
        file("20-b.conf", "maxPods: 9\n");
        file("30-c.yaml", "maxPods: 10\n");
        let config = KubeletConfiguration::load_with(Some(&base), Some(dir.path())).unwrap();
        assert_eq!(config.max_pods, 9, "only *.conf are drop-ins");
        assert_eq!(config.system_reserved.len(), 2);
        file("40-d.conf", "maxPods: many\n");
        let error = KubeletConfiguration::load_with(Some(&base), Some(dir.path())).unwrap_err();
        assert!(error.to_string().contains("40-d.conf"), "{error}");
    }
}
