//! CPU, memory and huge page limits, and device rules.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use k8s_cri::v1::{Device, LinuxContainerResources};
use serde_json::{Map, Value, json};

use crate::{Error, Result};

/// `linux.resources` of an OCI configuration.
pub fn resources(resources: Option<&LinuxContainerResources>, devices: &[Value], privileged: bool) -> Value {
    let default = LinuxContainerResources::default();
    let r = resources.unwrap_or(&default);
    let mut cpu = Map::new();
    let mut memory = Map::new();
    let set = |map: &mut Map<String, Value>, key: &str, value: Value| map.insert(key.to_owned(), value);
    if r.cpu_shares > 0 {
        set(&mut cpu, "shares", r.cpu_shares.into());
    }
    if r.cpu_quota != 0 {
        set(&mut cpu, "quota", r.cpu_quota.into());
    }
    if r.cpu_period > 0 {
        set(&mut cpu, "period", r.cpu_period.into());
    }
    if !r.cpuset_cpus.is_empty() {
        set(&mut cpu, "cpus", r.cpuset_cpus.clone().into());
    }
    if !r.cpuset_mems.is_empty() {
        set(&mut cpu, "mems", r.cpuset_mems.clone().into());
    }
    if r.memory_limit_in_bytes > 0 {
        set(&mut memory, "limit", r.memory_limit_in_bytes.into());
    }
    if r.memory_swap_limit_in_bytes > 0 {
        set(&mut memory, "swap", r.memory_swap_limit_in_bytes.into());
    }
    let mut rules = vec![json!({"allow": privileged, "access": "rwm"})];
    if !privileged {
        rules.extend(devices.iter().map(|d| {
            json!({"allow": true, "type": d["type"], "major": d["major"], "minor": d["minor"], "access": d["access"]})
        }));
    }
    let mut result = json!({"devices": rules});
    let huge: Vec<Value> =
        r.hugepage_limits.iter().map(|h| json!({"pageSize": h.page_size, "limit": h.limit})).collect();
    if let Some(object) = result.as_object_mut() {
        for (key, map) in [("cpu", cpu), ("memory", memory)] {
            if !map.is_empty() {
                object.insert(key.to_owned(), map.into());
            }
        }
        if !huge.is_empty() {
            object.insert("hugepageLimits".to_owned(), huge.into());
        }
        if !r.unified.is_empty() {
            object.insert("unified".to_owned(), json!(r.unified));
        }
    }
    result
}

/// Devices that a container gets besides the customary ones, in OCI form with their `access`.
pub fn devices(wanted: &[Device], privileged: bool) -> Result<Vec<Value>> {
    let mut devices = Vec::new();
    for device in wanted {
        let host = Path::new(&device.host_path);
        let inside = if device.container_path.is_empty() { host } else { Path::new(&device.container_path) };
        let before = devices.len();
        match device_at(host, inside, &device.permissions)? {
            Some(found) => devices.push(found),
            None => devices_below(host, inside, &device.permissions, &mut devices),
        }
        if devices.len() == before {
            return Err(Error::InvalidArgument(format!(
                "{} is not a device, and has none",
                device.host_path
            )));
        }
    }
    if privileged {
        host_devices(Path::new("/dev"), &mut devices);
    }
    Ok(devices)
}

fn device_at(host: &Path, container: &Path, access: &str) -> Result<Option<Value>> {
    let metadata = fs::metadata(host).map_err(Error::io("look at device", host))?;
    let kind = metadata.file_type();
    let kind = match (kind.is_block_device(), kind.is_char_device()) {
        (true, _) => "b",
        (_, true) => "c",
        _ => return Ok(None),
    };
    let access = if access.is_empty() { "rwm" } else { access };
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    Ok(Some(json!({
        "path": container, "type": kind, "major": major, "minor": minor,
        "source": host, "fileMode": metadata.mode() & 0o7777, "uid": metadata.uid(), "gid": metadata.gid(), "access": access,
    })))
}

/// All devices in a directory, such as `/dev/snd`, if it is one.
fn devices_below(directory: &Path, inside: &Path, access: &str, devices: &mut Vec<Value>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (host, inside) = (entry.path(), inside.join(entry.file_name()));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => devices_below(&host, &inside, access, devices),
            Ok(kind) if kind.is_symlink() => {}
            Ok(_) => devices.extend(device_at(&host, &inside, access).ok().flatten()),
            Err(_) => {}
        }
    }
}

/// Everything in the host's `/dev`, for a privileged container, but what it has of its own.
fn host_devices(directory: &Path, devices: &mut Vec<Value>) {
    const OWN: [&str; 7] = ["pts", "shm", "mqueue", "console", "fd", "ptmx", "hugepages"];
    const CUSTOMARY: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let (path, name): (PathBuf, _) = (entry.path(), entry.file_name());
        let skipped = directory == Path::new("/dev") && OWN.iter().chain(&CUSTOMARY).any(|own| name == *own);
        match entry.file_type() {
            Ok(kind) if skipped || kind.is_symlink() => {}
            Ok(kind) if kind.is_dir() => host_devices(&path, devices),
            Ok(_) => devices.extend(device_at(&path, &path, "rwm").ok().flatten()),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_is_set() {
        assert_eq!(resources(None, &[], false), json!({"devices": [{"allow": false, "access": "rwm"}]}));
        let limits =
            LinuxContainerResources { cpu_quota: 5000, memory_limit_in_bytes: 1 << 20, ..Default::default() };
        assert_eq!(
            resources(Some(&limits), &[], true),
            json!({"devices": [{"allow": true, "access": "rwm"}], "cpu": {"quota": 5000}, "memory": {"limit": 1 << 20}})
        );
    }

    #[test]
    fn a_device_is_described_and_a_file_is_not() {
        let wanted = |path: &str| Device {
            host_path: path.into(),
            container_path: "/dev/x".into(),
            permissions: "r".into(),
        };
        let found = devices(&[wanted("/dev/null")], false).unwrap();
        assert_eq!(
            (found[0]["type"].as_str(), found[0]["major"].as_u64(), found[0]["access"].as_str()),
            (Some("c"), Some(1), Some("r"))
        );
        assert!(devices(&[wanted("/proc/version")], false).is_err());
        assert!(devices(&[wanted("/proc/sys")], false).is_err());
        let all = devices(&[wanted("/dev")], false).unwrap();
        assert!(all.iter().any(|d| d["path"] == "/dev/x/null" && d["access"] == "r"));
        assert!(devices(&[wanted("/dev/none-such")], false).is_err());
    }
}
