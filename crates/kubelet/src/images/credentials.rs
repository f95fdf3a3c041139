//! Credentials for registries: of the pod's pull secrets, and whether they are for an image.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::provider::matches_image;
use super::records::{PullAccount, PullSecret};
use crate::objects::PodObjects;
use crate::pod::ext::PodExt;

/// What opens a registry, and whose it is.
#[derive(Clone)]
pub struct Credential {
    pub auth: cri::AuthConfig,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Secret(PullSecret),
    /// A provider that was shown a token of the pod's service account.
    Account(PullAccount),
    /// A provider of the node: every pod may use it.
    Node,
}

/// Tells whether two credentials are the same, without telling what they are.
fn hash(auth: &cri::AuthConfig) -> String {
    let mut hasher = Sha256::new();
    for part in [&auth.username, &auth.password, &auth.identity_token, &auth.registry_token] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, DockerAuth>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct DockerAuth {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// The credentials of the pod's pull secrets that fit the image.
pub async fn of_secrets(pod: &Pod, reference: &str, objects: &PodObjects) -> Vec<Credential> {
    let mut found = Vec::new();
    for secret in pod.pod_spec().image_pull_secrets.iter().flatten() {
        // A secret that is not there is not an error: the image may be public.
        let Ok(Some(object)) = objects.secret(&secret.name).await else {
            continue;
        };
        let Some(data) = &object.data else { continue };
        let auths = if let Some(text) = data.get(".dockerconfigjson") {
            serde_json::from_slice::<DockerConfig>(&text.0).map(|config| config.auths).ok()
        } else if let Some(text) = data.get(".dockercfg") {
            serde_json::from_slice(&text.0).ok()
        } else {
            None
        };
        // The most particular registry first, as with a node's providers.
        let fitting = auths.into_iter().flatten().rev().filter(|(registry, _)| fits(registry, reference));
        let secret = |auth: &cri::AuthConfig| PullSecret {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            namespace: pod.namespace().to_owned(),
            name: secret.name.clone(),
            credential_hash: hash(auth),
        };
        found.extend(fitting.map(|(_, auth)| {
            let auth = to_cri(auth);
            Credential { source: Source::Secret(secret(&auth)), auth }
        }));
    }
    found
}

/// Without the server: here it has been matched already, by rules that runtimes do not know (paths, stars), and those
/// that are told of one show credentials to none that is called otherwise.
fn to_cri(auth: DockerAuth) -> cri::AuthConfig {
    let (mut username, mut password) = (auth.username, auth.password);
    if username.is_empty()
        && let Ok(bytes) = BASE64.decode(&auth.auth)
        && let Ok(text) = String::from_utf8(bytes)
        && let Some((user, secret)) = text.split_once(':')
    {
        (username, password) = (user.to_owned(), secret.to_owned());
    }
    cri::AuthConfig {
        username,
        password,
        identity_token: auth.identitytoken,
        registry_token: auth.registrytoken,
        ..Default::default()
    }
}

/// Whether credentials for `registry` (a host, perhaps with a path or a scheme) are for the image.
pub fn fits(registry: &str, reference: &str) -> bool {
    let registry = registry.strip_prefix("https://").or(registry.strip_prefix("http://")).unwrap_or(registry);
    let registry = registry.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let registry = match registry {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    let host = reference.split('/').next().unwrap_or_default();
    let has_host = reference.contains('/') && (host.contains(['.', ':']) || host == "localhost");
    let full = if has_host { reference.to_owned() } else { format!("docker.io/{reference}") };
    full.strip_prefix(registry).is_some_and(|rest| rest.starts_with(['/', ':', '@']))
        || (registry.contains('*') && matches_image(registry, &full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_fit_by_host_and_path() {
        let check = |registry: &str, image: &str, expected: bool| {
            assert_eq!(fits(registry, image), expected, "{registry} {image}");
        };
        check("https://index.docker.io/v1/", "busybox:latest", true);
        check("reg.example:5000", "reg.example:5000/a:1", true);
        check("reg.example", "reg.example.evil/a:1", false);
        check("reg.example/team", "reg.example/team/a:1", true);
        check("reg.example/team", "reg.example/other/a:1", false);
        check("*.reg.example", "eu.reg.example/a:1", true);
        check("*.reg.example/team", "eu.reg.example/team/a:1", true);
        check("*.reg.example", "reg.example/a:1", false);
        check("*.reg.example", "a.b.reg.example/a:1", false);
    }
}
