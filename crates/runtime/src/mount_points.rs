//! The lowest layer of every container's root: the places where something is mounted in each of them.
//!
//! Few images have them all. Made in a container's own writable layer, they were most of what its disk is given to do at
//! its start, copying up `/etc` among it, and of what is cleared away after its end.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

const DIRECTORIES: [&str; 5] = ["", "dev", "etc", "proc", "sys"];
const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

/// The layer below `root`, with what there is not of it yet.
pub fn layer(root: &Path) -> Result<PathBuf> {
    let layer = root.join("mount-points");
    for directory in DIRECTORIES {
        let path = layer.join(directory);
        fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)))
            .map_err(Error::io("make the mount point", &path))?;
    }
    for file in FILES {
        let path = layer.join(file);
        let opened = File::options().append(true).create(true).open(&path);
        opened
            .and_then(|file| file.set_permissions(Permissions::from_mode(0o644)))
            .map_err(Error::io("make the mount point", &path))?;
    }
    Ok(layer)
}
