//! The hierarchies of the machine, and directories in them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::knob::at;

const ROOT: &str = "/sys/fs/cgroup";
/// v1 hierarchies that pod cgroups are made in.
const CONTROLLERS: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "devices", "freezer", "hugetlb"];
/// Controllers that v2 pod cgroups hand on to their containers.
const DELEGATED: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

pub enum Hierarchy {
    /// The mount points of the controllers.
    V1(Vec<(&'static str, PathBuf)>),
    V2(PathBuf),
}

impl Hierarchy {
    pub fn of_machine() -> Self {
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            return Self::V2(PathBuf::from(ROOT));
        }
        let found = CONTROLLERS.map(|name| (name, Path::new(ROOT).join(name)));
        Self::V1(found.into_iter().filter(|(_, path)| path.is_dir()).collect())
    }

    /// Where a controller's files of a cgroup are, if the machine has the controller.
    pub fn dir(&self, controller: &str, place: &str) -> Option<PathBuf> {
        match self {
            Self::V1(controllers) => {
                let found = controllers.iter().find(|(name, _)| *name == controller);
                found.map(|(_, mount)| mount.join(place))
            }
            Self::V2(mount) => Some(mount.join(place)),
        }
    }

    pub fn make(&self, place: &str) -> std::io::Result<()> {
        match self {
            Self::V1(controllers) => {
                controllers.iter().try_for_each(|(name, mount)| make_v1(mount, place, *name == "cpuset"))
            }
            Self::V2(mount) => make_v2(mount, place),
        }
    }

    pub fn remove(&self, place: &str) {
        match self {
            Self::V1(controllers) => {
                controllers.iter().for_each(|(_, mount)| remove_tree(&mount.join(place)));
            }
            Self::V2(mount) => remove_tree(&mount.join(place)),
        }
    }
}

fn make_v1(mount: &Path, place: &str, cpuset: bool) -> std::io::Result<()> {
    let mut dir = mount.to_owned();
    for part in place.split('/') {
        let parent = dir.clone();
        dir.push(part);
        if make_dir(&dir)? && cpuset {
            // A fresh cpuset has no CPUs: nothing could run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let inherited = std::fs::read_to_string(parent.join(file))?;
                set(&dir, file, inherited.trim())?;
            }
        }
    }
    Ok(())
}

fn make_v2(mount: &Path, place: &str) -> std::io::Result<()> {
    let mut dir = mount.to_owned();
    hand_on(&dir)?;
    for part in place.split('/') {
        dir.push(part);
        make_dir(&dir)?;
        hand_on(&dir)?;
    }
    Ok(())
}

/// Lets the cgroups below use what this one may use; what it lacks is not ours to say.
fn hand_on(dir: &Path) -> std::io::Result<()> {
    let available = std::fs::read_to_string(dir.join("cgroup.controllers"))?;
    let enabled = std::fs::read_to_string(dir.join("cgroup.subtree_control"))?;
    for name in available.split_whitespace().filter(|name| DELEGATED.contains(name)) {
        if !enabled.split_whitespace().any(|on| on == name) {
            set(dir, "cgroup.subtree_control", &format!("+{name}"))?;
        }
    }
    Ok(())
}

fn make_dir(dir: &Path) -> std::io::Result<bool> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(at(dir, error)),
    }
}

fn set(dir: &Path, file: &str, value: &str) -> std::io::Result<()> {
    let path = dir.join(file);
    std::fs::write(&path, value).map_err(|error| at(&path, error))
}

/// Directories only: the kernel's files in them cannot be and need not be removed.
fn remove_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(dir);
}
