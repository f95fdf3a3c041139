//! Images of containers: pull policies, credentials, one pull at a time per image.
//!
//! An image that was brought with somebody's credentials is only for those who have them ([`records`]): a pod that cannot
//! show that it may have the image pulls it anew, and the registry decides.

mod credentials;
mod provider;
mod records;
pub mod reference;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Instant;

use image_reference::ImageReference;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::config::KubeletConfiguration;
use crate::cri::{Cri, CriError};
use crate::events::Recorder;
use crate::meters;
use crate::objects::PodObjects;
use crate::pod::machine::Failure;
use credentials::{Credential, Source};
use provider::Providers;
use records::{PullCredentials, Records};
use reference::with_tag;

pub struct Images {
    cri: Cri,
    events: Recorder,
    pulling: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// So many pulls at a time; nothing for no bound.
    turns: Option<Semaphore>,
    records: Records,
    providers: Providers,
}

impl Images {
    pub fn new(
        config: &KubeletConfiguration,
        root: &Path,
        client: kube::Client,
        cri: Cri,
        events: Recorder,
    ) -> Result<Self, String> {
        let most = config.max_parallel_image_pulls;
        // Upstream's defaults: one at a time, unless a number says that it may be more.
        let one_by_one = config.serialize_image_pulls.unwrap_or(most.is_none_or(|most| most < 2));
        let at_once = if one_by_one { Some(1) } else { most.filter(|most| *most > 0) };
        Ok(Self {
            cri,
            events,
            pulling: Mutex::default(),
            turns: at_once.map(Semaphore::new),
            records: Records::new(config, root)?,
            providers: Providers::new(config, client)?,
        })
    }

    /// The images that the runtime has: nothing need be known of others any more.
    pub fn keep_records_of(&self, images: &[String]) {
        self.records.prune(images);
    }

    /// What was being pulled when the kubelet was last killed may be there: with whose credentials, nobody knows.
    pub async fn recover(&self) {
        for image in self.records.interrupted() {
            match self.cri.image_status(&image).await {
                Ok(found) => self.records.recovered(&image, found.map(|found| found.id).as_deref()),
                Err(error) => tracing::warn!(image, %error, "cannot tell whether an image was brought"),
            }
        }
    }

