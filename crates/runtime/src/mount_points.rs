//! The lowest layer of every container's root: the places where something is mounted in each of them.
//!
//! Few images have them all. Made in a container's own writable layer, they were most of what its disk is given to do at
//! its start, copying up `/etc` among it, and of what is cleared away after its end.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

const DIRECTORIES: [&str; 5] = ["", "dev", "etc", "proc", "sys"];
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// The layer below `root`, with what there is not of it yet.
pub fn layer(root: &Path) -> Result<PathBuf> {
    let layer = root.join("mount-points");
    for (paths, make, mode) in
        [(&DIRECTORIES[..], make_directory as fn(&Path) -> io::Result<()>, 0o755), (&FILES, make_file, 0o644)]
    {
        for path in paths {
            let path = layer.join(path);
            make(&path)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(mode)))
                .map_err(Error::io("make the mount point", &path))?;
        }
    }
    Ok(layer)
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

fn make_file(path: &Path) -> io::Result<()> {
    File::options().append(true).create(true).open(path).map(drop)
}
