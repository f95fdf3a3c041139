//! The files that certificates are kept in.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::IdentityError;

/// A certificate and its key in one file, behind a link that always leads to the newest.
pub struct Pair {
    dir: PathBuf,
    name: &'static str,
    /// Which part of a certificate's life passes before it is renewed: not the same on every node.
    patience: f64,
}

impl Pair {
    fn new(dir: &Path, name: &'static str) -> Self {
        Self { dir: dir.to_owned(), name, patience: 0.7 + 0.2 * rand::random::<f64>() }
    }

    pub fn client(dir: &Path) -> Self {
        Self::new(dir, "kubelet-client")
    }

    pub fn serving(dir: &Path) -> Self {
        Self::new(dir, "kubelet-server")
    }

    pub fn current(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.name))
    }

    fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        pki::validity(&fs::read_to_string(self.current()).ok()?)
    }

    pub fn is_valid(&self) -> bool {
        let now = SystemTime::now();
        self.validity().is_some_and(|(from, until)| from <= now && now < until)
    }

    /// How long the certificate is good.
    pub fn until(&self) -> Option<SystemTime> {
        self.validity().map(|(_, until)| until)
    }

    /// Nothing for now.
    pub fn renew_at(&self) -> Option<SystemTime> {
        let (from, until) = self.validity()?;
        let life = until.duration_since(from).ok()?;
        Some(from + Duration::from_secs_f64(life.as_secs_f64() * self.patience))
    }

    pub fn write(&self, pem: &str) -> Result<(), String> {
        let at = jiff::Timestamp::now().strftime("%Y-%m-%d-%H-%M-%S");
        let name = format!("{}-{at}.pem", self.name);
        pki::write_private(&self.dir.join(&name), pem).map_err(|error| error.to_string())?;
        let link = self.dir.join(format!("{}-current.pem.new", self.name));
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&name, &link)
            .and_then(|()| fs::rename(&link, self.current()))
            .map_err(|error| format!("cannot make {}: {error}", self.current().display()))
    }
}

/// Whether the kubeconfig takes its identity from `file`.
pub fn names(kubeconfig: &Path, file: &Path) -> bool {
    fs::read_to_string(kubeconfig).is_ok_and(|text| text.contains(&file.display().to_string()))
}

/// The cluster of one kubeconfig with the identity in `identity`.
pub fn write_kubeconfig(from: &Path, to: &Path, identity: &Path) -> Result<(), IdentityError> {
    let bad = |reason: String| IdentityError::Bootstrap { path: from.to_owned(), reason };
    let text = fs::read_to_string(from).map_err(|error| bad(error.to_string()))?;
    let old: Value = serde_saphyr::from_str(&text).map_err(|error| bad(error.to_string()))?;
    let cluster = cluster_of(&old).ok_or_else(|| bad("it has no cluster for its current context".into()))?;
    let cluster = absolute(cluster.clone(), from);
    let name = "default-auth";
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": name, "user": {"client-certificate": identity, "client-key": identity}}],
        "contexts": [{"name": "default-context", "context": {"cluster": "default-cluster", "user": name, "namespace": "default"}}],
        "current-context": "default-context",
    });
    pki::write_private(to, &format!("{config:#}\n"))
        .map_err(|error| IdentityError::Write { path: to.to_owned(), reason: error.to_string() })
}

fn named<'a>(config: &'a Value, list: &str, name: &str, what: &str) -> Option<&'a Value> {
    let mut entries = config.get(list)?.as_array()?.iter();
    entries.find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))?.get(what)
}

fn cluster_of(config: &Value) -> Option<&Value> {
    let current = config.get("current-context")?.as_str()?;
    let cluster = named(config, "contexts", current, "context")?.get("cluster")?.as_str()?;
    named(config, "clusters", cluster, "cluster")
}

/// Paths in a kubeconfig are relative to it.
fn absolute(mut cluster: Value, of: &Path) -> Value {
    const FILE: &str = "certificate-authority";
    let relative = cluster.get(FILE).and_then(Value::as_str).map(PathBuf::from);
    if let (Some(path), Some(dir), Value::Object(fields)) = (relative, of.parent(), &mut cluster) {
        fields.insert(FILE.to_owned(), json!(dir.join(path)));
    }
    cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_made_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("bootstrap"), dir.path().join("kubelet.conf"));
        fs::write(
            &from,
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nclusters: [{name: k, cluster: {server: 'https://s', certificate-authority: ca.crt}}]\nusers: [{name: u, user: {token: t}}]\n",
        )
        .unwrap();
        let pair = Pair::client(dir.path());
        write_kubeconfig(&from, &to, &pair.current()).unwrap();
        let made: Value = serde_json::from_str(&fs::read_to_string(&to).unwrap()).unwrap();
        assert_eq!(made["clusters"][0]["cluster"]["server"], "https://s");
        assert_eq!(made["clusters"][0]["cluster"]["certificate-authority"], json!(dir.path().join("ca.crt")));
        assert!(!made.to_string().contains("token"), "{made}");
        assert!(names(&to, &pair.current()));
    }

    #[test]
    fn the_newest_is_the_current_one() {
        let dir = tempfile::tempdir().unwrap();
        let pair = Pair::serving(dir.path());
        assert!(!pair.is_valid() && pair.renew_at().is_none());
        let issued = pki::Leaf::client("system:node:n", None).self_signed().unwrap();
        pair.write(&format!("{}{}", issued.certificate, issued.key)).unwrap();
        assert!(pair.is_valid());
        assert!(pair.renew_at().unwrap() > SystemTime::now());
    }
}
