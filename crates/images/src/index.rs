//! The index: which images there are. One JSON file, changed under a lock, replaced atomically.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::{Digest, Error};

/// One image of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration: what Kubernetes calls the image ID.
    pub id: String,
    /// Full names with a tag.
    pub repo_tags: Vec<String>,
    /// Full names with a manifest digest.
    pub repo_digests: Vec<String>,
    /// The bytes of its layers on disk.
    pub size: u64,
    /// The configuration as it came, byte for byte.
    pub config: String,
    /// The diff IDs of its layers, lowest first.
    pub layers: Vec<String>,
    /// Never removed by garbage collection.
    #[serde(default)]
    pub pinned: bool,
}

impl Image {
    pub fn configuration(&self) -> Result<ImageConfiguration, Error> {
        serde_json::from_str(&self.config).map_err(|e| Error::Broken {
            reference: self.id.clone(),
            reason: format!("its configuration cannot be read: {e}"),
        })
    }

    pub(crate) fn answers_to(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Id(id) => self.id == *id,
            Wanted::Name(name) => self.repo_tags.contains(name) || self.repo_digests.contains(name),
        }
    }
}

/// The image that a text means: its id, one of its names, or the beginning of an id that no other image has.
pub(crate) fn find(images: &[Image], text: &str) -> Result<Option<Image>, Error> {
    let wanted = Wanted::parse(text);
    if let Ok(wanted) = &wanted
        && let Some(found) = images.iter().find(|image| image.answers_to(wanted))
    {
        return Ok(Some(found.clone()));
    }
    let Some(prefix) = hex_of(text) else { return wanted.map(|_| None) };
    let mut beginning = images.iter().filter(|image| image.id["sha256:".len()..].starts_with(prefix));
    match (beginning.next(), beginning.next()) {
        (Some(_), Some(_)) => Err(Error::Ambiguous(text.to_owned())),
        (found, _) => Ok(found.cloned()),
    }
}

/// The digits of an id or of its beginning.
fn hex_of(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let all = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    all.then_some(hex)
}

/// How an image is asked for.
pub(crate) enum Wanted {
    /// `sha256:` and all digits.
    Id(String),
    /// A full reference.
    Name(String),
}

impl Wanted {
    pub fn parse(text: &str) -> Result<Self, Error> {
        match hex_of(text).filter(|hex| hex.len() == 64) {
            Some(hex) => Ok(Wanted::Id(format!("sha256:{hex}"))),
            None => crate::normalize(text).map(Wanted::Name),
        }
    }
}

/// Tells whether the file is still the one that was read.
type Stamp = Option<(u64, i64, i64, u64)>;

/// The index file with the last state read of it.
pub(crate) struct Index {
    path: PathBuf,
    lock: PathBuf,
    read: Mutex<(Stamp, Arc<Vec<Image>>)>,
}

impl Index {
    pub fn new(root: &Path) -> Self {
        Self { path: root.join("index.json"), lock: root.join("lock"), read: Mutex::default() }
    }

    /// All images, as the last writer of any process left them.
    pub fn images(&self) -> Result<Arc<Vec<Image>>, Error> {
        let mut read = self.read.lock();
        let stamp = self.stamp()?;
        if stamp != read.0 || stamp.is_none() {
            *read = (stamp, Arc::new(self.load()?));
        }
        Ok(read.1.clone())
    }

    /// Changes the index, alone among all processes, with `change`, whose own work on the store is covered too.
    pub fn update<T>(&self, change: impl FnOnce(&mut Vec<Image>) -> Result<T, Error>) -> Result<T, Error> {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)
            .map_err(Error::file("open", &self.lock))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|e| Error::file("lock", &self.lock)(e.into()))?;
        let mut images = self.load()?;
        let result = change(&mut images)?;
        self.save(&images).map_err(Error::file("write", &self.path))?;
        *self.read.lock() = (self.stamp()?, Arc::new(images));
        Ok(result)
    }

    fn stamp(&self) -> Result<Stamp, Error> {
        match fs::metadata(&self.path) {
            Ok(m) => Ok(Some((m.ino(), m.ctime(), m.ctime_nsec(), m.size()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::file("look at", &self.path)(e)),
        }
    }

    fn load(&self) -> Result<Vec<Image>, Error> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| Error::Index { path: self.path.clone(), source }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::file("read", &self.path)(e)),
        }
    }

    fn save(&self, images: &[Image]) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(images)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }
}

/// Adds `image`, or its names where the image is known: the newest first. A name belongs to the image that got it last.
pub(crate) fn add(images: &mut Vec<Image>, image: Image) -> Image {
    for other in images.iter_mut() {
        other.repo_tags.retain(|tag| !image.repo_tags.contains(tag));
        other.repo_digests.retain(|digest| !image.repo_digests.contains(digest));
    }
    match images.iter_mut().find(|known| known.id == image.id) {
        Some(known) => {
            known.repo_tags.splice(0..0, image.repo_tags);
            known.repo_digests.splice(0..0, image.repo_digests);
            known.clone()
        }
        None => {
            images.push(image.clone());
            image
        }
    }
}

/// The digest of a layer as a directory name; what is not a digest names no layer.
pub(crate) fn layer_name(diff_id: &str) -> Option<String> {
    Digest::parse(diff_id).map(|digest| digest.hex())
}
