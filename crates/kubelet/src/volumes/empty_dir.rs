//! `emptyDir`: a directory that lives as long as the pod, on disk or in memory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::ownership::own_tree;
use super::{VolumeError, mounts};
use crate::container::quantity;

/// One in memory holds no more than its limit, the pod's, and what the node has: `bounds` are the last two.
fn size(source: &EmptyDirVolumeSource, bounds: &[Option<i64>]) -> Option<i64> {
    let own = source.size_limit.as_ref().and_then(|limit| quantity::value(&limit.0));
    bounds.iter().copied().chain([own]).flatten().filter(|bound| *bound > 0).min()
}

pub fn set_up(
    source: &EmptyDirVolumeSource,
    path: &Path,
    fs_group: Option<u32>,
    bounds: &[Option<i64>],
) -> Result<(), VolumeError> {
    let new = !path.exists();
    fs::create_dir_all(path).map_err(|error| VolumeError::io("create", path, error))?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => mounts::tmpfs(path, size(source, bounds))?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    #[test]
    fn how_large_one_in_memory_is() {
        let check = |own: Option<&str>, pod: Option<i64>, node: Option<i64>, expected: Option<i64>| {
            let source = EmptyDirVolumeSource {
                medium: Some("Memory".into()),
                size_limit: own.map(|own| Quantity(own.into())),
            };
            assert_eq!(size(&source, &[pod, node]), expected, "{own:?} {pod:?} {node:?}");
        };
        check(None, None, Some(100), Some(100));
        check(None, Some(50), Some(100), Some(50));
        check(Some("10"), Some(50), Some(100), Some(10));
        check(Some("70"), Some(50), Some(100), Some(50));
        check(Some("0"), None, Some(100), Some(100));
        check(None, None, None, None);
    }
}
