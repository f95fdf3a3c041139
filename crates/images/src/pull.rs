//! Images from a registry.

use std::io;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncReadExt;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tracing::debug;

use crate::archive::architecture;
use crate::index::Image;
use crate::reference::{parse, repository};
use crate::store::{Making, Store, diff_ids};
use crate::{Digest, Error, Progress, ProgressFn};

/// As much of a configuration as is read into memory.
const MAX_CONFIG: u64 = 8 << 20;
const LAYERS_AT_ONCE: usize = 3;
/// A layer whose transfer breaks off is begun anew so many times in all.
const ATTEMPTS: usize = 3;
/// A registry that says nothing for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);

/// Who one is to a registry.
#[derive(Clone, Default)]
pub enum Auth {
    #[default]
    Anonymous,
    Basic {
        user: String,
        password: String,
    },
    Bearer(String),
}

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// Registries (`host:port`) spoken to without TLS, besides those on loopback addresses.
    pub insecure: Vec<String>,
}

impl Store {
    /// Fetches the image that `reference` names, for this machine's platform; layers that are there are not fetched
    /// again.
    pub async fn pull(
        &self,
        reference: &str,
        auth: &Auth,
        registries: &Registries,
        progress: &ProgressFn,
    ) -> Result<Image, Error> {
        let parsed = parse(reference)?;
        let lock = self.pull_lock(&parsed.whole());
        let _alone = lock.lock().await;
        let making = self.making()?;
        let client = client(&parsed, registries);
        let pull = Pull { store: self, client: &client, reference: &parsed, progress };
        pull.run(auth, &making).await
    }
}

fn client(reference: &Reference, registries: &Registries) -> Client {
    let registry = reference.resolve_registry();
    let insecure = is_loopback(registry) || registries.insecure.iter().any(|r| r == registry);
    Client::new(ClientConfig {
        protocol: if insecure { ClientProtocol::Http } else { ClientProtocol::Https },
        platform_resolver: Some(Box::new(|entries| {
            let fits = |entry: &&oci_client::manifest::ImageIndexEntry| {
                entry.platform.as_ref().is_some_and(|p| {
                    p.os.to_string() == "linux" && p.architecture.to_string() == architecture()
                })
            };
            entries.iter().find(fits).map(|entry| entry.digest.clone())
        })),
        connect_timeout: Some(Duration::from_secs(15)),
        read_timeout: Some(SILENCE),
        user_agent: concat!("corten/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    })
}

/// Whether a registry is on this machine, where TLS would guard nothing.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

struct Pull<'a> {
    store: &'a Store,
    client: &'a Client,
    reference: &'a Reference,
    progress: &'a ProgressFn,
}

impl Pull<'_> {
    async fn run(&self, auth: &Auth, making: &Making) -> Result<Image, Error> {
        let auth = match auth {
            Auth::Anonymous => RegistryAuth::Anonymous,
            Auth::Basic { user, password } => RegistryAuth::Basic(user.clone(), password.clone()),
            Auth::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        };
        let (manifest, digest, list_digest) = self
            .client
            .pull_image_manifest_and_list_digest(self.reference, &auth)
            .await
            .map_err(|e| self.registry(e))?;
        let config = self.config(&manifest.config).await?;
        let ids = diff_ids(&config).map_err(|reason| self.broken(reason))?;
        if ids.len() != manifest.layers.len() {
            return Err(self.broken("its configuration and its manifest count different layers"));
        }
        self.layers(&manifest, &ids).await?;
        let repository = repository(self.reference);
        let digest = list_digest.unwrap_or(digest);
        // Whoever asks by a digest gives no tag away, even if there is one beside it.
        let tagged = self.reference.digest().is_none();
        let tags = if tagged { vec![self.reference.whole()] } else { Vec::new() };
        self.store.add_image(making, &config, tags, vec![format!("{repository}@{digest}")])
    }

    async fn config(&self, descriptor: &OciDescriptor) -> Result<Vec<u8>, Error> {
        let stream =
            self.client.pull_blob_stream(self.reference, descriptor).await.map_err(|e| self.registry(e))?;
        let mut bytes = Vec::new();
        StreamReader::new(stream.stream)
            .take(MAX_CONFIG)
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| self.transfer(e))?;
        let actual = Digest::of(&bytes);
        if Digest::parse(&descriptor.digest) != Some(actual) {
            return Err(Error::DigestMismatch {
                what: format!("the configuration of {}", self.reference),
                expected: descriptor.digest.clone(),
                actual: actual.to_string(),
            });
        }
        Ok(bytes)
    }

    async fn layers(&self, manifest: &OciImageManifest, ids: &[String]) -> Result<(), Error> {
        stream::iter(manifest.layers.iter().zip(ids).map(Ok))
            .try_for_each_concurrent(LAYERS_AT_ONCE, async |(descriptor, diff_id)| {
                self.layer(descriptor, diff_id).await
            })
            .await
    }

    async fn layer(&self, descriptor: &OciDescriptor, diff_id: &str) -> Result<(), Error> {
        (self.progress)(Progress::Layer {
            digest: diff_id.to_owned(),
            size: u64::try_from(descriptor.size).ok(),
        });
        if self.store.layer_usage(diff_id)?.is_none() {
            let mut attempt = 1;
            while let Err(error) = self.fetch(descriptor, diff_id).await {
                let worth_another = matches!(error, Error::Transfer { .. } | Error::Unpack { .. });
                if !worth_another || attempt == ATTEMPTS {
                    return Err(error);
                }
                debug!(%error, attempt, "layer transfer broke off, beginning anew");
                attempt += 1;
            }
        }
        (self.progress)(Progress::Done { digest: diff_id.to_owned() });
        Ok(())
    }

    /// Downloads and unpacks in one go; neither the compressed nor the uncompressed archive is kept.
    async fn fetch(&self, descriptor: &OciDescriptor, diff_id: &str) -> Result<(), Error> {
        let blob =
            self.client.pull_blob_stream(self.reference, descriptor).await.map_err(|e| self.registry(e))?;
        let (progress, digest) = (self.progress.clone(), diff_id.to_owned());
        let counted = blob.stream.inspect_ok(move |bytes| {
            progress(Progress::Read { digest: digest.clone(), bytes: bytes.len() as u64 });
        });
        let reader = SyncIoBridge::new(StreamReader::new(counted.boxed()));
        let (store, diff_id) = (self.store.clone(), diff_id.to_owned());
        tokio::task::spawn_blocking(move || {
            // A lock of its own: the task goes on when the pull is cancelled.
            let making = store.making()?;
            store.add_layer(&making, &diff_id, reader)
        })
        .await
        .map_err(|e| self.transfer(io::Error::other(e)))??;
        Ok(())
    }

    fn registry(&self, source: OciDistributionError) -> Error {
        Error::Registry { reference: self.reference.whole(), source: Box::new(source) }
    }

    fn transfer(&self, source: io::Error) -> Error {
        Error::Transfer { reference: self.reference.whole(), source }
    }

    fn broken(&self, reason: impl Into<String>) -> Error {
        Error::Broken { reference: self.reference.whole(), reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_this_machine_is_loopback() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["docker.io", "10.0.0.1:5000", "localhost.example.com", "127.0.0.1.nip.io:80"] {
            assert!(!is_loopback(no), "{no}");
        }
    }
}
