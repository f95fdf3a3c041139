//! Images from an archive: an OCI layout in a tar, or what `docker save` writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tar::EntryType;

use crate::digest::HashingReader;
use crate::index::Image;
use crate::store::{Making, Store, diff_ids};
use crate::{Digest, Error, Progress, ProgressFn, normalize, unpack};

/// Manifests and configurations are read into memory; real ones take some kilobytes.
const MAX_JSON: u64 = 8 << 20;
const MAX_FILES: usize = 100_000;
/// An index within an index within an index is nobody's honest work.
const MAX_NESTING: usize = 4;

/// The archive's files, each copied to disk once, under the names the archive gives them.
struct Files<'a> {
    shown: &'a str,
    directory: tempfile::TempDir,
    paths: HashMap<String, PathBuf>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct IndexFile {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub(crate) fn import(
    store: &Store,
    reader: impl Read,
    shown: &str,
    name: Option<&str>,
    progress: &ProgressFn,
) -> Result<Vec<Image>, Error> {
    let making = store.making()?;
    let files = Files::read(store, reader, shown)?;
    let import = Import { store, making: &making, files: &files, name, progress };
    if files.paths.contains_key("index.json") {
        import.oci()
    } else if files.paths.contains_key("manifest.json") {
        import.docker()
    } else {
        Err(files.broken("it has neither an index.json (OCI) nor a manifest.json (docker)"))
    }
}

struct Import<'a> {
    store: &'a Store,
    making: &'a Making,
    files: &'a Files<'a>,
    name: Option<&'a str>,
    progress: &'a ProgressFn,
}

impl Import<'_> {
    fn oci(&self) -> Result<Vec<Image>, Error> {
        let index: IndexFile = self.files.json("index.json")?;
        let mut images = Vec::new();
        for descriptor in &index.manifests {
            let name = ["io.containerd.image.name", "org.opencontainers.image.ref.name"]
                .iter()
                .find_map(|key| descriptor.annotations.get(*key))
                .map(String::as_str);
            // A bare tag, which `ref.name` may be, names nothing by itself.
            let name = match (self.name, name) {
                (Some(given), _) => Some(given),
                (None, Some(found)) if found.contains(['/', ':']) => Some(found),
                _ => None,
            };
            let Some(name) = name else {
                return Err(self.files.broken("an image in it has no name; give one"));
            };
            let manifest = self.manifest(descriptor, name, MAX_NESTING)?;
            images.push(self.oci_image(&manifest, name, &descriptor.digest)?);
        }
        Ok(images)
    }

    /// The manifest for this machine's platform that `descriptor` leads to.
    fn manifest(&self, descriptor: &Descriptor, name: &str, nesting: usize) -> Result<Manifest, Error> {
        let blob = self.files.verified_blob(&descriptor.digest)?;
        if !descriptor.media_type.contains("index") && !descriptor.media_type.contains("manifest.list") {
            return self.files.parse(&descriptor.digest, &blob);
        }
        let index: IndexFile = self.files.parse(&descriptor.digest, &blob)?;
        let fits = |d: &&Descriptor| match &d.platform {
            Some(p) => p.os == "linux" && p.architecture == architecture(),
            None => index.manifests.len() == 1,
        };
        match index.manifests.iter().find(fits) {
            Some(found) if nesting > 0 => self.manifest(found, name, nesting - 1),
            _ => Err(Error::NoPlatform {
                reference: name.to_owned(),
                platform: format!("linux/{}", architecture()),
            }),
        }
    }

    fn oci_image(&self, manifest: &Manifest, name: &str, digest: &str) -> Result<Image, Error> {
        let config = self.files.verified_blob(&manifest.config.digest)?;
        let layers: Vec<String> = manifest.layers.iter().map(|l| blob_name(&l.digest)).collect();
        let tag = normalize(name)?;
        let repository = crate::reference::repository(&crate::reference::parse(name)?);
        self.image(&config, &layers, vec![tag], vec![format!("{repository}@{digest}")])
    }

    fn docker(&self) -> Result<Vec<Image>, Error> {
        let listed: Vec<DockerImage> = self.files.json("manifest.json")?;
        let mut images = Vec::new();
        for image in listed {
            let config = self.files.bytes(&image.config)?;
            let names = match self.name {
                Some(name) => vec![name.to_owned()],
                None => image.repo_tags.unwrap_or_default(),
            };
            if names.is_empty() {
                return Err(self.files.broken("an image in it has no name; give one"));
            }
            let tags = names.iter().map(|n| normalize(n)).collect::<Result<_, _>>()?;
            images.push(self.image(&config, &image.layers, tags, Vec::new())?);
        }
        Ok(images)
    }

    fn image(
        &self,
        config: &[u8],
        layers: &[String],
        tags: Vec<String>,
        digests: Vec<String>,
    ) -> Result<Image, Error> {
        let ids = diff_ids(config).map_err(|reason| self.files.broken(&reason))?;
        if ids.len() != layers.len() {
            return Err(self.files.broken("its configuration and its manifest count different layers"));
        }
        for (diff_id, file) in ids.iter().zip(layers) {
            let (reader, size) = self.files.open(file)?;
            (self.progress)(Progress::Layer { digest: diff_id.clone(), size: Some(size) });
            if self.store.layer_usage(diff_id)?.is_none() {
                self.store.add_layer(self.making, diff_id, reader)?;
            }
            (self.progress)(Progress::Done { digest: diff_id.clone() });
        }
        self.store.add_image(self.making, config, tags, digests)
    }
}

