//! Where a registry is reached: itself, or mirrors of it, as `hosts.toml` files say.
//!
//! The files are containerd's: `DIRECTORY/REGISTRY/hosts.toml`, or `_default` in place of the registry.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_client::client::{Certificate, CertificateEncoding};
use serde::Deserialize;

use crate::{Error, Policy};

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Registries {
    /// Registries (`host:port`) spoken to without TLS, besides those on loopback addresses.
    pub insecure: Vec<String>,
    /// Directories of `hosts.toml` files; the first that knows a registry is asked.
    pub directories: Vec<PathBuf>,
    /// Which images may be pulled.
    pub policy: Policy,
    /// A registry that says nothing for so long is taken for dead.
    pub silence: Duration,
}

impl Default for Registries {
    fn default() -> Self {
        let directories = ["/etc/corten/certs.d", "/etc/containerd/certs.d"].map(PathBuf::from);
        Self {
            insecure: Vec::new(),
            directories: directories.into(),
            policy: Policy::default(),
            silence: Duration::from_secs(60),
        }
    }
}

/// One server that may have the image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    /// `host[:port]`.
    pub host: String,
    pub plain_http: bool,
    pub skip_verify: bool,
    /// Certificates of authorities, in PEM.
    pub authorities: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
struct Hosts {
    server: Option<String>,
    // In the order of their names; TOML tables have no other.
    #[serde(default)]
    host: BTreeMap<String, Host>,
    #[serde(flatten)]
    own: Host,
}

#[derive(Deserialize, Default)]
struct Host {
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    ca: OneOrMany,
    #[serde(default)]
    skip_verify: bool,
}

#[derive(Deserialize, Default)]
#[serde(untagged)]
enum OneOrMany {
    #[default]
    None,
    One(PathBuf),
    Many(Vec<PathBuf>),
}

impl OneOrMany {
    fn paths(self, directory: &Path) -> Vec<PathBuf> {
        let paths = match self {
            Self::None => Vec::new(),
            Self::One(path) => vec![path],
            Self::Many(paths) => paths,
        };
        paths.into_iter().map(|p| directory.join(p)).collect()
    }
}

impl Registries {
    /// The servers to ask for what a registry has, in order; the registry itself is the last.
    pub(crate) fn endpoints(&self, registry: &str) -> Result<Vec<Endpoint>, Error> {
        let itself = Endpoint {
            host: registry.to_owned(),
            plain_http: is_loopback(registry) || self.insecure.iter().any(|r| r == registry),
            skip_verify: false,
            authorities: Vec::new(),
        };
        // It becomes part of a path.
        let named = !registry.contains('/') && !registry.starts_with('.');
        let found = self.directories.iter().filter(|_| named).find_map(|directory| {
            [registry, "_default"].map(|name| directory.join(name)).into_iter().find(|d| d.is_dir())
        });
        match found {
            Some(directory) => read(&directory, itself),
            None => Ok(vec![itself]),
        }
    }
}

fn read(directory: &Path, mut itself: Endpoint) -> Result<Vec<Endpoint>, Error> {
    let file = directory.join("hosts.toml");
    let Ok(text) = fs::read_to_string(&file) else {
        // Authorities alone, as Docker has them.
        let certificates = fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path());
        itself.authorities = certificates.filter(|p| p.extension().is_some_and(|e| e == "crt")).collect();
        itself.plain_http &= itself.authorities.is_empty();
        return Ok(vec![itself]);
    };
    let broken = |reason: String| Error::Hosts { path: file.clone(), reason };
    let hosts: Hosts = toml::from_str(&text).map_err(|e| broken(e.to_string()))?;
    let mut endpoints = Vec::new();
    for (url, host) in hosts.host {
        let pulls = host.capabilities.as_ref().is_none_or(|c| c.iter().any(|c| c == "pull"));
        if pulls {
            endpoints.push(endpoint(&url, host, directory).map_err(broken)?);
        }
    }
    let own = match &hosts.server {
        Some(url) => endpoint(url, hosts.own, directory).map_err(broken)?,
        None => Endpoint {
            skip_verify: hosts.own.skip_verify,
            authorities: hosts.own.ca.paths(directory),
            ..itself
        },
    };
    endpoints.push(own);
    Ok(endpoints)
}

fn endpoint(url: &str, host: Host, directory: &Path) -> Result<Endpoint, String> {
    let (plain_http, rest) = match url.split_once("://") {
        Some(("https", rest)) => (false, rest),
        Some(("http", rest)) => (true, rest),
        Some(_) => return Err(format!("{url:?}: only http and https are spoken")),
        None => (false, url),
    };
    let name = rest.trim_end_matches('/');
    let name = name.strip_suffix("/v2").unwrap_or(name);
    if name.is_empty() || name.contains('/') {
        return Err(format!("{url:?}: a host is expected, with no path"));
    }
    Ok(Endpoint {
        host: name.to_owned(),
        plain_http,
        skip_verify: host.skip_verify,
        authorities: host.ca.paths(directory),
    })
}

impl Endpoint {
    pub fn certificates(&self) -> Result<Vec<Certificate>, Error> {
        let load = |path: &PathBuf| {
            let data = fs::read(path).map_err(Error::file("read", path))?;
            Ok(Certificate { encoding: CertificateEncoding::Pem, data })
        };
        self.authorities.iter().map(load).collect()
    }
}

/// Whether a registry is on this machine, where TLS would guard nothing.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["docker.io", "10.0.0.1:5000", "localhost.example.com", "127.0.0.1.nip.io:80"] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn mirrors_come_before_the_registry() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let registries = Registries {
            insecure: vec!["plain.io".into()],
            directories: vec![root.path().into()],
            ..Registries::default()
        };
        let hosts = |registry: &str| {
            let endpoints = registries.endpoints(registry).unwrap();
            let show = |e: &Endpoint| {
                let scheme = if e.plain_http { "http" } else { "https" };
                format!("{scheme}://{} {} {}", e.host, e.skip_verify, e.authorities.len())
            };
            endpoints.iter().map(show).collect::<Vec<_>>()
        };
        assert_eq!(hosts("quay.io"), ["https://quay.io false 0"]);
        assert_eq!(hosts("plain.io"), ["http://plain.io false 0"]);
        write(
            "docker.io/hosts.toml",
            "server = \"https://registry-1.docker.io\"\n\
             [host.\"http://10.0.0.1:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
             [host.\"https://mirror.io/v2/\"]\nskip_verify = true\nca = [\"a.pem\", \"/b.pem\"]\n\
             [host.\"https://push.io\"]\ncapabilities = [\"push\"]\n",
        );
        let docker = [
            "http://10.0.0.1:5000 false 0",
            "https://mirror.io true 2",
            "https://registry-1.docker.io false 0",
        ];
        assert_eq!(hosts("docker.io"), docker);
        write("own.io:5000/ca.crt", "");
        assert_eq!(hosts("own.io:5000"), ["https://own.io:5000 false 1"]);
        write("_default/hosts.toml", "[host.\"https://all.io\"]\n");
        assert_eq!(hosts("quay.io"), ["https://all.io false 0", "https://quay.io false 0"]);
        for bad in ["nonsense", "[host.\"ftp://x\"]", "[host.\"https://x/path\"]"] {
            write("bad.io/hosts.toml", bad);
            assert!(registries.endpoints("bad.io").is_err(), "{bad}");
        }
        assert_eq!(registries.endpoints("../docker.io").unwrap().len(), 1);
    }
}
