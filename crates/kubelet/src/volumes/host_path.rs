//! `hostPath`: a path of the node, checked (or made) as its type says.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::VolumeError;

pub fn set_up(source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(&source.path);
    let refuse = |what: &str| {
        Err(VolumeError::Invalid(format!("hostPath type check failed: {} is not {what}", path.display())))
    };
    let kind = source.type_.as_deref().unwrap_or_default();
    if kind == "DirectoryOrCreate" && !path.exists() {
        fs::create_dir_all(&path).map_err(|error| VolumeError::io("create", &path, error))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(|error| VolumeError::io("chmod", &path, error))?;
    }
    if kind == "FileOrCreate" && !path.exists() {
        create_file(&path)?;
    }
    if kind.is_empty() {
        // Unchecked, and made as a directory by whoever mounts it when it is not there.
        if !path.exists() {
            fs::create_dir_all(&path).map_err(|error| VolumeError::io("create", &path, error))?;
        }
        return Ok(path);
    }
    let Ok(meta) = fs::metadata(&path) else {
        return refuse(match kind {
            "Directory" => "a directory",
            "File" => "a file",
            "Socket" => "a socket file",
            "CharDevice" => "a character device",
            "BlockDevice" => "a block device",
            _ => "there",
        });
    };
    let is = meta.file_type();
    match kind {
        "Directory" | "DirectoryOrCreate" if !is.is_dir() => refuse("a directory"),
        "File" | "FileOrCreate" if !is.is_file() => refuse("a file"),
        "Socket" if !is.is_socket() => refuse("a socket file"),
        "CharDevice" if !is.is_char_device() => refuse("a character device"),
        "BlockDevice" if !is.is_block_device() => refuse("a block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(path),
        unknown => Err(VolumeError::Invalid(format!("unknown hostPath type {unknown:?}"))),
    }
}

fn create_file(path: &Path) -> Result<(), VolumeError> {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|file| file.set_permissions(fs::Permissions::from_mode(0o644)))
        .map_err(|error| VolumeError::io("create", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        let check = |path: &Path, kind: &str, ok: bool| {
            let source =
                HostPathVolumeSource { path: path.display().to_string(), type_: Some(kind.to_owned()) };
            assert_eq!(set_up(&source).is_ok(), ok, "{path:?} {kind}");
        };
        check(dir.path(), "Directory", true);
        check(&file, "Directory", false);
        check(&file, "File", true);
        check(&dir.path().join("absent"), "File", false);
        check(&dir.path().join("made"), "DirectoryOrCreate", true);
        check(&dir.path().join("touched"), "FileOrCreate", true);
        check(Path::new("/dev/null"), "CharDevice", true);
        check(Path::new("/dev/null"), "Socket", false);
        check(&file, "Wrong", false);
    }
}
