//! Kubeconfig files, which configure webhooks: the current context's server and credentials.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::client::ClientError;
use crate::admission::objects::items;

/// What the current context says.
pub struct Kubeconfig {
    pub server: String,
    /// PEM.
    pub authority: Option<Vec<u8>>,
    pub skip_verify: bool,
    pub server_name: Option<String>,
    /// Certificates and key, PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The value of the Authorization header.
    pub authorization: Option<String>,
}

impl Kubeconfig {
    pub fn load(path: &Path) -> Result<Self, ClientError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ClientError::File { path: path.to_owned(), reason: error.to_string() })?;
        let config: Value = serde_saphyr::from_str(&text)
            .map_err(|error| ClientError::Kubeconfig { path: path.to_owned(), reason: error.to_string() })?;
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        Self::read(&config, &directory)
            .map_err(|reason| ClientError::Kubeconfig { path: path.to_owned(), reason })
    }

    fn read(config: &Value, directory: &Path) -> Result<Self, String> {
        let current = config["current-context"].as_str().unwrap_or_default();
        if current.is_empty() {
            return Err("current-context is not set".to_owned());
        }
        let context = named(config, "contexts", "context", current)?;
        let of = |field: &str| context[field].as_str().unwrap_or_default();
        let cluster = named(config, "clusters", "cluster", of("cluster"))?;
        let server = cluster["server"].as_str().unwrap_or_default().to_owned();
        if server.is_empty() {
            return Err(format!("cluster {:?} has no server", of("cluster")));
        }
        // Webhooks may well need no credentials.
        let none = Value::Null;
        let user = if of("user").is_empty() { &none } else { named(config, "users", "user", of("user"))? };
        let file = |object: &Value, field: &str| data_or_file(object, field, directory);
        let identity = match (file(user, "client-certificate")?, file(user, "client-key")?) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(format!("user {:?} has only one of certificate and key", of("user"))),
        };
        Ok(Self {
            server,
            authority: file(cluster, "certificate-authority")?,
            skip_verify: cluster["insecure-skip-tls-verify"].as_bool().unwrap_or(false),
            server_name: cluster["tls-server-name"].as_str().map(str::to_owned),
            identity,
            authorization: authorization(user, directory)?,
        })
    }
}

fn named<'a>(config: &'a Value, list: &str, field: &str, name: &str) -> Result<&'a Value, String> {
    items(&config[list])
        .find(|entry| entry["name"].as_str() == Some(name))
        .map(|entry| &entry[field])
        .ok_or_else(|| format!("there is no {field} named {name:?}"))
}

fn data_or_file(object: &Value, field: &str, directory: &Path) -> Result<Option<Vec<u8>>, String> {
    if let Some(data) = object[format!("{field}-data")].as_str().filter(|data| !data.is_empty()) {
        let decoded = STANDARD.decode(data).map_err(|_| format!("{field}-data is not base64"))?;
        return Ok(Some(decoded));
    }
    match object[field].as_str().filter(|path| !path.is_empty()) {
        Some(path) => read(&directory.join(path)).map(Some),
        None => Ok(None),
    }
}

fn authorization(user: &Value, directory: &Path) -> Result<Option<String>, String> {
    if let Some(token) = user["token"].as_str().filter(|token| !token.is_empty()) {
        return Ok(Some(format!("Bearer {token}")));
    }
    if let Some(path) = user["tokenFile"].as_str().filter(|path| !path.is_empty()) {
        let token = String::from_utf8(read(&directory.join(path))?).map_err(|_| "tokenFile is not text")?;
        return Ok(Some(format!("Bearer {}", token.trim())));
    }
    match user["username"].as_str() {
        Some(name) if !name.is_empty() => {
            let password = user["password"].as_str().unwrap_or_default();
            Ok(Some(format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))))
        }
        _ => Ok(None),
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_current_context() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "abc\n").unwrap();
        let config = |user: Value| {
            json!({
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "https://x/y", "certificate-authority-data": "eA=="}}],
                "users": [{"name": "u", "user": user}],
            })
        };
        let check = |user: Value, expected: Option<&str>| {
            let read = Kubeconfig::read(&config(user), directory.path()).expect("a kubeconfig");
            assert_eq!((read.server.as_str(), read.authority.as_deref()), ("https://x/y", Some(&b"x"[..])));
            assert_eq!(read.authorization.as_deref(), expected);
        };
        check(json!({}), None);
        check(json!({"token": "t"}), Some("Bearer t"));
        check(json!({"tokenFile": "token"}), Some("Bearer abc"));
        check(json!({"username": "a", "password": "b"}), Some("Basic YTpi"));
        let refused = |change: &dyn Fn(&mut Value), part: &str| {
            let mut config = config(json!({}));
            change(&mut config);
            let error = Kubeconfig::read(&config, directory.path()).err().expect("refused");
            assert!(error.contains(part), "{error}");
        };
        refused(&|c| c["current-context"] = json!(""), "current-context");
        refused(&|c| c["current-context"] = json!("d"), "context named \"d\"");
        refused(&|c| c["clusters"] = json!([]), "cluster named \"k\"");
        refused(&|c| c["users"][0]["user"] = json!({"client-certificate-data": "eA=="}), "only one");
        refused(&|c| c["users"][0]["user"] = json!({"tokenFile": "none"}), "cannot read");
    }
}
