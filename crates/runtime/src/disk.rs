//! Small files that are there whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Replaces a file: written beside and renamed, so that neither a reader nor a crash sees half of it.
pub fn replace(path: &Path, contents: &[u8]) -> Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, contents).map_err(Error::io("write", &beside))?;
    fs::rename(&beside, path).map_err(Error::io("replace", path))
}

pub fn save<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(|e| Error::io("serialise", path)(e.into()))?;
    replace(path, &text)
}

pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|e| Error::io("parse", path)(e.into()))
}

/// Makes a directory that only we may enter.
pub fn make_private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("make", path))
}

/// Removes a tree that may be gone already.
pub fn remove_tree(path: &Path) -> Result<()> {
    ignore_missing(fs::remove_dir_all(path)).map_err(Error::io("remove", path))
}

pub fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
