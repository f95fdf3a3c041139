//! `emptyDir`: a directory that lives as long as the pod, on disk or in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::ownership::own_tree;
use super::{VolumeError, mounts};
use crate::container::quantity;

pub fn set_up(source: &EmptyDirVolumeSource, path: &Path, fs_group: Option<u32>) -> Result<(), VolumeError> {
    let new = !path.exists();
    fs::create_dir_all(path).map_err(|error| VolumeError::io("create", path, error))?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            let limit = source.size_limit.as_ref().and_then(|limit| quantity::value(&limit.0));
            mounts::tmpfs(path, limit.filter(|limit| *limit > 0))?;
        }
        medium if medium.starts_with("HugePages") => {
            mounts::hugetlbfs(path, medium.strip_prefix("HugePages-"))?
        }
        medium => return Err(VolumeError::Invalid(format!("unknown emptyDir medium {medium:?}"))),
    }
    if new {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))
            .map_err(|error| VolumeError::io("chmod", path, error))?;
        own_tree(path, fs_group, false)?;
    }
    Ok(())
}
