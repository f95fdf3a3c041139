//! Images to a registry.

use std::io;

use futures::{StreamExt, TryStreamExt, stream};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use tokio_util::io::ReaderStream;

use crate::export::{Blob, MANIFEST, Prepared};
use crate::hosts::Registries;
use crate::pull::{Auth, client};
use crate::reference::{parse, repository};
use crate::retry::retrying;
use crate::store::Store;
use crate::{Digest, Error, Progress, ProgressFn, token};

const LAYERS_AT_ONCE: usize = 3;
/// What is handed to the connection at a time.
const CHUNK: usize = 64 << 10;

impl Store {
    /// Sends the image of that name to the registry in its name; returns the digest it has there.
    pub async fn push(
        &self,
        reference: &str,
        auth: &Auth,
        registries: &Registries,
        progress: &ProgressFn,
    ) -> Result<String, Error> {
        let parsed = parse(reference)?;
        let image = self.get(reference)?.ok_or_else(|| Error::NotFound(reference.to_owned()))?;
        // Mirrors are for pulling; the registry itself is the last.
        let endpoint = registries.endpoints(parsed.registry())?.pop();
        let endpoint = endpoint.ok_or_else(|| Error::NotFound(reference.to_owned()))?;
        let client = client(&endpoint, registries.silence)?;
        let mut asked = parsed.clone();
        if endpoint.host != parsed.registry() {
            asked.set_mirror_registry(endpoint.host.clone());
        }
        let auth = token::registry_auth(auth, &endpoint, &asked, RegistryOperation::Push).await?;
        let (store, shown) = (self.clone(), progress.clone());
        let work = move || {
            let making = store.making()?;
            let prepared = store.prepare(&making, &image, true, &shown)?;
            Ok((making, prepared))
        };
        let prepared = tokio::task::spawn_blocking(work).await;
        let transfer =
            |source: io::Error| Error::Transfer { operation: "push", reference: parsed.whole(), source };
        let (_making, prepared) = prepared.map_err(|e| transfer(io::Error::other(e)))??;
        let push = Push { client: &client, asked: &asked, reference: &parsed, progress };
        let digest = push.run(&auth, &prepared).await?;
        self.add_digest(reference, &format!("{}@{digest}", repository(&parsed)))?;
        Ok(digest)
    }
}

struct Push<'a> {
    client: &'a Client,
    asked: &'a Reference,
    reference: &'a Reference,
    progress: &'a ProgressFn,
}

impl Push<'_> {
    async fn run(&self, auth: &RegistryAuth, prepared: &Prepared) -> Result<String, Error> {
        let auth = retrying(|| self.client.auth(self.asked, auth, RegistryOperation::Push));
        auth.await.map_err(|e| self.failed(e))?;
        stream::iter(prepared.layers.iter().map(Ok))
            .try_for_each_concurrent(LAYERS_AT_ONCE, async |blob| self.layer(blob).await)
            .await?;
        let configuration = bytes::Bytes::from(prepared.configuration.clone());
        let digest = Digest::of(&configuration).to_string();
        retrying(|| self.client.push_blob(self.asked, configuration.clone(), &digest))
            .await
            .map_err(|e| self.failed(e))?;
        let manifest = bytes::Bytes::from(prepared.manifest());
        let kind = http::HeaderValue::from_static(MANIFEST);
        retrying(|| self.client.push_manifest_raw(self.asked, manifest.clone(), kind.clone()))
            .await
            .map_err(|e| self.failed(e))?;
        Ok(Digest::of(&manifest).to_string())
    }

    async fn layer(&self, blob: &Blob) -> Result<(), Error> {
        let digest = blob.digest.clone();
        (self.progress)(Progress::Layer { digest: digest.clone(), size: Some(blob.size) });
        // A registry that cannot say gets it once more.
        if !self.client.blob_exists(self.asked, &digest).await.unwrap_or(false) {
            retrying(|| self.send(blob)).await.map_err(|e| self.failed(e))?;
        }
        (self.progress)(Progress::Done { digest });
        Ok(())
    }

    async fn send(&self, blob: &Blob) -> Result<String, OciDistributionError> {
        let file = tokio::fs::File::from_std(blob.reader()?);
        let (progress, digest) = (self.progress.clone(), blob.digest.clone());
        let bytes = ReaderStream::with_capacity(file, CHUNK).map_err(Into::into).inspect_ok(move |bytes| {
            progress(Progress::Read { digest: digest.clone(), bytes: bytes.len() as u64 });
        });
        self.client.push_blob_stream(self.asked, bytes.boxed(), &blob.digest, Some(blob.size)).await
    }

    fn failed(&self, source: OciDistributionError) -> Error {
        Error::Registry { operation: "push", reference: self.reference.whole(), source: Box::new(source) }
    }
}
