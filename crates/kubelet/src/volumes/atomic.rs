//! Writes a set of files so that readers see either all of the old or all of the new ones.
//!
//! As upstream lays it out: the files are in a directory `..<time>`, the symlink `..data` points to it, and each
//! visible name is a symlink through `..data`. Renaming a new `..data` over the old one is the atomic step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path};

use super::VolumeError;
use super::ownership::own_tree;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

#[derive(Clone, Debug, PartialEq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    /// The user that owns it; root when nothing is said.
    pub uid: Option<u32>,
}

/// Paths relative to the volume, with what is in them.
pub type Files = BTreeMap<String, File>;

/// Makes `dir` show exactly `files`. Does nothing when it does already.
pub fn write(dir: &Path, files: &Files, fs_group: Option<u32>) -> Result<(), VolumeError> {
    for path in files.keys() {
        check(path)?;
    }
    let io = |operation: &'static str| move |error| VolumeError::io(operation, dir, error);
    fs::create_dir_all(dir).map_err(io("create"))?;
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && same(&dir.join(old), files)
    {
        return Ok(());
    }
    // 0755 whatever the umask: containers that are not root must be able to pass.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(io("set the mode of"))?;
    let name = format!("..{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f"));
    let fresh = dir.join(&name);
    fs::create_dir(&fresh).map_err(io("create a directory in"))?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).map_err(io("set the mode of"))?;
    fill(&fresh, files)?;
    own_tree(&fresh, fs_group, true)?;
    let link = dir.join(NEW_DATA);
    remove_file(&link).map_err(io("clean"))?;
    symlink(&name, &link).map_err(io("link in"))?;
    fs::rename(&link, dir.join(DATA)).map_err(io("switch"))?;
    let visible: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &visible {
        match symlink(Path::new(DATA).join(name), dir.join(name)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(io("link in")(error)),
            _ => {}
        }
    }
    for entry in fs::read_dir(dir).map_err(io("read"))? {
        let entry = entry.map_err(io("read"))?;
        let file_name = entry.file_name();
        let shown = file_name.to_string_lossy();
        if !shown.starts_with("..") && !visible.contains(&*shown) {
            remove_file(&entry.path()).map_err(io("clean"))?;
        }
    }
    if let Some(old) = old {
        let _ = fs::remove_dir_all(dir.join(old));
    }
    Ok(())
}

/// Only plain relative paths, none that look like this writer's own.
fn check(path: &str) -> Result<(), VolumeError> {
    let mut parts = Path::new(path).components();
    let plain = !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)));
    if plain && !path.starts_with("..") {
        return Ok(());
    }
    Err(VolumeError::Invalid(format!(
        "invalid path {path:?}: must be relative, without '..' and not start with '..'"
    )))
}

fn fill(dir: &Path, files: &Files) -> Result<(), VolumeError> {
    for (path, file) in files {
        let full = dir.join(path);
        let io = |operation: &'static str| {
            let full = full.clone();
            move |error: std::io::Error| VolumeError::io(operation, &full, error)
        };
        if let Some(parent) = full.parent() {
            fs::create_dir_all(parent).map_err(io("create the directory of"))?;
        }
        let mut open = fs::OpenOptions::new();
        let mut target =
            open.write(true).create_new(true).mode(file.mode).open(&full).map_err(io("create"))?;
        target.write_all(&file.data).map_err(io("write"))?;
        target.set_permissions(fs::Permissions::from_mode(file.mode)).map_err(io("set the mode of"))?;
        if let Some(uid) = file.uid {
            std::os::unix::fs::chown(&full, Some(uid), None).map_err(io("set the owner of"))?;
        }
    }
    Ok(())
}

/// Whether the directory has exactly these files with these contents.
fn same(dir: &Path, files: &Files) -> bool {
    let mut count = 0;
    count_files(dir, &mut count);
    count == files.len()
        && files.iter().all(|(path, file)| fs::read(dir.join(path)).is_ok_and(|data| data == file.data))
}

fn count_files(dir: &Path, count: &mut usize) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => count_files(&entry.path(), count),
            _ => *count += 1,
        }
    }
}

fn remove_file(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Files {
        pairs
            .iter()
            .map(|(path, data)| {
                let file = File { data: data.as_bytes().to_vec(), mode: 0o640, uid: None };
                ((*path).to_owned(), file)
            })
            .collect()
    }

    #[test]
    fn replaces_everything_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, &files(&[("a", "1"), ("b/c", "2")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("b/c")).unwrap(), "2");
        let mode = fs::metadata(dir.join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let before = fs::read_link(dir.join(DATA)).unwrap();
        write(dir, &files(&[("a", "1"), ("b/c", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), before, "nothing changed, nothing written");
        write(dir, &files(&[("a", "3")]), None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        let mut left: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left.len(), 3, "..data, its directory and a: {left:?}");
        assert!(!dir.join("b").exists());
    }

    #[test]
    fn escapes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "/etc/x", "a/../b", "..data", "", "..2026"] {
            assert!(write(dir.path(), &files(&[(path, "")]), None).is_err(), "{path}");
        }
    }
}
