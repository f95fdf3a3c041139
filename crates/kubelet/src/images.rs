//! Images of containers: pull policies, credentials, one pull at a time per image.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use serde::Deserialize;

use crate::cri::{Cri, CriError};
use crate::events::Recorder;
use crate::objects::PodObjects;
use crate::pod::ext::PodExt;
use crate::pod::machine::Failure;

pub struct Images {
    cri: Cri,
    events: Recorder,
    pulling: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Images {
    pub fn new(cri: Cri, events: Recorder) -> Self {
        Self { cri, events, pulling: Mutex::default() }
    }

    /// Makes sure that the image is there; answers with what the runtime calls it.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        objects: &PodObjects,
    ) -> Result<String, Failure> {
        let image = container.image.as_deref().unwrap_or_default();
        if !valid_reference(image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
            );
            self.events.warning(pod, Some(&container.name), "InspectFailed", &message);
            return Err(failure("InvalidImageName", message));
        }
        let reference = with_tag(image);
        let policy = policy(container, image);
        if policy != "Always" {
            match self.cri.image_status(&reference).await {
                Ok(Some(found)) => {
                    let message = format!("Container image {image:?} already present on machine");
                    self.events.normal(pod, Some(&container.name), "Pulled", &message);
                    return Ok(found.id);
                }
                Ok(None) if policy == "Never" => {
                    let message =
                        format!("Container image {image:?} is not present with pull policy of Never");
                    self.events.warning(pod, Some(&container.name), "ErrImageNeverPull", &message);
                    return Err(failure("ErrImageNeverPull", message));
                }
                Ok(None) => {}
                Err(error) => {
                    let message = format!("Failed to inspect image {image:?}: {error}");
                    self.events.warning(pod, Some(&container.name), "InspectFailed", &message);
                    return Err(failure("ImageInspectError", message));
                }
            }
        }
        let message = format!("Pulling image {image:?}");
        self.events.normal(pod, Some(&container.name), "Pulling", &message);
        let asked = Instant::now();
        let lock = self.lock(&reference);
        let _one_at_a_time = lock.lock().await;
        // Another pod may have brought it meanwhile.
        if policy != "Always"
            && let Ok(Some(found)) = self.cri.image_status(&reference).await
        {
            return Ok(found.id);
        }
        let began = Instant::now();
        match self.pull(pod, &reference, objects).await {
            Ok(id) => {
                let size = self.cri.image_status(&id).await.ok().flatten().map_or(0, |image| image.size);
                let message = format!(
                    "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {size} bytes.",
                    seconds(began),
                    seconds(asked)
                );
                self.events.normal(pod, Some(&container.name), "Pulled", &message);
                Ok(id)
            }
            Err(error) => {
                let message = format!("Failed to pull image {image:?}: {error}");
                self.events.warning(pod, Some(&container.name), "Failed", &message);
                Err(failure("ErrImagePull", error.to_string()))
            }
        }
    }

    fn lock(&self, reference: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulling = self.pulling.lock();
        if let Some(lock) = pulling.get(reference).and_then(Weak::upgrade) {
            return lock;
        }
        pulling.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        pulling.insert(reference.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Tries each credential that fits, then none.
    async fn pull(&self, pod: &Pod, reference: &str, objects: &PodObjects) -> Result<String, CriError> {
        let mut last = None;
        for auth in credentials(pod, reference, objects).await {
            match self.cri.pull_image(reference, Some(auth), None).await {
                Ok(id) => return Ok(id),
                Err(error) => last = Some(error),
            }
        }
        match (self.cri.pull_image(reference, None, None).await, last) {
            (Ok(id), _) => Ok(id),
            // With a credential is how it should have worked; that error says more.
            (Err(_), Some(error)) | (Err(error), None) => Err(error),
        }
    }
}

fn failure(reason: &str, message: String) -> Failure {
    Failure { reason: reason.to_owned(), message }
}

/// As Go prints durations to the millisecond.
fn seconds(since: Instant) -> String {
    let elapsed = since.elapsed();
    if elapsed.as_secs() == 0 {
        format!("{}ms", elapsed.as_millis())
    } else {
        format!("{:.3}s", elapsed.as_secs_f64())
    }
}

fn policy<'a>(container: &'a Container, image: &str) -> &'a str {
    match container.image_pull_policy.as_deref() {
        Some(policy) if !policy.is_empty() => policy,
        _ if with_tag(image).ends_with(":latest") => "Always",
        _ => "IfNotPresent",
    }
}

fn valid_reference(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or_default();
    let (name, tag) = split_tag(name);
    let path_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let mut parts = name.split('/').peekable();
    let mut first = true;
    let mut ok = !name.is_empty() && image.len() <= 512;
    while let Some(part) = parts.next() {
        // Only a first part that is not the last may be a host: upper case, a port.
        let host = first && parts.peek().is_some();
        let fits = |c: char| path_ok(c) || (host && (c.is_ascii_uppercase() || matches!(c, ':' | '[' | ']')));
        ok &= !part.is_empty() && part.chars().all(fits);
        first = false;
    }
    let tag_ok = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let digest_ok = match image.split_once('@') {
        Some((_, digest)) => digest.split_once(':').is_some_and(|(kind, hex)| {
            !kind.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
        }),
        None => true,
    };
    ok && tag.is_none_or(tag_ok) && digest_ok
}

/// The name and the tag; a colon before the last slash belongs to a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    }
}

fn with_tag(image: &str) -> String {
    if image.contains('@') || split_tag(image).1.is_some() {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    auths: HashMap<String, DockerAuth>,
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
async fn credentials(pod: &Pod, reference: &str, objects: &PodObjects) -> Vec<cri::AuthConfig> {
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
        let fitting = auths.into_iter().flatten().filter(|(registry, _)| fits(registry, reference));
        found.extend(fitting.map(|(registry, auth)| to_cri(registry, auth)));
    }
    found
}

fn to_cri(registry: String, auth: DockerAuth) -> cri::AuthConfig {
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
        server_address: registry,
        identity_token: auth.identitytoken,
        registry_token: auth.registrytoken,
        ..Default::default()
    }
}

/// Whether credentials for `registry` (a host, perhaps with a path or a scheme) are for the image.
fn fits(registry: &str, reference: &str) -> bool {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (image, valid) in [
            ("busybox", true),
            ("busybox:1.36", true),
            ("Registry.example:5000/a/b:v1", true),
            ("localhost:5000/a", true),
            ("a@sha256:0123456789012345678901234567890123456789012345678901234567890123", true),
            ("", false),
            ("BusyBox", false),
            ("a b", false),
            ("a:", false),
            ("a//b", false),
            ("a@sha256:xyz", false),
        ] {
            assert_eq!(valid_reference(image), valid, "{image}");
        }
        assert_eq!(with_tag("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(with_tag("a:1"), "a:1");
    }

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
    }
}