    /// Makes sure that the image is there; answers with what the runtime calls it.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        objects: &PodObjects,
    ) -> Result<String, Failure> {
        let policy = policy(container, container.image.as_deref().unwrap_or_default());
        let mut told = Told { present: "unknown", required: "unknown" };
        let result = self.ensure_told(pod, container, policy, objects, &mut told).await;
        let policy = policy.to_ascii_lowercase();
        let labels =
            [("present_locally", told.present), ("pull_policy", &policy), ("pull_required", told.required)];
        meters::count("kubelet_image_manager_ensure_image_requests_total", &labels);
        result
    }

    async fn ensure_told(
        &self,
        pod: &Pod,
        container: &Container,
        policy: &str,
        objects: &PodObjects,
        told: &mut Told,
    ) -> Result<String, Failure> {
        let image = container.image.as_deref().unwrap_or_default();
        if let Err(why) = ImageReference::parse(image) {
            let message = format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {why}"
            );
            self.events.warning(pod, Some(&container.name), "InspectFailed", &message);
            return Err(failure("InvalidImageName", message));
        }
        let reference = with_tag(image);
        if policy != "Always" {
            let found = self.cri.image_status(&reference).await;
            told.present = match &found {
                Ok(Some(_)) => "true",
                Ok(None) => "false",
                Err(_) => "unknown",
            };
            told.required = "false";
            match found {
                Ok(Some(found)) if self.may_use(pod, &reference, &found.id, objects).await => {
                    let message = format!(
                        "Container image {image:?} already present on machine and can be accessed by the pod"
                    );
                    self.events.normal(pod, Some(&container.name), "Pulled", &message);
                    return Ok(found.id);
                }
                Ok(Some(_)) if policy == "Never" => {
                    let message = format!(
                        "Container image {image:?} is present with pull policy of Never but does not have the proper credentials to access the image"
                    );
                    self.events.warning(pod, Some(&container.name), "ErrImageNeverPull", &message);
                    return Err(failure("ErrImageNeverPull", message));
                }
                Ok(Some(_)) => {}
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
        told.required = "true";
        let message = format!("Pulling image {image:?}");
        self.events.normal(pod, Some(&container.name), "Pulling", &message);
        let asked = Instant::now();
        let lock = self.lock(&reference);
        let _one_at_a_time = lock.lock().await;
        // Another pod may have brought it meanwhile.
        if policy != "Always"
            && let Ok(Some(found)) = self.cri.image_status(&reference).await
            && self.may_use(pod, &reference, &found.id, objects).await
        {
            return Ok(found.id);
        }
        let _turn = match &self.turns {
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        let began = Instant::now();
        let intent = self.records.intend(&reference);
        let pulled = self.pull(pod, &reference, objects).await;
        if let Ok((id, used)) = &pulled {
            self.records.pulled(&reference, id, used.clone());
        }
        drop(intent);
        match pulled {
            Ok((id, _)) => {
                meters::observe("kubelet_image_pull_duration_seconds", &[], began.elapsed());
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
                let (reason, message) = refusal(image, &error.to_string());
                Err(failure(reason, message))
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

    /// Whether the image may be used by the pod as it is, without asking the registry.
    async fn may_use(&self, pod: &Pod, reference: &str, id: &str, objects: &PodObjects) -> bool {
        let Some(known) = self.records.to_be_shown(reference, id) else { return true };
        let secrets = credentials::of_secrets(pod, reference, objects).await;
        let account = self.providers.account(pod, reference).await;
        let shown: Vec<Source> =
            secrets.into_iter().map(|one| one.source).chain(account.map(Source::Account)).collect();
        let Some(proof) = records::proof(&known, &shown) else { return false };
        // What was shown differently is known next time.
        self.records.pulled(reference, id, proof);
        true
    }

    /// Tries each credential that fits, then none. Tells what opened the registry.
    async fn pull(
        &self,
        pod: &Pod,
        reference: &str,
        objects: &PodObjects,
    ) -> Result<(String, PullCredentials), CriError> {
        let mut last = None;
        let mut all: Vec<Credential> = credentials::of_secrets(pod, reference, objects).await;
        all.extend(self.providers.credentials(pod, reference).await);
        for Credential { auth, source } in all {
            match self.cri.pull_image(reference, Some(auth), None).await {
                Ok(id) => return Ok((id, PullCredentials::of(source))),
                Err(error) => last = Some(error),
            }
        }
        match (self.cri.pull_image(reference, None, None).await, last) {
            (Ok(id), _) => Ok((id, PullCredentials::of(Source::Node))),
            // With a credential is how it should have worked; that error says more.
            (Err(_), Some(error)) | (Err(error), None) => Err(error),
        }
    }
}

/// What is counted of a request for an image.
struct Told {
    present: &'static str,
    required: &'static str,
}

fn failure(reason: &str, message: String) -> Failure {
    Failure { reason: reason.to_owned(), message }
}

/// What a failed pull is called. Runtimes begin the message with a word where they know more than that it has failed.
fn refusal(image: &str, error: &str) -> (&'static str, String) {
    let known = [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ];
    match known.into_iter().find_map(|(reason, why)| Some((reason, why, error.split_once(reason)?.1))) {
        Some((reason, why, rest)) => (reason, format!("image pull failed for {image} because {why}{rest}")),
        None => ("ErrImagePull", error.to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runtimes_say_of_a_failed_pull() {
        let check = |error: &str, reason: &str, message: &str| {
            assert_eq!(refusal("r.example/a:1", error), (reason, message.to_owned()), "{error}");
        };
        check("no such image", "ErrImagePull", "no such image");
        check(
            "code: unknown, message: RegistryUnavailable: no answer",
            "RegistryUnavailable",
            "image pull failed for r.example/a:1 because the registry is unavailable: no answer",
        );
        check(
            "SignatureValidationFailed: image a may not be used",
            "SignatureValidationFailed",
            "image pull failed for r.example/a:1 because the signature validation failed: image a may not be used",
        );
    }
}
