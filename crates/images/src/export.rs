//! Images as archives and as blobs for a registry, out of the files that the store has.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};

use serde_json::{Value, json};

use crate::digest::HashingWriter;
use crate::index::Image;
use crate::store::{Making, Store};
use crate::{Digest, Error, Progress, ProgressFn};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer's archive in a file that has no name.
pub(crate) struct Blob {
    pub digest: String,
    pub size: u64,
    pub file: File,
    media_type: &'static str,
}

impl Blob {
    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.size})
    }

    pub fn reader(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }
}

/// An image made into what registries and archives hold.
pub(crate) struct Prepared {
    pub configuration: Vec<u8>,
    pub layers: Vec<Blob>,
}

impl Prepared {
    pub fn manifest(&self) -> Vec<u8> {
        let configuration = json!({
            "mediaType": CONFIGURATION,
            "digest": Digest::of(&self.configuration).to_string(),
            "size": self.configuration.len(),
        });
        let layers: Vec<Value> = self.layers.iter().map(Blob::descriptor).collect();
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": configuration, "layers": layers})
            .to_string()
            .into_bytes()
    }
}

impl Store {
    /// The image's blobs. A layer whose very bytes cannot be made again gets a new diff ID, and the image a new id.
    pub(crate) fn prepare(
        &self,
        _making: &Making,
        image: &Image,
        compressed: bool,
        progress: &ProgressFn,
    ) -> Result<Prepared, Error> {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for diff_id in &image.layers {
            let size = self.layer_usage(diff_id)?.map(|u| u.bytes);
            progress(Progress::Layer { digest: diff_id.clone(), size });
            let (blob, actual) = self.blob(diff_id, compressed)?;
            progress(Progress::Done { digest: diff_id.clone() });
            layers.push(blob);
            diff_ids.push(actual);
        }
        let mut configuration = image.config.clone().into_bytes();
        if diff_ids != image.layers {
            let broken = |reason: String| Error::Broken { reference: image.id.clone(), reason };
            let mut parsed: Value =
                serde_json::from_slice(&configuration).map_err(|e| broken(e.to_string()))?;
            parsed["rootfs"]["diff_ids"] = diff_ids.into();
            configuration = parsed.to_string().into_bytes();
        }
        Ok(Prepared { configuration, layers })
    }

    fn blob(&self, diff_id: &str, compressed: bool) -> Result<(Blob, String), Error> {
        let directory = self.root().join("tmp");
        let fail = || Error::file("write an archive in", &directory);
        let file = tempfile::tempfile_in(&directory).map_err(fail())?;
        let out = HashingWriter::new(BufWriter::with_capacity(256 << 10, file));
        let (out, actual, media_type) = if compressed {
            // The same bytes each time, so that a registry has them already when they come again.
            let mut encoder = flate2::GzBuilder::new().mtime(0).write(out, flate2::Compression::new(6));
            let actual = self.write_layer(diff_id, &mut encoder)?;
            (encoder.finish().map_err(fail())?, actual, LAYER_GZIP)
        } else {
            let mut out = out;
            let actual = self.write_layer(diff_id, &mut out)?;
            (out, actual, LAYER)
        };
        let size = out.size();
        let (digest, buffered) = out.finish();
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error).map_err(fail())?;
        Ok((Blob { digest: digest.to_string(), size, file, media_type }, actual))
    }

    /// Writes images into one archive, which this store, `docker load`, `podman load` and `skopeo` read.
    pub fn export(&self, references: &[String], out: impl Write, progress: &ProgressFn) -> Result<(), Error> {
        let making = self.making()?;
        let fail = |e: io::Error| Error::file("write", "the archive")(e);
        let mut archive = Archive { builder: tar::Builder::new(out), written: Vec::new() };
        let (mut manifests, mut docker) = (Vec::new(), Vec::new());
        for reference in references {
            let image = self.get(reference)?.ok_or_else(|| Error::NotFound(reference.clone()))?;
            let prepared = self.prepare(&making, &image, false, progress)?;
            let manifest = prepared.manifest();
            let mut paths = Vec::new();
            for blob in &prepared.layers {
                paths
                    .push(archive.blob(&blob.digest, blob.size, blob.reader().map_err(fail)?).map_err(fail)?);
            }
            let configuration = archive.bytes(&prepared.configuration).map_err(fail)?;
            archive.bytes(&manifest).map_err(fail)?;
            // By the name that it was asked for, if that is one of its own.
            let wished = crate::normalize(reference).ok().filter(|name| image.repo_tags.contains(name));
            let names = wished.map_or_else(|| image.repo_tags.clone(), |name| vec![name]);
            docker.push(json!({"Config": configuration, "RepoTags": names, "Layers": paths}));
            let descriptor = |name: Option<&String>| {
                let mut descriptor = json!({
                    "mediaType": MANIFEST, "digest": Digest::of(&manifest).to_string(), "size": manifest.len(),
                });
                if let Some(name) = name {
                    let tag = name.rsplit(':').next().unwrap_or_default();
                    descriptor["annotations"] =
                        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
                }
                descriptor
            };
            if names.is_empty() {
                manifests.push(descriptor(None));
            }
            manifests.extend(names.iter().map(|name| descriptor(Some(name))));
        }
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
        });
        let finish = || {
            archive.file("index.json", index.to_string().as_bytes())?;
            archive.file("manifest.json", Value::from(docker).to_string().as_bytes())?;
            archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            archive.builder.finish()?;
            archive.builder.get_mut().flush()
        };
        finish().map_err(fail)
    }
}

struct Archive<W: Write> {
    builder: tar::Builder<W>,
    /// Blobs that several images share are written once.
    written: Vec<String>,
}

impl<W: Write> Archive<W> {
    fn blob(&mut self, digest: &str, size: u64, reader: impl Read) -> io::Result<String> {
        let path = format!("blobs/{}", digest.replacen(':', "/", 1));
        if !self.written.contains(&path) {
            self.entry(&path, size, reader)?;
            self.written.push(path.clone());
        }
        Ok(path)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<String> {
        self.blob(&Digest::of(bytes).to_string(), bytes.len() as u64, bytes)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, bytes.len() as u64, bytes)
    }

    fn entry(&mut self, path: &str, size: u64, reader: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        self.builder.append_data(&mut header, path, reader)
    }
}
