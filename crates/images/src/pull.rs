//! Images from a registry.

use std::io;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio::io::AsyncReadExt;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tracing::warn;

use crate::archive::architecture;
use crate::hosts::{Endpoint, Registries};
use crate::index::Image;
use crate::reference::{parse, repository};
use crate::retry::retrying;
use crate::store::{Making, Store, diff_ids};
use crate::{Digest, Error, Policy, Progress, ProgressFn, token, transfer};

/// As much of a configuration as is read into memory.
const MAX_CONFIG: u64 = 8 << 20;
const LAYERS_AT_ONCE: usize = 3;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

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
    /// A refresh token, exchanged for one of the above.
    Identity(String),
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
        let mut endpoints = registries.endpoints(parsed.registry())?.into_iter().peekable();
        loop {
            let Some(endpoint) = endpoints.next() else { return Err(Error::NotFound(reference.to_owned())) };
            // Credentials are for the registry, not for whoever mirrors it.
            let own = endpoints.peek().is_none();
            let auth = if own { auth } else { &Auth::Anonymous };
            match self.pull_from(&parsed, &endpoint, own, auth, &making, registries, progress).await {
                // Wherever it comes from, it may not be had.
                Err(error @ Error::Policy { .. }) => return Err(error),
                Err(error) if !own => {
                    warn!(image = reference, mirror = endpoint.host, %error, "not pulled from a mirror");
                }
                result => return result,
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a pull is, told once")]
    async fn pull_from(
        &self,
        reference: &Reference,
        endpoint: &Endpoint,
        own: bool,
        auth: &Auth,
        making: &Making,
        registries: &Registries,
        progress: &ProgressFn,
    ) -> Result<Image, Error> {
        let client = client(endpoint, registries.silence)?;
        let mut asked = reference.clone();
        if !own || endpoint.host != reference.registry() {
            asked.set_mirror_registry(endpoint.host.clone());
        }
        let auth = token::registry_auth(auth, endpoint, &asked, RegistryOperation::Pull).await?;
        let pull = Pull {
            store: self,
            client: &client,
            asked: &asked,
            reference,
            policy: &registries.policy,
            progress,
        };
        pull.run(&auth, making).await
    }
}

pub(crate) fn client(endpoint: &Endpoint, silence: Duration) -> Result<Client, Error> {
    Ok(Client::new(ClientConfig {
        protocol: if endpoint.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
        accept_invalid_certificates: endpoint.skip_verify,
        extra_root_certificates: endpoint.certificates()?,
        platform_resolver: Some(Box::new(|entries| {
            let fits = |entry: &&oci_client::manifest::ImageIndexEntry| {
                entry.platform.as_ref().is_some_and(|p| {
                    p.os.to_string() == "linux" && p.architecture.to_string() == architecture()
                })
            };
            entries.iter().find(fits).map(|entry| entry.digest.clone())
        })),
        use_monolithic_push: true,
        connect_timeout: Some(Duration::from_secs(15)),
        read_timeout: Some(silence),
        user_agent: concat!("corten/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    }))
}

struct Pull<'a> {
    store: &'a Store,
    client: &'a Client,
    /// With the mirror in it that is asked.
    asked: &'a Reference,
    reference: &'a Reference,
    policy: &'a Policy,
    progress: &'a ProgressFn,
}

impl Pull<'_> {
    async fn run(&self, auth: &RegistryAuth, making: &Making) -> Result<Image, Error> {
        let ask = || self.client.pull_image_manifest_and_list_digest(self.asked, auth);
        let (manifest, digest, list_digest) = retrying(ask).await.map_err(|e| self.registry(e))?;
        let resolved = list_digest.as_ref().unwrap_or(&digest);
        let kind = if list_digest.is_some() { INDEX } else { crate::export::MANIFEST };
        self.policy.check(self.reference, resolved, 0, kind).await?;
        let config = self.config(&manifest.config).await?;
        let ids = diff_ids(&config).map_err(|reason| self.broken(reason))?;
        self.check_platform(&config)?;
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
        let stream = std::pin::pin!(transfer::blob(self.client, self.asked, descriptor));
        let mut bytes = Vec::new();
        StreamReader::new(stream)
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
            self.fetch(descriptor, diff_id).await?;
        }
        (self.progress)(Progress::Done { digest: diff_id.to_owned() });
        Ok(())
    }

    /// Downloads and unpacks in one go; neither the compressed nor the uncompressed archive is kept.
    async fn fetch(&self, descriptor: &OciDescriptor, diff_id: &str) -> Result<(), Error> {
        let blob = transfer::blob(self.client, self.asked, descriptor);
        let (progress, digest) = (self.progress.clone(), diff_id.to_owned());
        let counted = blob.inspect_ok(move |bytes| {
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

    /// An image that is there for one platform only may be there for another.
    fn check_platform(&self, config: &[u8]) -> Result<(), Error> {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Platform {
            os: String,
            architecture: String,
        }
        let found: Platform = serde_json::from_slice(config).unwrap_or_default();
        let runs = match (architecture(), found.architecture.as_str()) {
            (_, "") | ("amd64", "386") => true,
            (own, other) => own == other,
        };
        if runs && (found.os.is_empty() || found.os == "linux") {
            return Ok(());
        }
        Err(self.no_platform())
    }

    fn no_platform(&self) -> Error {
        Error::NoPlatform { reference: self.reference.whole(), platform: format!("linux/{}", architecture()) }
    }

    fn registry(&self, source: OciDistributionError) -> Error {
        // What the client says of an index in which there is nothing for us.
        if matches!(&source, OciDistributionError::ImageManifestNotFoundError(m) if m.contains("platform")) {
            return self.no_platform();
        }
        Error::Registry { operation: "pull", reference: self.reference.whole(), source: Box::new(source) }
    }

    fn transfer(&self, source: io::Error) -> Error {
        Error::Transfer { operation: "pull", reference: self.reference.whole(), source }
    }

    fn broken(&self, reason: impl Into<String>) -> Error {
        Error::Broken { reference: self.reference.whole(), reason: reason.into() }
    }
}