impl<'a> Files<'a> {
    fn read(store: &Store, reader: impl Read, shown: &'a str) -> Result<Self, Error> {
        let tmp = store.root().join("tmp");
        let directory = tempfile::Builder::new()
            .prefix("import-")
            .tempdir_in(&tmp)
            .map_err(Error::file("make a directory in", &tmp))?;
        let mut files = Self { shown, directory, paths: HashMap::new() };
        files.copy(reader).map_err(|e| files.broken(&e.to_string()))?;
        Ok(files)
    }

    fn copy(&mut self, reader: impl Read) -> io::Result<()> {
        let mut archive = tar::Archive::new(unpack::decompress(reader)?);
        let mut links = Vec::new();
        for (count, entry) in archive.entries()?.enumerate() {
            let mut entry = entry?;
            if count == MAX_FILES {
                return Err(io::Error::other(format!("it has more than {MAX_FILES} files")));
            }
            let name = plain(&entry.path()?);
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    // Named by number: the archive's names are only keys, never paths.
                    let path = self.directory.path().join(count.to_string());
                    io::copy(&mut entry, &mut File::create_new(&path)?)?;
                    self.paths.insert(name, path);
                }
                EntryType::Symlink | EntryType::Link => {
                    if let Some(target) = entry.link_name()? {
                        links.push((name, target.into_owned()));
                    }
                }
                _ => {}
            }
        }
        // `docker save` links layers that several images share.
        for (name, target) in links {
            let beside = Path::new(&name).parent().unwrap_or(Path::new("")).join(&target);
            if let Some(path) = self.paths.get(&plain(&beside)).or_else(|| self.paths.get(&plain(&target))) {
                self.paths.insert(name, path.clone());
            }
        }
        Ok(())
    }

    fn broken(&self, reason: &str) -> Error {
        Error::Archive { archive: self.shown.to_owned(), reason: reason.to_owned() }
    }

    fn open(&self, name: &str) -> Result<(File, u64), Error> {
        let path = self.paths.get(name).ok_or_else(|| self.broken(&format!("{name} is missing in it")))?;
        let file = File::open(path).map_err(Error::file("open", path))?;
        let size = file.metadata().map_err(Error::file("look at", path))?.len();
        Ok((file, size))
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, Error> {
        let (file, size) = self.open(name)?;
        if size > MAX_JSON {
            return Err(self.broken(&format!("{name} is larger than {MAX_JSON} bytes")));
        }
        let mut bytes = Vec::new();
        file.take(MAX_JSON).read_to_end(&mut bytes).map_err(|e| self.broken(&format!("{name}: {e}")))?;
        Ok(bytes)
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T, Error> {
        serde_json::from_slice(bytes).map_err(|e| self.broken(&format!("{name}: {e}")))
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        self.parse(name, &self.bytes(name)?)
    }

    /// A blob that is what its digest says.
    fn verified_blob(&self, digest: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.bytes(&blob_name(digest))?;
        let actual = HashingReader::new(&bytes[..]).finish().map_err(|e| self.broken(&e.to_string()))?;
        if Digest::parse(digest) != Some(actual) {
            return Err(Error::DigestMismatch {
                what: format!("a blob of {}", self.shown),
                expected: digest.to_owned(),
                actual: actual.to_string(),
            });
        }
        Ok(bytes)
    }
}

fn blob_name(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// A path of the archive without `./` and `..`.
fn plain(path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    parts.join("/")
}

/// This machine's architecture, as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
