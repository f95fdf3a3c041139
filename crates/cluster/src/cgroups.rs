//! Removing cgroups, in whichever hierarchies the machine has.

use std::fs;
use std::path::{Path, PathBuf};

const BASE: &str = "/sys/fs/cgroup";

/// Removes the cgroup of that name, and those below it, in every hierarchy, as far as they are empty: the kernel keeps
/// those that are not.
pub fn remove(name: &str) {
    for directory in places(name) {
        remove_tree(&directory);
    }
}

/// Whether any hierarchy has a cgroup of that name.
pub fn exists(name: &str) -> bool {
    places(name).iter().any(|directory| directory.exists())
}

/// Where a cgroup of that name would be.
fn places(name: &str) -> Vec<PathBuf> {
    let name = Path::new(name);
    let Some(name) = name.strip_prefix("/").ok().filter(|name| name.components().count() > 0) else {
        return Vec::new();
    };
    let hierarchies = fs::read_dir(BASE).into_iter().flatten().flatten();
    let hierarchies = hierarchies.map(|hierarchy| hierarchy.path().join(name));
    std::iter::once(Path::new(BASE).join(name)).chain(hierarchies).collect()
}

fn remove_tree(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_top_is_nobodys_to_remove() {
        for top in ["", "/", "relative"] {
            assert!(places(top).is_empty(), "{top}");
        }
        assert!(places("/corten-x").contains(&PathBuf::from("/sys/fs/cgroup/corten-x")));
        assert!(!exists("/corten-no-such-cgroup"));
    }
}
