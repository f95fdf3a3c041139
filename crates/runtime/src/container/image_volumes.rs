//! Images that a container mounts as volumes.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use k8s_cri::v1::ContainerConfig;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{MoveMountFlags, mount_bind, move_mount};

use super::rootfs::unmount_root;
use crate::spec::layers;
use crate::spec::mounts::ImageVolume;
use crate::state::Runtime;
use crate::{Error, Result};

impl Runtime {
    /// The images of a container: its own, then those it mounts, in order.
    pub fn images_of(&self, config: &ContainerConfig) -> Result<Vec<images::Image>> {
        let own = config.image.as_ref().map(|i| i.image.as_str()).unwrap_or_default();
        let mounted = config.mounts.iter().filter_map(|m| m.image.as_ref()).map(|i| i.image.as_str());
        let find = |name: &str| self.images.get(name)?.ok_or_else(|| Error::not_found("image", name));
        std::iter::once(own).chain(mounted.filter(|name| !name.is_empty())).map(find).collect()
    }
}

/// Checked, so that what is missing is told before anything is made.
pub fn check(config: &ContainerConfig, images: &[Vec<PathBuf>]) -> Result<()> {
    let mounts = config.mounts.iter().filter(|m| m.image.as_ref().is_some_and(|i| !i.image.is_empty()));
    for (mount, lower) in mounts.zip(images) {
        if !mount.host_path.is_empty() {
            return Err(Error::InvalidArgument(format!(
                "mount {}: host_path and image exclude each other",
                mount.container_path
            )));
        }
        if !mount.image_sub_path.is_empty() && !layers::exists(lower, &mount.image_sub_path) {
            return Err(Error::InvalidArgument(format!(
                "mount {}: image {:?} has no {:?}",
                mount.container_path,
                mount.image.as_ref().map(|i| i.image.as_str()).unwrap_or_default(),
                mount.image_sub_path
            )));
        }
    }
    Ok(())
}

/// For OCI runtimes that mount nothing but directories: mounts the images in `directory`.
pub fn mount(
    config: &ContainerConfig,
    images: Vec<Vec<PathBuf>>,
    directory: &Path,
) -> Result<Vec<ImageVolume>> {
    let mounts = config.mounts.iter().filter(|m| m.image.as_ref().is_some_and(|i| !i.image.is_empty()));
    let one = |(number, (mount, layers)): (usize, (&k8s_cri::v1::Mount, Vec<PathBuf>))| {
        let whole = directory.join(number.to_string());
        fs::create_dir_all(&whole).map_err(Error::io("make", &whole))?;
        let fail = Error::io("mount an image on", &whole);
        mount_layers(&layers, &whole).map_err(fail)?;
        if mount.image_sub_path.is_empty() {
            return Ok(ImageVolume::Mounted(whole));
        }
        let part = directory.join(format!("{number}-part"));
        mount_part(&whole, &mount.image_sub_path, &part)?;
        Ok(ImageVolume::Mounted(part))
    };
    mounts.zip(images).enumerate().map(one).collect()
}

fn mount_layers(layers: &[PathBuf], target: &Path) -> std::io::Result<()> {
    if let [layer] = layers {
        return Ok(mount_bind(layer, target)?);
    }
    let tree = images::overlay(layers, None)?;
    Ok(move_mount(tree.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The image is hostile: no link of its leads to the host.
fn mount_part(whole: &Path, inside: &str, part: &Path) -> Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = inside.trim_start_matches('/');
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat(CWD, whole, flags, Mode::empty())
        .and_then(|root| openat2(&root, inside, flags, Mode::empty(), resolve))
        .map_err(Error::errno("look into the image mounted on", whole))?;
    let is_directory = rustix::fs::fstat(&found)
        .is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Directory);
    if is_directory {
        fs::create_dir_all(part).map_err(Error::io("make", part))?;
    } else {
        fs::write(part, "").map_err(Error::io("make", part))?;
    }
    mount_bind(format!("/proc/self/fd/{}", found.as_raw_fd()), part)
        .map_err(Error::errno("mount a part of an image on", part))
}

/// Undoes [`mount`].
pub fn unmount(directory: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    entries.flatten().try_for_each(|entry| unmount_root(&entry.path()))
}
