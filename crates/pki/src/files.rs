//! Reading and writing files so that a crash leaves the old one or the new one, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::Error;

/// Writes a file that everybody may read, such as a certificate.
pub fn write_public(path: &Path, contents: &str) -> Result<(), Error> {
    write(path, contents, 0o644)
}

/// Writes a file that only its owner may read, such as a key or a kubeconfig.
pub fn write_private(path: &Path, contents: &str) -> Result<(), Error> {
    write(path, contents, 0o600)
}

fn write(path: &Path, contents: &str, mode: u32) -> Result<(), Error> {
    let error = |operation| move |source| Error::File { operation, path: path.to_owned(), source };
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).map_err(error("make the directory of"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    // A left-over of a crash may have other permissions: begin with a file of our own making.
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(error("replace")(e)),
        _ => {}
    }
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(error("write"))
}

/// The contents of a file, or nothing where there is none.
pub fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { operation: "read", path: path.to_owned(), source }),
    }
}
