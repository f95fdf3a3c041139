//! Putting a cluster into the user's kubeconfig, and taking it out again; what else is there stays as it is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

const LISTS: [&str; 3] = ["clusters", "users", "contexts"];
const CURRENT: &str = "current-context";

/// A kubeconfig cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("cannot {operation} kubeconfig {path}: {source}", path = path.display())]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("kubeconfig {path} is not understood: {reason}; mend it, or name another in KUBECONFIG", path = path.display())]
    Malformed { path: PathBuf, reason: String },
    #[error("there is no home directory; name a kubeconfig in KUBECONFIG")]
    NoHome,
}

/// What a cluster's entries are called.
pub fn context(cluster: &str) -> String {
    format!("corten-{cluster}")
}

/// The user's kubeconfig: the first that KUBECONFIG names, or the one in the home directory, also of a user who has
/// called this by sudo.
pub fn of_user() -> Result<PathBuf, KubeconfigError> {
    let named = std::env::var_os("KUBECONFIG");
    if let Some(first) =
        named.iter().flat_map(std::env::split_paths).find(|path| !path.as_os_str().is_empty())
    {
        return Ok(first);
    }
    let home = match sudo_user() {
        Some((home, _, _)) => Some(home),
        None => std::env::home_dir(),
    };
    Ok(home.filter(|home| home.is_absolute()).ok_or(KubeconfigError::NoHome)?.join(".kube/config"))
}

/// Home directory, user and group of whoever became root by sudo.
fn sudo_user() -> Option<(PathBuf, u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let name = std::env::var("SUDO_USER").ok().filter(|name| name != "root")?;
    let table = fs::read_to_string("/etc/passwd").ok()?;
    let entry = table.lines().find(|line| line.split(':').next() == Some(name.as_str()))?;
    let fields: Vec<&str> = entry.split(':').collect();
    Some((fields.get(5)?.into(), fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// Adds the cluster and the user of the kubeconfig text `from` under `name`, in place of what has that name, and makes it
/// the current context.
pub fn merge(path: &Path, name: &str, from: &str) -> Result<(), KubeconfigError> {
    let source = parse(path, from)?;
    let first = |list: &str, what: &str| source[list][0][what].clone();
    change(path, |config| {
        for (list, entry) in [
            ("clusters", json!({"name": name, "cluster": first("clusters", "cluster")})),
            ("users", json!({"name": name, "user": first("users", "user")})),
            ("contexts", json!({"name": name, "context": {"cluster": name, "user": name}})),
        ] {
            let entries = entries(config, list);
            entries.retain(|other| other["name"] != name);
            entries.push(entry);
        }
        config.insert(CURRENT.to_owned(), json!(name));
    })
}

/// Removes what [`merge`] has added. A file that is not there, or knows nothing of it, is fine.
pub fn remove(path: &Path, name: &str) -> Result<(), KubeconfigError> {
    let known = match fs::read_to_string(path) {
        Ok(text) => text.contains(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(source) => return Err(failed("read", path)(source)),
    };
    if !known {
        return Ok(());
    }
    change(path, |config| {
        for list in LISTS {
            entries(config, list).retain(|other| other["name"] != name);
        }
        if config.get(CURRENT).is_some_and(|current| current == name) {
            config.insert(CURRENT.to_owned(), json!(""));
        }
    })
}

fn entries<'a>(config: &'a mut Map<String, Value>, list: &str) -> &'a mut Vec<Value> {
    let value = config.entry(list).or_insert(Value::Null);
    if !value.is_array() {
        // kubectl writes null for an empty list.
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(entries) => entries,
        _ => unreachable!("it was just made an array"),
    }
}

fn parse(path: &Path, text: &str) -> Result<Value, KubeconfigError> {
    serde_saphyr::from_str(text)
        .map_err(|error| KubeconfigError::Malformed { path: path.to_owned(), reason: error.to_string() })
}

fn change(path: &Path, work: impl FnOnce(&mut Map<String, Value>)) -> Result<(), KubeconfigError> {
    // A link stays a link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let malformed = |reason: String| KubeconfigError::Malformed { path: path.to_owned(), reason };
    let owner = sudo_user();
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        fs::create_dir_all(directory).map_err(failed("make the directory of", path))?;
        if let Some((_, user, group)) = &owner {
            chown(directory, Some(*user), Some(*group)).map_err(failed("make the directory of", path))?;
        }
    }
    let _lock = Lock::take(path)?;
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(failed("read", path))?,
    };
    let config = if text.trim().is_empty() {
        json!({"apiVersion": "v1", "kind": "Config", "preferences": {}})
    } else {
        parse(path, &text)?
    };
    let Value::Object(mut config) = config else { return Err(malformed("it is no object".to_owned())) };
    work(&mut config);
    let text =
        serde_saphyr::to_string(&Value::Object(config)).map_err(|error| malformed(error.to_string()))?;
    write(path, &text, owner.map(|(_, user, group)| (user, group))).map_err(failed("write", path))
}

/// The old file or the new one is there, whatever happens, and for its owner only.
fn write(path: &Path, text: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".corten-new");
    let new = path.with_file_name(name);
    let _ = fs::remove_file(&new);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match fs::metadata(path) {
        Ok(old) => {
            use std::os::unix::fs::MetadataExt;
            fs::set_permissions(&new, fs::Permissions::from_mode(old.mode() & 0o777))?;
            chown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        Err(_) => {
            if let Some((user, group)) = owner {
                chown(&new, Some(user), Some(group))?;
            }
        }
    }
    fs::rename(&new, path)
}

/// kubectl's own: a file beside the kubeconfig that is there while somebody writes.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self, KubeconfigError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        let lock = path.with_file_name(name);
        File::options().write(true).create_new(true).open(&lock).map_err(failed("lock", &lock))?;
        Ok(Self(lock))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KubeconfigError {
    let path = path.to_owned();
    move |source| KubeconfigError::File { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = r#"{"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"client-key-data": "a2V5"}}], "contexts": [], "current-context": "x"}"#;

    fn read(path: &Path) -> Value {
        serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn a_cluster_comes_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/config");
        remove(&path, "corten-dev").unwrap();
        merge(&path, "corten-dev", NEW).unwrap();
        let config = read(&path);
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:1");
        assert_eq!(config["contexts"][0]["context"]["user"], "corten-dev");
        assert_eq!(config[CURRENT], "corten-dev");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        remove(&path, "corten-dev").unwrap();
        let config = read(&path);
        assert_eq!((&config["clusters"], &config[CURRENT]), (&json!([]), &json!("")));
    }

    #[test]
    fn the_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        let old = "apiVersion: v1\nkind: Config\ncurrent-context: mine\npreferences: {}\nusers: null\nclusters:\n- name: mine\n  cluster: {server: 'https://mine', x: \"1.20\"}\n- name: corten-dev\n  cluster: {server: 'https://old'}\n";
        fs::write(&path, old).unwrap();
        merge(&path, "corten-dev", NEW).unwrap();
        let config = read(&path);
        let clusters = config["clusters"].as_array().unwrap();
        assert_eq!(clusters.len(), 2);
        assert_eq!(clusters[0]["cluster"], json!({"server": "https://mine", "x": "1.20"}));
        remove(&path, "corten-dev").unwrap();
        assert_eq!(read(&path)["clusters"].as_array().unwrap().len(), 1);
        fs::write(&path, "- no\n").unwrap();
        assert!(matches!(merge(&path, "c", NEW), Err(KubeconfigError::Malformed { .. })));
        assert!(!directory.path().join("config.lock").exists());
    }
}
