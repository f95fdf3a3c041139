//! From an OCI configuration to the plan that our shim carries out: the same container, in the kernel's terms.

use std::path::{Path, PathBuf};

use libc::{
    MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME, MS_PRIVATE, MS_SHARED, MS_SLAVE,
};
use serde_json::Value;
use shim_protocol::{Device, Mount, PidNamespace, Plan, Process, Root};

use super::{filter, security};
use crate::Result;
use crate::cgroup::Cgroups;
use crate::container::Overlay;

/// The devices that every container has: name, major, minor.
const CUSTOMARY_DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// `config` is what [`super::build`] made; external runtimes get the very same.
pub fn plan(
    config: &Value,
    overlay: &Overlay,
    cgroups: &Cgroups,
    cgroup: &str,
) -> Result<(Plan, PidNamespace)> {
    let (linux, process) = (&config["linux"], &config["process"]);
    let namespaces = linux["namespaces"].as_array().map_or(&[][..], Vec::as_slice);
    let namespace = |kind: &str| namespaces.iter().find(|n| n["type"] == kind);
    let pid_namespace = match namespace("pid") {
        None => PidNamespace::Host,
        Some(n) => n["path"].as_str().map_or(PidNamespace::New, |path| PidNamespace::Join(path.to_owned())),
    };
    let mut mounts = Vec::new();
    for mount in config["mounts"].as_array().into_iter().flatten() {
        if mount["type"] == "cgroup" {
            mounts.extend(cgroup_mounts(mount, cgroups, cgroup, namespace("cgroup").is_some()));
        } else {
            mounts.push(lower_mount(mount));
        }
    }
    let own_dev = mounts.iter().any(|m| m.target == "/dev" && m.kind == "tmpfs");
    let mut devices: Vec<Device> = linux["devices"].as_array().into_iter().flatten().map(device).collect();
    let user_namespace = namespace("user").is_some();
    if own_dev && user_namespace {
        mounts.extend(CUSTOMARY_DEVICES.map(|(name, ..)| Mount {
            target: format!("/dev/{name}"),
            source: format!("/dev/{name}"),
            propagation: MS_PRIVATE,
            ..Mount::default()
        }));
    } else if own_dev {
        devices.extend(CUSTOMARY_DEVICES.map(|(name, major, minor)| Device {
            path: format!("/dev/{name}"),
            mode: libc::S_IFCHR | 0o666,
            major,
            minor,
            uid: 0,
            gid: 0,
        }));
    }
    let seccomp = match linux.get("seccomp") {
        Some(profile) => filter::compile(profile)?.to_vec(),
        None => Vec::new(),
    };
    let text = |path: &Path| path.display().to_string();
    let plan = Plan {
        cgroups: cgroups.entrances(cgroup),
        cgroup_namespace: namespace("cgroup").is_some(),
        user_namespace,
        root: Root {
            lower: overlay.lower.iter().map(|l| text(l)).collect(),
            upper: text(&overlay.upper),
            work: text(&overlay.work),
            target: text(&overlay.target),
            readonly: config["root"]["readonly"] == true,
        },
        mounts,
        devices,
        masked_paths: strings(&linux["maskedPaths"]),
        readonly_paths: strings(&linux["readonlyPaths"]),
        process: Process {
            terminal: process["terminal"] == true,
            args: strings(&process["args"]),
            env: strings(&process["env"]),
            cwd: process["cwd"].as_str().unwrap_or("/").to_owned(),
            uid: number(&process["user"]["uid"]),
            gid: number(&process["user"]["gid"]),
            groups: process["user"]["additionalGids"].as_array().into_iter().flatten().map(number).collect(),
            capabilities: security::mask(&strings(&process["capabilities"]["bounding"])),
            ambient: security::mask(&strings(&process["capabilities"]["ambient"])),
            no_new_privileges: process["noNewPrivileges"] == true,
            oom_score_adj: process["oomScoreAdj"].as_i64().and_then(|s| s.try_into().ok()).unwrap_or(0),
            seccomp,
            apparmor: process["apparmorProfile"].as_str().unwrap_or_default().to_owned(),
        },
    };
    Ok((plan, pid_namespace))
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn number(value: &Value) -> u32 {
    value.as_u64().and_then(|n| n.try_into().ok()).unwrap_or(0)
}

fn lower_mount(mount: &Value) -> Mount {
    let text = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
    let bind = mount["type"] == "bind";
    let mut lowered = Mount { target: text("destination"), source: text("source"), ..Mount::default() };
    if !bind {
        lowered.kind = text("type");
    }
    lowered.layers = strings(&mount["layers"]);
    lowered.sub_path = mount["subPath"].as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    for option in strings(&mount["options"]) {
        match option.as_str() {
            "ro" => lowered.attributes |= MOUNT_ATTR_RDONLY,
            "rro" => {
                lowered.attributes |= MOUNT_ATTR_RDONLY;
                lowered.recursive = true;
            }
            "nosuid" => lowered.attributes |= MOUNT_ATTR_NOSUID,
            "nodev" => lowered.attributes |= MOUNT_ATTR_NODEV,
            "noexec" => lowered.attributes |= MOUNT_ATTR_NOEXEC,
            "strictatime" => lowered.attributes |= MOUNT_ATTR_STRICTATIME,
            "noatime" => lowered.attributes |= MOUNT_ATTR_NOATIME,
            "ridmap" => lowered.mapped = true,
            "rprivate" => lowered.propagation = MS_PRIVATE,
            "rslave" => lowered.propagation = MS_SLAVE,
            "rshared" => lowered.propagation = MS_SHARED,
            // What holds anyway; every devpts is a new one since Linux 4.7.
            "rw" | "rbind" | "bind" | "relatime" | "newinstance" => {}
            _ => lowered.options.push(option),
        }
    }
    lowered
}

/// One filesystem, or a directory of the container's own group in each hierarchy.
fn cgroup_mounts(mount: &Value, cgroups: &Cgroups, cgroup: &str, hidden: bool) -> Vec<Mount> {
    let mut whole = lower_mount(mount);
    if let Cgroups::Unified(host) = cgroups {
        if hidden {
            whole.kind = "cgroup2".to_owned();
        } else {
            // Mounting it anew outside of a namespace would change the options of the host's mount.
            whole.kind = String::new();
            whole.source = host.display().to_string();
            whole.propagation = MS_PRIVATE;
        }
        return vec![whole];
    }
    let bound = cgroups.legacy_views(cgroup).into_iter().map(|(name, source): (String, PathBuf)| Mount {
        target: format!("{}/{name}", whole.target),
        source: source.display().to_string(),
        attributes: whole.attributes,
        propagation: MS_PRIVATE,
        ..Mount::default()
    });
    let mut mounts: Vec<Mount> = bound.collect();
    // The directory that holds them cannot be read-only before they are in it, and need not be: it is the container's own.
    let directory = Mount {
        kind: "tmpfs".to_owned(),
        attributes: whole.attributes & !MOUNT_ATTR_RDONLY,
        options: vec!["mode=755".to_owned()],
        ..whole
    };
    mounts.insert(0, directory);
    mounts
}

fn device(device: &Value) -> Device {
    let kind = if device["type"] == "b" { libc::S_IFBLK } else { libc::S_IFCHR };
    let mode = device["fileMode"].as_u64().and_then(|m| m.try_into().ok()).unwrap_or(0o666_u32);
    Device {
        path: device["path"].as_str().unwrap_or_default().to_owned(),
        mode: kind | mode,
        major: number(&device["major"]),
        minor: number(&device["minor"]),
        uid: number(&device["uid"]),
        gid: number(&device["gid"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn mount_options() {
        let lower = |kind: &str, options: &[&str]| {
            lower_mount(&json!({"destination": "/t", "type": kind, "source": "/s", "options": options}))
        };
        let tmpfs = lower("tmpfs", &["nosuid", "strictatime", "mode=755"]);
        assert_eq!(
            (tmpfs.kind.as_str(), tmpfs.attributes),
            ("tmpfs", MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME)
        );
        assert_eq!(tmpfs.options, ["mode=755"]);
        assert!(lower("bind", &["rbind", "ridmap"]).mapped);
        let volume = lower("bind", &["rbind", "rslave", "rro"]);
        assert_eq!((volume.kind.as_str(), volume.propagation, volume.recursive), ("", MS_SLAVE, true));
        assert_eq!(volume.attributes, MOUNT_ATTR_RDONLY);
    }
}
