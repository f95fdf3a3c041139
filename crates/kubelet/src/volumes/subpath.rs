//! `subPath`: a part of a volume, which the pod's own containers may have filled with hostile symlinks.
//!
//! The path is resolved by the kernel beneath the volume (`openat2` with `RESOLVE_BENEATH`), what was found is
//! held by a descriptor, and that descriptor, not the path, is bind-mounted into the pod's directory.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat2, statat};

use super::{VolumeError, mounts};

/// Makes `sub_path` of the volume visible at `target` (below the pod's directory) and returns that.
pub fn set_up(volume: &Path, sub_path: &str, target: &Path) -> Result<PathBuf, VolumeError> {
    let plain =
        Path::new(sub_path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(VolumeError::Invalid(format!("subPath {sub_path:?} must be relative, without '..'")));
    }
    let part = open_part(volume, sub_path)?;
    let stat = fstat(&part).map_err(|error| VolumeError::io("stat", volume, error))?;
    let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(|error| VolumeError::io("create", parent, error))?;
    }
    if fs::symlink_metadata(target).is_ok() {
        // Of an earlier container: the volume may have changed since.
        mounts::unmount_below(target)?;
    } else if is_dir {
        fs::create_dir(target).map_err(|error| VolumeError::io("create", target, error))?;
    } else {
        fs::write(target, b"").map_err(|error| VolumeError::io("create", target, error))?;
    }
    mounts::bind(&part, target)?;
    Ok(target.to_owned())
}

/// The text of a file of the volume, whatever links lead to it inside; nothing when it is not there.
pub fn read_inside(volume: &Path, path: &str, max: u64) -> Result<Option<String>, VolumeError> {
    let failed = |error: rustix::io::Errno| VolumeError::io("read a file of", volume, error);
    let root =
        open(volume, OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    // Not blocking: it may be a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(&root, path, flags, Mode::empty(), beneath) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let stat = fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(VolumeError::Invalid(format!("{path:?} is not a regular file")));
    }
    let mut text = String::new();
    let read = fs::File::from(file)
        .take(max + 1)
        .read_to_string(&mut text)
        .map_err(|error| VolumeError::io("read a file of", volume, error))?;
    if u64::try_from(read).is_ok_and(|read| read > max) {
        return Err(VolumeError::Invalid(format!("{path:?} is longer than {max} bytes")));
    }
    Ok(Some(text))
}

/// Opens the part, making the directories that are missing.
fn open_part(volume: &Path, sub_path: &str) -> Result<OwnedFd, VolumeError> {
    let failed = |error: rustix::io::Errno| VolumeError::io("resolve a subPath of", volume, error);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut at = open(volume, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let root = at.try_clone().map_err(|error| VolumeError::io("open", volume, error))?;
    match openat2(&root, sub_path, flags, Mode::empty(), beneath) {
        Ok(part) => return Ok(part),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    let mode = fstat(&root).map(|stat| Mode::from_raw_mode(stat.st_mode & 0o7777));
    let mode = mode.map_err(failed)?;
    let mut walked = PathBuf::new();
    for part in Path::new(sub_path).components() {
        let Component::Normal(name) = part else { continue };
        walked.push(name);
        if matches!(statat(&at, name, AtFlags::SYMLINK_NOFOLLOW), Err(rustix::io::Errno::NOENT)) {
            match mkdirat(&at, name, Mode::from_raw_mode(0o750)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            let made = openat2(
                &at,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
                beneath,
            )
            .map_err(failed)?;
            rustix::fs::fchmod(&made, mode).map_err(failed)?;
        }
        // From the volume's root each time, so that relative links inside it may lead anywhere inside it.
        at = openat2(&root, &walked, flags, Mode::empty(), beneath).map_err(failed)?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn stays_inside() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("in")).unwrap();
        symlink("/etc", volume.join("out")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        symlink("in", volume.join("alias")).unwrap();
        let check = |sub_path: &str, ok: bool| {
            assert_eq!(open_part(&volume, sub_path).is_ok(), ok, "{sub_path}");
        };
        check("in", true);
        check("alias", true);
        check("made/deep", true);
        check("alias/made", true);
        check("out", false);
        check("out/passwd", false);
        check("up/x", false);
        assert!(volume.join("in/made").is_dir());
    }

    #[test]
    fn dots_are_refused() {
        assert!(set_up(Path::new("/tmp"), "../x", Path::new("/nowhere")).is_err());
        assert!(set_up(Path::new("/tmp"), "/x", Path::new("/nowhere")).is_err());
    }
}
