//! Looks into an image's layers as overlayfs will show them, without mounting: for `/etc/passwd` before the container is there.
//!
//! The layers are hostile. Every component is looked up by itself, symbolic links are followed by us and only inside the image,
//! so nothing in an image makes us open a file of the host.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// More symbolic links than this are a loop.
const MOST_LINKS: usize = 32;
/// An account file larger than this is not read further.
const LARGEST_FILE: u64 = 1 << 20;

/// Reads a regular file of the image; `lowers` are its layers, topmost first. Empty if it is not there.
pub fn read(lowers: &[PathBuf], path: &str) -> String {
    let Some(Found::File(found)) = resolve(lowers, Path::new(path)) else { return String::new() };
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let Ok(file) = File::options().read(true).custom_flags(flags).open(found) else { return String::new() };
    let mut bytes = Vec::new();
    let _ = file.take(LARGEST_FILE).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether there is a file or directory of that path in the image.
pub fn exists(lowers: &[PathBuf], path: &str) -> bool {
    resolve(lowers, Path::new(path)).is_some()
}

enum Found {
    File(PathBuf),
    Directory,
}

enum Entry {
    Missing,
    Link(PathBuf),
    File(PathBuf),
    /// The directories that overlayfs merges.
    Directory(Vec<PathBuf>),
}

fn resolve(lowers: &[PathBuf], path: &Path) -> Option<Found> {
    let mut left: VecDeque<OsString> = components(path).collect();
    let mut trail = vec![lowers.to_vec()];
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            if trail.len() > 1 {
                trail.pop();
            }
            continue;
        }
        match look_up(trail.last()?, &name) {
            Entry::Missing => return None,
            Entry::File(file) => return left.is_empty().then_some(Found::File(file)),
            Entry::Directory(merged) => trail.push(merged),
            Entry::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                if target.is_absolute() {
                    trail.truncate(1);
                }
                for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                    left.push_front(name);
                }
            }
        }
    }
    Some(Found::Directory)
}

fn components(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

fn look_up(directories: &[PathBuf], name: &OsStr) -> Entry {
    let mut merged = Vec::new();
    for directory in directories {
        let path = directory.join(name);
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let kind = metadata.file_type();
        if kind.is_dir() {
            let opaque = is_opaque(&path);
            merged.push(path);
            if opaque {
                break;
            }
            continue;
        }
        if !merged.is_empty() {
            break;
        }
        if kind.is_symlink() {
            return fs::read_link(&path).map_or(Entry::Missing, Entry::Link);
        }
        let whiteout = kind.is_char_device() && metadata.rdev() == 0;
        return if kind.is_file() && !whiteout { Entry::File(path) } else { Entry::Missing };
    }
    if merged.is_empty() { Entry::Missing } else { Entry::Directory(merged) }
}

fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 1];
    let length = rustix::fs::lgetxattr(directory, "trusted.overlay.opaque", &mut value[..]);
    matches!(length, Ok(1)) && value[0] == b'y'
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_top_layer_wins_and_links_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        let (top, low) = (root.path().join("top"), root.path().join("low"));
        for (layer, file, text) in
            [(&low, "etc/passwd", "low"), (&top, "etc/passwd", "top"), (&low, "etc/group", "group")]
        {
            fs::create_dir_all(layer.join("etc")).unwrap();
            fs::write(layer.join(file), text).unwrap();
        }
        fs::create_dir_all(top.join("usr")).unwrap();
        symlink("/etc/group", top.join("usr/absolute")).unwrap();
        symlink("../../../../etc/group", top.join("usr/climbing")).unwrap();
        symlink("/usr/loop", top.join("usr/loop")).unwrap();
        symlink(root.path().join("secret"), top.join("usr/out")).unwrap();
        symlink("../etc", low.join("alias")).unwrap();
        fs::write(root.path().join("secret"), "secret").unwrap();
        let layers = [top, low];
        for (path, expected) in [
            ("/etc/passwd", "top"),
            ("etc/group", "group"),
            ("/usr/absolute", "group"),
            ("/usr/climbing", "group"),
            ("/alias/passwd", "top"),
            ("/usr/loop", ""),
            ("/usr/out", ""),
            ("/etc", ""),
            ("/etc/passwd/x", ""),
            ("/none", ""),
        ] {
            assert_eq!(read(&layers, path), expected, "{path}");
        }
        for (path, expected) in [
            ("/etc", true),
            ("alias", true),
            ("usr/absolute", true),
            ("usr/out", false),
            ("none", false),
            ("", true),
        ] {
            assert_eq!(exists(&layers, path), expected, "{path}");
        }
    }
}
