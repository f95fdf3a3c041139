//! A container's mounts: the customary kernel filesystems, the sandbox's files, the pod's volumes.

use std::fs;
use std::path::{Component, Path, PathBuf};

use k8s_cri::v1::{ContainerConfig, Mount, MountPropagation};
use serde_json::{Value, json};

use crate::{Error, Result};

/// Files and directories of the sandbox that every container of it sees.
pub struct SandboxFiles {
    pub hostname: PathBuf,
    pub hosts: PathBuf,
    pub resolv_conf: PathBuf,
    pub shm: PathBuf,
}

/// An image to be mounted: its layers, topmost first, or where it is mounted already.
pub enum ImageVolume {
    Layers(Vec<PathBuf>),
    Mounted(PathBuf),
}

pub struct Given<'a> {
    pub config: &'a ContainerConfig,
    pub files: &'a SandboxFiles,
    pub images: &'a [ImageVolume],
    pub privileged: bool,
    pub readonly_rootfs: bool,
    /// Whether the pod has a user namespace.
    pub mapped: bool,
}

/// Mounts in the order in which they are made: what is deeper in the tree comes later.
pub fn mounts(given: &Given<'_>) -> Result<Vec<Value>> {
    let mut volumes = Vec::new();
    let mut images = given.images.iter();
    for mount in &given.config.mounts {
        let image = mount.image.as_ref().filter(|i| !i.image.is_empty()).and_then(|_| images.next());
        let made = match image {
            Some(image) => image_volume(mount, image, given.mapped)?,
            None => volume(mount, given.mapped)?,
        };
        volumes.push((clean(&mount.container_path)?, made));
    }
    volumes.sort_by_key(|(path, _)| path.components().count());
    let taken = |path: &Path| volumes.iter().any(|(p, _)| p == path);
    let mut mounts: Vec<Value> = base(given)
        .into_iter()
        .filter(|m| m["destination"].as_str().is_none_or(|d| !taken(Path::new(d))))
        .collect();
    mounts.extend(volumes.into_iter().map(|(_, mount)| mount));
    Ok(mounts)
}

/// The propagation of the container's root: what its volumes need.
pub fn root_propagation(mounts: &[Mount]) -> &'static str {
    let any = |wanted| mounts.iter().any(|m| m.propagation() == wanted);
    if any(MountPropagation::PropagationBidirectional) {
        "shared"
    } else if any(MountPropagation::PropagationHostToContainer) {
        "slave"
    } else {
        "private"
    }
}

fn base(given: &Given<'_>) -> Vec<Value> {
    let write = if given.privileged { "rw" } else { "ro" };
    let kernel = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    let bind = |destination: &str, source: &Path, options: &[&str]| json!({"destination": destination, "type": "bind", "source": source, "options": options});
    let cgroup_options = ["nosuid", "noexec", "nodev", "relatime", write];
    let file = ["rbind", "rprivate", if given.readonly_rootfs { "ro" } else { "rw" }];
    vec![
        kernel("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        kernel("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        kernel(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        kernel("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        kernel("/sys", "sysfs", &["nosuid", "noexec", "nodev", write]),
        kernel("/sys/fs/cgroup", "cgroup", &cgroup_options),
        bind("/dev/shm", &given.files.shm, &["rbind", "rprivate", "rw", "nosuid", "noexec", "nodev"]),
        bind("/etc/hostname", &given.files.hostname, &file),
        bind("/etc/hosts", &given.files.hosts, &file),
        bind("/etc/resolv.conf", &given.files.resolv_conf, &file),
    ]
}

/// Always read-only, and nothing in it is executed.
fn image_volume(mount: &Mount, image: &ImageVolume, mapped: bool) -> Result<Value> {
    let mut options = vec!["rbind", "rprivate", "ro", "noexec"];
    if mapped {
        options.push("ridmap");
    }
    let destination = clean(&mount.container_path)?;
    Ok(match image {
        ImageVolume::Mounted(source) => {
            json!({"destination": destination, "type": "bind", "source": source, "options": options})
        }
        ImageVolume::Layers(layers) => json!({
            "destination": destination, "type": "bind", "options": options,
            "layers": layers, "subPath": mount.image_sub_path,
        }),
    })
}

/// The node of a device, taken from the host.
pub fn device(device: &Value) -> Value {
    json!({
        "destination": device["path"], "type": "bind", "source": device["source"],
        "options": ["rbind", "rprivate", "nosuid", "noexec"],
    })
}

fn volume(mount: &Mount, user_namespace: bool) -> Result<Value> {
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    let invalid = |what: &str| Err(Error::InvalidArgument(format!("mount {}: {what}", mount.container_path)));
    if mapped && !user_namespace {
        return invalid("owners are mapped, but the pod has no user namespace");
    }
    if mount.recursive_read_only && mount.propagation() != MountPropagation::PropagationPrivate {
        return invalid("recursive_read_only needs private propagation");
    }
    if mount.host_path.is_empty() {
        return invalid("it names neither a path of the node nor an image");
    }
    let host = Path::new(&mount.host_path);
    match fs::metadata(host) {
        Ok(_) => {}
        // As every runtime does: a directory that is not there is made.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(host).map_err(Error::io("make the mount source", host))?;
        }
        Err(e) => return Err(Error::io("look at the mount source", host)(e)),
    }
    // A link would be followed by whoever mounts, at a moment when it may lead elsewhere.
    let source = fs::canonicalize(host).map_err(Error::io("resolve the mount source", host))?;
    super::propagation::check(&source, mount.propagation())?;
    let propagation = match mount.propagation() {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation];
    options.push(match (mount.readonly, mount.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, true) => return invalid("recursive_read_only needs readonly"),
        (false, false) => "rw",
    });
    if mapped {
        options.push("ridmap");
    }
    Ok(
        json!({"destination": clean(&mount.container_path)?, "type": "bind", "source": source, "options": options}),
    )
}

/// Absolute and without `..`; the path is of the container's world.
fn clean(path: &str) -> Result<PathBuf> {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    if clean == Path::new("/") {
        return Err(Error::InvalidArgument(format!("{path:?} cannot be mounted over")));
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destinations(config: &ContainerConfig) -> Vec<String> {
        let files = SandboxFiles {
            hostname: "/h".into(),
            hosts: "/o".into(),
            resolv_conf: "/r".into(),
            shm: "/s".into(),
        };
        let given = Given {
            config,
            files: &files,
            images: &[],
            privileged: false,
            readonly_rootfs: false,
            mapped: false,
        };
        mounts(&given)
            .unwrap()
            .iter()
            .map(|m| m["destination"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn volumes_come_after_and_replace() {
        let mount =
            |to: &str| Mount { container_path: to.into(), host_path: "/tmp".into(), ..Mount::default() };
        let config = ContainerConfig {
            mounts: vec![mount("/a/b/c"), mount("/a/"), mount("etc/hosts")],
            ..Default::default()
        };
        let found = destinations(&config);
        assert_eq!(found[found.len() - 3..], ["/a", "/etc/hosts", "/a/b/c"]);
        assert_eq!(found.iter().filter(|d| *d == "/etc/hosts").count(), 1);
    }

    #[test]
    fn paths() {
        for (path, expected) in
            [("/a/../../b", Some("/b")), ("a//b/.", Some("/a/b")), ("/", None), ("", None), ("/..", None)]
        {
            assert_eq!(clean(path).ok(), expected.map(PathBuf::from), "{path}");
        }
    }
}
