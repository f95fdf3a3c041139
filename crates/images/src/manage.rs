//! What people and builds do with images that are there: names, pins, new layers, what may go.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::digest::HashingWriter;
use crate::index::{self, Image};
use crate::store::{Making, RECIPE, Store, read_directory};
use crate::unpack::recipe;
use crate::{Error, normalize, pack};

/// Leases of builds begin like this: what they hold is a cache, which may go.
const CACHE: &str = "build-";

impl Store {
    /// Gives an image a further name.
    pub fn tag(&self, reference: &str, name: &str) -> Result<Image, Error> {
        let tag = normalize(name)?;
        if tag.contains('@') {
            return Err(Error::Untaggable(name.to_owned()));
        }
        self.inner.index.update(|images| {
            let found =
                index::find(images, reference)?.ok_or_else(|| Error::NotFound(reference.to_owned()))?;
            let named = Image { repo_tags: vec![tag], repo_digests: Vec::new(), ..found };
            Ok(index::add(images, named))
        })
    }

    /// A pinned image is not removed to make room.
    pub fn pin(&self, reference: &str, pinned: bool) -> Result<Image, Error> {
        self.change(reference, |image| image.pinned = pinned)
    }

    /// Notes by which digest a registry has an image.
    pub(crate) fn add_digest(&self, reference: &str, digest: &str) -> Result<Image, Error> {
        self.change(reference, |image| {
            if !image.repo_digests.iter().any(|d| d == digest) {
                image.repo_digests.insert(0, digest.to_owned());
            }
        })
    }

    fn change(&self, reference: &str, change: impl FnOnce(&mut Image)) -> Result<Image, Error> {
        self.inner.index.update(|images| {
            let found =
                index::find(images, reference)?.ok_or_else(|| Error::NotFound(reference.to_owned()))?;
            let image = images.iter_mut().find(|i| i.id == found.id);
            let image = image.ok_or_else(|| Error::NotFound(reference.to_owned()))?;
            change(image);
            Ok(image.clone())
        })
    }

    /// Removes images that no container uses and nobody pinned: those without a tag, or all.
    pub fn prune(&self, all: bool) -> Result<Vec<Image>, Error> {
        let used = self.leased(|name| !name.starts_with(CACHE))?;
        let removed = self.inner.index.update(|images| {
            let is_used = |image: &Image| image.layers.last().is_some_and(|top| used.contains(top));
            let goes = |i: &Image| !i.pinned && (all || i.repo_tags.is_empty()) && !is_used(i);
            let (removed, kept) = std::mem::take(images).into_iter().partition(goes);
            *images = kept;
            Ok(removed)
        })?;
        self.sweep();
        Ok(removed)
    }

    /// The diff IDs that leases hold.
    fn leased(&self, of: impl Fn(&str) -> bool) -> Result<HashSet<String>, Error> {
        let mut held = HashSet::new();
        for lease in read_directory(&self.root().join("leases"))? {
            if of(&lease.file_name().unwrap_or_default().to_string_lossy()) {
                let text = fs::read_to_string(&lease).map_err(Error::file("read", &lease))?;
                held.extend(text.lines().map(str::to_owned));
            }
        }
        Ok(held)
    }

    /// Where a layer's files are.
    pub fn layer_directory(&self, diff_id: &str) -> Result<PathBuf, Error> {
        Ok(self.layer(diff_id)?.join("fs"))
    }

    /// Makes a layer of what an overlayfs mount has collected. None if that is nothing.
    pub fn commit(
        &self,
        making: &Making,
        upper: &Path,
        skip: &dyn Fn(&Path) -> bool,
    ) -> Result<Option<String>, Error> {
        let directory = self.root().join("tmp");
        let fail = Error::file("make an archive in", &directory);
        let pack = || -> io::Result<(u64, crate::Digest, File)> {
            let file = tempfile::tempfile_in(&directory)?;
            let mut hashed = HashingWriter::new(BufWriter::new(file));
            let count = pack::tar(upper, &mut hashed, skip)?;
            let (digest, buffered) = hashed.finish();
            let mut file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
            io::Seek::rewind(&mut file)?;
            Ok((count, digest, file))
        };
        let (count, digest, file) = pack().map_err(fail)?;
        if count == 0 {
            return Ok(None);
        }
        let diff_id = digest.to_string();
        if self.layer_usage(&diff_id)?.is_none() {
            self.add_layer(making, &diff_id, file)?;
        }
        Ok(Some(diff_id))
    }

    /// Puts an image into the index whose layers are all there, under these names.
    pub fn put(&self, making: &Making, configuration: &[u8], names: &[String]) -> Result<Image, Error> {
        let tags = names.iter().map(|n| normalize(n)).collect::<Result<_, _>>()?;
        self.add_image(making, configuration, tags, Vec::new())
    }

    /// What was noted under a key of a build's cache, if it is there and its layer too.
    pub fn cached(&self, key: &str) -> Result<Option<Vec<String>>, Error> {
        let lease = self.lease(&format!("{CACHE}{key}"))?;
        let Ok(text) = fs::read_to_string(&lease) else { return Ok(None) };
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let missing =
            |id: &String| index::layer_name(id).is_some() && !matches!(self.layer_usage(id), Ok(Some(_)));
        Ok((!lines.iter().any(missing)).then_some(lines))
    }

    /// Notes a layer, and whatever else, under a key; the layer stays until [`Store::drop_cache`].
    pub fn cache(&self, key: &str, lines: &[String]) -> Result<(), Error> {
        let lease = self.lease(&format!("{CACHE}{key}"))?;
        fs::write(&lease, lines.join("\n")).map_err(Error::file("write", &lease))
    }

    /// Forgets what builds noted; returns how many steps there were.
    pub fn drop_cache(&self) -> Result<usize, Error> {
        let mut dropped = 0;
        for lease in read_directory(&self.root().join("leases"))? {
            if lease.file_name().unwrap_or_default().to_string_lossy().starts_with(CACHE) {
                fs::remove_file(&lease).map_err(Error::file("remove", &lease))?;
                dropped += 1;
            }
        }
        self.sweep();
        Ok(dropped)
    }

    /// Writes a layer's archive; returns its digest, which is the layer's diff ID wherever the very bytes it came in
    /// can be made again.
    pub(crate) fn write_layer(&self, diff_id: &str, out: impl Write) -> Result<String, Error> {
        let layer = self.layer(diff_id)?;
        let directory = layer.join("fs");
        let mut hashed = HashingWriter::new(out);
        let written = match File::open(layer.join(RECIPE)) {
            Ok(recipe) => recipe::replay(recipe, &directory, &mut hashed),
            // Unpacked by a Corten that kept none.
            Err(_) => pack::tar(&directory, &mut hashed, &|_| false).map(drop),
        };
        written.map_err(Error::file("pack", &directory))?;
        Ok(hashed.finish().0.to_string())
    }
}
