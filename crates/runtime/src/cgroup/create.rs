//! Making a container's group, with its limits, before anything runs in it.

use std::fs;
use std::path::{Path, PathBuf};

use k8s_cri::v1::LinuxContainerResources;
use serde_json::Value;

use super::{Cgroups, device_filter};
use crate::{Error, Result};

/// Controllers of cgroup v2 that containers are given.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

/// Devices that every container may use: type, major, minor, access. Making nodes is free: only opening them counts.
const CUSTOMARY: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

impl Cgroups {
    /// `rules` is `linux.resources.devices` of the OCI configuration.
    pub fn create(&self, group: &str, limits: Option<&LinuxContainerResources>, rules: &Value) -> Result<()> {
        match self {
            Self::Unified(mount) => self.create_unified(mount, group)?,
            Self::Legacy(hierarchies) => {
                for hierarchy in hierarchies {
                    let directory = hierarchy.mount.join(group.trim_start_matches('/'));
                    let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
                    if cpuset && let Some(parent) = directory.parent() {
                        fs::create_dir_all(parent).map_err(Error::io("make control group", parent))?;
                        inherit_cpuset(&hierarchy.mount, parent)?;
                        // So that what is made below has them from birth: giving them later makes the kernel look
                        // at all of its scheduling domains. Where that cannot be, it is given them.
                        let _ = fs::write(parent.join("cgroup.clone_children"), "1");
                    }
                    fs::create_dir_all(&directory).map_err(Error::io("make control group", &directory))?;
                    if cpuset {
                        inherit_cpuset(&hierarchy.mount, &directory)?;
                    }
                }
            }
        }
        self.allow_devices(group, &device_rules(rules))?;
        let Some(limits) = limits else { return Ok(()) };
        self.update(group, limits)
    }

    fn create_unified(&self, mount: &Path, group: &str) -> Result<()> {
        let directory = mount.join(group.trim_start_matches('/'));
        fs::create_dir_all(&directory).map_err(Error::io("make control group", &directory))?;
        let mut ancestor = mount.to_owned();
        let parents = Path::new(group.trim_start_matches('/')).parent().unwrap_or(Path::new(""));
        let mut names = parents.components();
        loop {
            for controller in CONTROLLERS {
                // One that the kernel does not have, or that is on already, or that others hold, is no reason to stop:
                // a limit that then cannot be set is.
                let _ = fs::write(ancestor.join("cgroup.subtree_control"), format!("+{controller}"));
            }
            match names.next() {
                Some(name) => ancestor.push(name),
                None => return Ok(()),
            }
        }
    }

    /// `None` for every device.
    fn allow_devices(&self, group: &str, rules: &Option<Vec<String>>) -> Result<()> {
        let Some(rules) = rules else { return Ok(()) };
        if self.is_unified() {
            let Some(directory) = self.directory("", group) else { return Ok(()) };
            return device_filter::attach(&directory, rules)
                .map_err(Error::io("attach the device filter to", &directory));
        }
        let Some(directory) = self.directory("devices", group) else { return Ok(()) };
        // A rule is what one write brings.
        let write = |file: &str, rules: &[String]| {
            let path = directory.join(file);
            let written = fs::File::options().write(true).open(&path).and_then(|mut file| {
                rules.iter().try_for_each(|rule| std::io::Write::write_all(&mut file, rule.as_bytes()))
            });
            written.map_err(Error::io("set device rules in", &path))
        };
        write("devices.deny", &["a".to_owned()])?;
        write("devices.allow", rules)
    }

    pub(super) fn limit_huge_pages(&self, group: &str, limits: &LinuxContainerResources) -> Result<()> {
        for limit in &limits.hugepage_limits {
            let name = if self.is_unified() { "max" } else { "limit_in_bytes" };
            let Some(directory) = self.directory("hugetlb", group) else { continue };
            if limit.page_size.contains('/') {
                return Err(Error::InvalidArgument(format!("{:?} is not a page size", limit.page_size)));
            }
            // What is reserved is limited as well, where the kernel counts it: else a program learns of the limit by
            // being killed.
            for kind in ["", "rsvd."] {
                let path = directory.join(format!("hugetlb.{}.{kind}{name}", limit.page_size));
                if path.exists() {
                    fs::write(&path, limit.limit.to_string()).map_err(Error::io("set a limit in", &path))?;
                }
            }
        }
        Ok(())
    }

    /// The files through which a process enters a group.
    pub fn entrances(&self, group: &str) -> Vec<String> {
        self.directories(group).iter().map(|d| d.join(self.entrance()).display().to_string()).collect()
    }

    /// Where a container of cgroup v1 sees its groups: the hierarchy's name, and the directory of the host.
    pub fn legacy_views(&self, group: &str) -> Vec<(String, PathBuf)> {
        let Self::Legacy(hierarchies) = self else { return Vec::new() };
        let view = |mount: &Path| {
            let name = mount.file_name()?.to_string_lossy().into_owned();
            Some((name, mount.join(group.trim_start_matches('/'))))
        };
        hierarchies.iter().filter_map(|h| view(&h.mount)).collect()
    }
}

/// In the words of `devices.allow`; `None` if everything is allowed.
fn device_rules(rules: &Value) -> Option<Vec<String>> {
    let given = rules.as_array().map_or(&[][..], Vec::as_slice);
    if given.iter().any(|r| r["allow"] == true && r["type"].is_null()) {
        return None;
    }
    let specific = given.iter().filter(|r| r["allow"] == true).map(|r| {
        let number =
            |key: &str| r[key].as_i64().filter(|n| *n >= 0).map_or("*".to_owned(), |n| n.to_string());
        let (kind, access) = (r["type"].as_str().unwrap_or("c"), r["access"].as_str().unwrap_or("rwm"));
        format!("{kind} {}:{} {access}", number("major"), number("minor"))
    });
    Some(CUSTOMARY.iter().map(|r| (*r).to_owned()).chain(specific).collect())
}

/// A new cpuset of v1 is empty and takes nobody: it gets what its parent has.
fn inherit_cpuset(mount: &Path, directory: &Path) -> Result<()> {
    if directory == mount {
        return Ok(());
    }
    let Some(parent) = directory.parent() else { return Ok(()) };
    let read = |path: &Path| fs::read_to_string(path).map_err(Error::io("read", path));
    if !read(&directory.join("cpuset.cpus"))?.trim().is_empty()
        && !read(&directory.join("cpuset.mems"))?.trim().is_empty()
    {
        return Ok(());
    }
    inherit_cpuset(mount, parent)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let path = directory.join(file);
        if read(&path)?.trim().is_empty() {
            let value = read(&parent.join(file))?;
            fs::write(&path, value.trim()).map_err(Error::io("set", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules() {
        assert_eq!(device_rules(&json!([{"allow": true, "access": "rwm"}])), None);
        let some = device_rules(&json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "r"},
        ]));
        let some = some.unwrap();
        assert_eq!(some.len(), CUSTOMARY.len() + 1);
        assert_eq!(some.last().map(String::as_str), Some("b 8:1 r"));
    }
}
