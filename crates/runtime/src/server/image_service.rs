//! ImageService.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use k8s_cri::v1::image_service_server::ImageService;
use k8s_cri::v1::{
    AuthConfig, FilesystemIdentifier, FilesystemUsage, Image, ImageFsInfoRequest, ImageFsInfoResponse,
    ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value, ListImagesRequest, ListImagesResponse,
    PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse, StreamImagesRequest,
    StreamImagesResponse, UInt64Value,
};
use tonic::{Request, Response, Status};

use super::Service;
use super::lists::{Pages, pages};
use crate::events::now;
use crate::spec::process::ImageProcess;
use crate::state::blocking;
use crate::{Error, Result};

type Answer<T> = std::result::Result<Response<T>, Status>;

#[async_trait::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let (runtime, filter) = (self.0.clone(), request.into_inner().filter);
        let images = blocking(move || runtime.list_images(filter));
        Ok(Response::new(ListImagesResponse { images: images.await? }))
    }

    type StreamImagesStream = Pages<StreamImagesResponse>;

    async fn stream_images(&self, request: Request<StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        let (runtime, filter) = (self.0.clone(), request.into_inner().filter);
        let images = blocking(move || runtime.list_images(filter)).await?;
        Ok(Response::new(pages(images, |images| StreamImagesResponse { images })))
    }

    /// An image that is not there is an answer without an image, not an error.
    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        let request = request.into_inner();
        let wanted = required(request.image)?;
        let image = self.0.images.get(&wanted).map_err(Error::from)?;
        let mut info = HashMap::new();
        if let Some(image) = image.as_ref().filter(|_| request.verbose) {
            info.insert("info".to_owned(), format!(r#"{{"imageSpec":{}}}"#, image.config));
        }
        Ok(Response::new(ImageStatusResponse { image: image.as_ref().map(describe), info }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let request = request.into_inner();
        let handler = request.image.as_ref().map(|i| i.runtime_handler.clone()).unwrap_or_default();
        self.0.handler(&handler)?;
        let wanted = required(request.image)?;
        let auth = auth(request.auth.filter(|auth| is_for(&auth.server_address, &wanted)))?;
        let registries = images::Registries::default();
        let store = self.0.images.clone();
        // A kubelet that gives up waiting asks again: the pull goes on and is then there.
        let pulled =
            tokio::spawn(
                async move { store.pull(&wanted, &auth, &registries, &images::no_progress()).await },
            );
        let image = pulled.await.map_err(|e| Status::internal(e.to_string()))?.map_err(Error::from)?;
        Ok(Response::new(PullImageResponse { image_ref: image.id }))
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        let wanted = required(request.into_inner().image)?;
        let runtime = self.0.clone();
        blocking(move || {
            // By whatever name it is asked for, all names go: the CRI removes images, not tags.
            if let Some(image) = runtime.images.get(&wanted)? {
                runtime.images.remove(&image.id)?;
                runtime.accounts.lock().remove(&image.id);
            }
            Ok(())
        })
        .await?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        let store = self.0.images.clone();
        let usage = blocking(move || Ok(store.usage()?)).await?;
        let filesystem = FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: self.0.images.root().display().to_string() }),
            used_bytes: Some(UInt64Value { value: usage.bytes }),
            inodes_used: Some(UInt64Value { value: usage.inodes }),
        };
        // Containers are told of only where they are on another filesystem: a kubelet would count twice.
        let device = |path: &Path| std::fs::metadata(path).map(|m| m.dev()).ok();
        let containers = self.0.config.root_dir.join("containers");
        let mut container_filesystems = Vec::new();
        if device(&containers) != device(self.0.images.root()) {
            let runtime = self.0.clone();
            container_filesystems.push(blocking(move || Ok(runtime.containers_usage())).await?);
        }
        Ok(Response::new(ImageFsInfoResponse { image_filesystems: vec![filesystem], container_filesystems }))
    }
}

pub fn name(spec: Option<ImageSpec>) -> String {
    spec.map(|s| s.image).unwrap_or_default()
}

fn required(spec: Option<ImageSpec>) -> Result<String> {
    Some(name(spec))
        .filter(|n| !n.is_empty())
        .ok_or_else(|| Error::InvalidArgument("the request names no image".into()))
}

pub fn describe(image: &images::Image) -> Image {
    let process = image.configuration().map(|c| ImageProcess::of(&c)).unwrap_or_default();
    let user = process.user.split(':').next().unwrap_or_default();
    // A number is the user's id, anything else a name; the kubelet checks runAsNonRoot against them.
    let (uid, username) = match user.parse() {
        Ok(uid) => (Some(Int64Value { value: uid }), String::new()),
        Err(_) => (None, user.to_owned()),
    };
    Image {
        id: image.id.clone(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        size: image.size,
        uid,
        username,
        spec: None,
        pinned: image.pinned,
    }
}

/// Whether credentials may be shown to the registry of an image: those that name a server, to that one only.
fn is_for(server: &str, image: &str) -> bool {
    let server = server.split_once("://").map_or(server, |(_, rest)| rest);
    let host = match server.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    let full = images::normalize(image).unwrap_or_default();
    host.is_empty() || full.split('/').next() == Some(host)
}

fn auth(config: Option<AuthConfig>) -> Result<images::Auth> {
    use base64::Engine;
    let Some(config) = config else { return Ok(images::Auth::Anonymous) };
    if !config.registry_token.is_empty() {
        return Ok(images::Auth::Bearer(config.registry_token));
    }
    if !config.username.is_empty() {
        return Ok(images::Auth::Basic { user: config.username, password: config.password });
    }
    if !config.identity_token.is_empty() {
        return Ok(images::Auth::Identity(config.identity_token));
    }
    if config.auth.is_empty() {
        return Ok(images::Auth::Anonymous);
    }
    let invalid =
        || Error::InvalidArgument("the registry credentials are not base64 of user:password".to_owned());
    let bytes = base64::engine::general_purpose::STANDARD.decode(&config.auth).map_err(|_| invalid())?;
    let text = String::from_utf8(bytes).map_err(|_| invalid())?;
    let (user, password) = text.split_once(':').ok_or_else(invalid)?;
    Ok(images::Auth::Basic { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_the_server_that_they_name() {
        for (server, image, expected) in [
            ("", "reg.example/a", true),
            ("https://reg.example/v2/", "reg.example/a", true),
            ("reg.example:5000", "reg.example:5000/a:1", true),
            ("reg.example", "reg.example:5000/a:1", false),
            ("https://index.docker.io/v1/", "busybox", true),
            ("other.example", "busybox", false),
        ] {
            assert_eq!(is_for(server, image), expected, "{server} {image}");
        }
    }
}
