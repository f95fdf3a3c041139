//! Image layers as the source of a mount.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use shim_protocol::Mount;

use super::mountapi::{attach, clone_at, clone_tree, detach, filesystem, map, open_inside, set};

/// An image's contents, or a part of them, read-only. `scratch` is a directory to mount upon for a moment.
pub fn take(mount: &Mount, user: Option<BorrowedFd<'_>>, scratch: &str) -> io::Result<OwnedFd> {
    if let Some(user) = user {
        mount.layers.iter().try_for_each(|layer| map_in_place(layer, user))?;
    }
    let tree = match mount.layers.as_slice() {
        // An overlay has two layers at least.
        [layer] => clone_tree(layer)?,
        layers => {
            let options: Vec<_> = layers.iter().map(|l| ("lowerdir+", Some(l.as_str()))).collect();
            filesystem("overlay", "overlay", &options, 0)?
        }
    };
    set(tree.as_fd(), mount.attributes, 0, true)?;
    if mount.sub_path.is_empty() {
        return Ok(tree);
    }
    // A part can be taken only of what is attached somewhere.
    attach(tree.as_fd(), scratch)?;
    let part = File::open(scratch)
        .and_then(|root| open_inside(root.as_fd(), &mount.sub_path))
        .and_then(|part| clone_at(part.as_fd()));
    detach(scratch)?;
    part
}

/// Puts a layer with mapped owners in its own place, in this mount namespace: then overlayfs finds it under its name.
pub fn map_in_place(layer: &str, user: BorrowedFd<'_>) -> io::Result<()> {
    let tree = clone_tree(layer)?;
    map(tree.as_fd(), user).map_err(|e| io::Error::other(format!("map the owners of {layer}: {e}")))?;
    attach(tree.as_fd(), layer)
}
