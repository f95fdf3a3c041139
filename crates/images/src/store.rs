//! The store itself: images, their layers, and who uses them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use tracing::warn;

use crate::index::{self, Image, Index, Wanted};
use crate::{Digest, Error, ProgressFn, archive, unpack};

/// Images and layers in one directory. Clones share what is cached.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    root: PathBuf,
    pub index: Index,
    /// One pull at a time per reference, so that a hundred pods that want one image fetch it once.
    pulls: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// What the store takes of its filesystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

/// Layers being made are not garbage while this is held.
pub struct Making(#[expect(dead_code, reason = "held for its lock")] File);

/// Beside a layer's files: what is needed to make its archive again.
pub(crate) const RECIPE: &str = "recipe.zst";

impl Store {
    /// Opens the store in `root`, making it where there is none.
    pub fn open(root: &Path) -> Result<Self, Error> {
        for part in ["layers", "leases", "tmp"] {
            let directory = root.join(part);
            fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
        }
        let store = Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                index: Index::new(root),
                pulls: Mutex::default(),
            }),
        };
        store.sweep();
        Ok(store)
    }

    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Every image.
    pub fn list(&self) -> Result<Arc<Vec<Image>>, Error> {
        self.inner.index.images()
    }

    /// The image of that name, in any form a person may write, or of that ID (or a prefix of it).
    pub fn get(&self, reference: &str) -> Result<Option<Image>, Error> {
        index::find(&self.inner.index.images()?, reference)
    }

    /// Adds the images of an archive: what `docker save`, `podman save` or `skopeo` wrote. `name` is for an archive
    /// whose image has none.
    pub fn import(
        &self,
        archive: &Path,
        name: Option<&str>,
        progress: &ProgressFn,
    ) -> Result<Vec<Image>, Error> {
        let file = File::open(archive).map_err(Error::file("open", archive))?;
        self.import_from(file, &archive.display().to_string(), name, progress)
    }

    /// As [`Store::import`], from any reader; `shown` names it in errors.
    pub fn import_from(
        &self,
        reader: impl Read,
        shown: &str,
        name: Option<&str>,
        progress: &ProgressFn,
    ) -> Result<Vec<Image>, Error> {
        archive::import(self, reader, shown, name, progress)
    }

    /// Removes a name, and the image with its last name (an ID removes all names). Layers that containers use stay
    /// until those are gone. Removing what is not there is no error: the wish is fulfilled.
    pub fn remove(&self, reference: &str) -> Result<(), Error> {
        self.inner.index.update(|images| {
            let wanted = match Wanted::parse(reference) {
                Ok(wanted) if images.iter().any(|i| i.answers_to(&wanted)) => wanted,
                _ => match index::find(images, reference)? {
                    Some(image) => Wanted::Id(image.id),
                    None => return Ok(()),
                },
            };
            for image in images.iter_mut() {
                match &wanted {
                    Wanted::Id(_) if image.answers_to(&wanted) => {
                        image.repo_tags.clear();
                        image.repo_digests.clear();
                    }
                    Wanted::Id(_) => {}
                    Wanted::Name(name) => {
                        let had = image.repo_tags.len();
                        image.repo_tags.retain(|tag| tag != name);
                        image.repo_digests.retain(|digest| digest != name);
                        if image.repo_tags.is_empty() && had > 0 {
                            image.repo_digests.clear();
                        }
                    }
                }
            }
            images.retain(|image| {
                let nameless = image.repo_tags.is_empty() && image.repo_digests.is_empty();
                !(nameless && (image.answers_to(&wanted) || matches!(wanted, Wanted::Name(_))))
            });
            Ok(())
        })?;
        self.sweep();
        Ok(())
    }

    /// The directories of the image's layers, topmost first, as the lower directories of an overlayfs mount. They are
    /// kept, even when the image is removed, until `container` is released.
    pub fn snapshot(&self, image: &Image, container: &str) -> Result<Vec<PathBuf>, Error> {
        Ok(self.snapshots(std::slice::from_ref(image), container)?.pop().unwrap_or_default())
    }

    /// As [`Store::snapshot`], of several images that one container needs, in their order.
    pub fn snapshots(&self, images: &[Image], container: &str) -> Result<Vec<Vec<PathBuf>>, Error> {
        let lease = self.lease(container)?;
        let layers: Vec<&str> = images.iter().flat_map(|i| i.layers.iter().map(String::as_str)).collect();
        fs::write(&lease, layers.join("\n")).map_err(Error::file("write", &lease))?;
        images.iter().map(|image| self.directories(image, container)).collect()
    }

    fn directories(&self, image: &Image, container: &str) -> Result<Vec<PathBuf>, Error> {
        let mut directories = Vec::with_capacity(image.layers.len());
        for diff_id in image.layers.iter().rev() {
            let layer = self.layer(diff_id)?;
            if !layer.exists() {
                self.release(container)?;
                return Err(Error::Broken {
                    reference: image.id.clone(),
                    reason: format!("layer {diff_id} is missing; remove the image and pull it again"),
                });
            }
            directories.push(layer.join("fs"));
        }
        Ok(directories)
    }

    /// The container no longer needs its layers.
    pub fn release(&self, container: &str) -> Result<(), Error> {
        let lease = self.lease(container)?;
        match fs::remove_file(&lease) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &lease)(e)),
            _ => Ok(()),
        }
    }

    /// The bytes and inodes of all layers.
    pub fn usage(&self) -> Result<Usage, Error> {
        let layers: HashSet<String> =
            self.list()?.iter().flat_map(|image| image.layers.iter().cloned()).collect();
        let mut usage = Usage::default();
        for diff_id in layers {
            let layer = self.layer_usage(&diff_id)?.unwrap_or_default();
            usage.bytes += layer.bytes;
            usage.inodes += layer.inodes;
        }
        Ok(usage)
    }

    pub(crate) fn lease(&self, container: &str) -> Result<PathBuf, Error> {
        let plain = !container.is_empty()
            && container.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !plain {
            return Err(Error::NotFound(container.to_owned()));
        }
        Ok(self.inner.root.join("leases").join(container))
    }

    pub(crate) fn layer(&self, diff_id: &str) -> Result<PathBuf, Error> {
        match index::layer_name(diff_id) {
            Some(name) => Ok(self.inner.root.join("layers").join(name)),
            None => Err(Error::Unpack {
                layer: diff_id.to_owned(),
                reason: "it is not named by a sha256 digest".to_owned(),
            }),
        }
    }

    /// What a layer takes that is there.
    pub(crate) fn layer_usage(&self, diff_id: &str) -> Result<Option<Usage>, Error> {
        let path = self.layer(diff_id)?.join("size");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mut numbers = text.split_ascii_whitespace().map_while(|n| n.parse().ok());
                let bytes = numbers.next();
                // Layers of before have no second number.
                Ok(bytes.map(|bytes| Usage { bytes, inodes: numbers.next().unwrap_or(1) }))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file("read", &path)(e)),
        }
    }

    /// While the result lives, no layer is removed.
    pub fn making(&self) -> Result<Making, Error> {
        self.sweep_lock(FlockOperation::LockShared).map(Making)
    }

    /// Unpacks a layer that must turn out to have that diff ID. Returns its size.
    pub(crate) fn add_layer(&self, _making: &Making, diff_id: &str, reader: impl Read) -> Result<u64, Error> {
        let target = self.layer(diff_id)?;
        let tmp = self.inner.root.join("tmp");
        let work = tempfile::Builder::new()
            .prefix("layer-")
            .tempdir_in(&tmp)
            .map_err(Error::file("make a directory in", &tmp))?;
        let root = work.path().join("fs");
        fs::create_dir(&root).map_err(Error::file("make", &root))?;
        let recipe = work.path().join(RECIPE);
        let recipe = File::create_new(&recipe).map_err(Error::file("make", &recipe))?;
        let unpacked = unpack::layer(reader, &root, Some(recipe))
            .map_err(|e| Error::Unpack { layer: diff_id.to_owned(), reason: e.to_string() })?;
        if unpacked.diff_id.to_string() != diff_id {
            return Err(Error::DigestMismatch {
                what: "layer".to_owned(),
                expected: diff_id.to_owned(),
                actual: unpacked.diff_id.to_string(),
            });
        }
        let size = work.path().join("size");
        fs::write(&size, format!("{} {}", unpacked.size, unpacked.files))
            .map_err(Error::file("write", &size))?;
        match fs::rename(work.path(), &target) {
            Ok(()) => {
                // It is no longer where the guard would remove it.
                let _ = work.keep();
                Ok(unpacked.size)
            }
            // Somebody else was faster; the contents are the same, by the digest.
            Err(_) if target.exists() => Ok(unpacked.size),
            Err(e) => Err(Error::file("move into place", &target)(e)),
        }
    }

    /// Puts an image whose layers are all there into the index.
    pub(crate) fn add_image(
        &self,
        _making: &Making,
        config: &[u8],
        tags: Vec<String>,
        digests: Vec<String>,
    ) -> Result<Image, Error> {
        let id = Digest::of(config).to_string();
        let broken =
            |reason: String| Error::Broken { reference: tags.first().unwrap_or(&id).clone(), reason };
        let text = std::str::from_utf8(config).map_err(|e| broken(e.to_string()))?;
        let layers = diff_ids(config).map_err(broken)?;
        let mut size = 0;
        for layer in &layers {
            size += self.layer_usage(layer)?.unwrap_or_default().bytes;
        }
        // No image takes nothing: its configuration is kept too.
        size += config.len() as u64;
        let image = Image {
            id: id.clone(),
            repo_tags: tags,
            repo_digests: digests,
            size,
            config: text.to_owned(),
            layers,
            pinned: false,
        };
        self.inner.index.update(|images| Ok(index::add(images, image)))
    }

    pub(crate) fn pull_lock(&self, reference: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulls = self.inner.pulls.lock();
        pulls.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = pulls.get(reference).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        pulls.insert(reference.to_owned(), Arc::downgrade(&lock));
        lock
    }

    fn sweep_lock(&self, operation: FlockOperation) -> Result<File, Error> {
        let path = self.inner.root.join("sweep.lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        rustix::fs::flock(&file, operation).map_err(|e| Error::file("lock", &path)(e.into()))?;
        Ok(file)
    }

    /// Removes layers that neither an image nor a container needs, and what a crash left half made. While somebody
    /// makes layers this is left for another time.
    pub fn sweep(&self) {
        let Ok(_lock) = self.sweep_lock(FlockOperation::NonBlockingLockExclusive) else {
            return;
        };
        if let Err(error) = self.sweep_locked() {
            warn!(%error, "could not remove unused image layers");
        }
    }

    fn sweep_locked(&self) -> Result<(), Error> {
        let images = self.inner.index.images()?;
        let mut needed: HashSet<String> = images
            .iter()
            .flat_map(|image| image.layers.iter())
            .filter_map(|id| index::layer_name(id))
            .collect();
        let leases = self.inner.root.join("leases");
        for lease in read_directory(&leases)? {
            let text = fs::read_to_string(&lease).map_err(Error::file("read", &lease))?;
            needed.extend(text.lines().filter_map(index::layer_name));
        }
        for layer in read_directory(&self.inner.root.join("layers"))? {
            let name = layer.file_name().unwrap_or_default().to_string_lossy();
            if !needed.contains(&*name) {
                // Out of sight at once; the removal may then take its time, or be taken up after a crash.
                let gone = self.inner.root.join("tmp").join(format!("gone-{name}"));
                fs::rename(&layer, &gone).map_err(Error::file("remove", &layer))?;
            }
        }
        for leftover in read_directory(&self.inner.root.join("tmp"))? {
            let removed =
                if leftover.is_dir() { fs::remove_dir_all(&leftover) } else { fs::remove_file(&leftover) };
            removed.map_err(Error::file("remove", &leftover))?;
        }
        Ok(())
    }
}

/// The diff IDs of an image configuration, lowest first.
pub(crate) fn diff_ids(config: &[u8]) -> Result<Vec<String>, String> {
    let parsed: oci_spec::image::ImageConfiguration =
        serde_json::from_slice(config).map_err(|e| format!("its configuration cannot be read: {e}"))?;
    let ids = parsed.rootfs().diff_ids().clone();
    match ids.iter().find(|id| index::layer_name(id).is_none()) {
        Some(bad) => Err(format!("diff ID {bad:?} is not a sha256 digest")),
        None => Ok(ids),
    }
}

pub(crate) fn read_directory(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(path).map_err(Error::file("list", path))?;
    entries.map(|entry| entry.map(|e| e.path()).map_err(Error::file("list", path))).collect()
}
