//! What is to be done to make a container, or a further process in one: prepared by the runtime, carried out by a child of the
//! shim between fork and exec. Everything is resolved; flags are the kernel's.

use crate::codec::{DecodeError, Reader, Writer};

/// A container's first process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// `cgroup.procs` files to enter; the groups exist and have their limits.
    pub cgroups: Vec<String>,
    /// Whether the control groups are hidden from the container but for its own.
    pub cgroup_namespace: bool,
    /// Whether the container is in the pod's user namespace, in which ids of images and volumes are mapped.
    pub user_namespace: bool,
    pub root: Root,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub process: Process,
}

/// An overlayfs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    /// Topmost first.
    pub lower: Vec<String>,
    pub upper: String,
    pub work: String,
    pub target: String,
    pub readonly: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// In the container.
    pub target: String,
    /// A filesystem type, or empty: then `source` is a file or directory of the host.
    pub kind: String,
    pub source: String,
    /// In place of a source: the layers of an image, topmost first.
    pub layers: Vec<String>,
    /// What of the image, empty for all of it.
    pub sub_path: String,
    /// Whether owners are mapped by the pod's user namespace.
    pub mapped: bool,
    /// `MOUNT_ATTR_*` to set.
    pub attributes: u64,
    /// With everything that is mounted below, read-only too.
    pub recursive: bool,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED` of a bind mount.
    pub propagation: u64,
    /// `key=value` or `key`, of a filesystem.
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    pub path: String,
    /// Type and permissions, as mknod takes them.
    pub mode: u32,
    pub major: u32,
    pub minor: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    pub terminal: bool,
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// A mask: permitted, effective and bounding.
    pub capabilities: u64,
    /// Of these, what a user that is not root keeps too.
    pub ambient: u64,
    pub no_new_privileges: bool,
    pub oom_score_adj: i32,
    /// A BPF program; empty for none.
    pub seccomp: Vec<u8>,
    /// Empty for none.
    pub apparmor: String,
}

/// A further process in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecPlan {
    pub cgroups: Vec<String>,
    pub user_namespace: bool,
    pub process: Process,
}

impl Plan {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.strs(&self.cgroups);
        w.bool(self.cgroup_namespace);
        w.bool(self.user_namespace);
        w.strs(&self.root.lower);
        for text in [&self.root.upper, &self.root.work, &self.root.target] {
            w.str(text);
        }
        w.bool(self.root.readonly);
        w.u32(self.mounts.len() as u32);
        for m in &self.mounts {
            for text in [&m.target, &m.kind, &m.source, &m.sub_path] {
                w.str(text);
            }
            w.strs(&m.layers);
            w.bool(m.mapped);
            w.u64(m.attributes);
            w.bool(m.recursive);
            w.u64(m.propagation);
            w.strs(&m.options);
        }
        w.u32(self.devices.len() as u32);
        for d in &self.devices {
            w.str(&d.path);
            for number in [d.mode, d.major, d.minor, d.uid, d.gid] {
                w.u32(number);
            }
        }
        w.strs(&self.masked_paths);
        w.strs(&self.readonly_paths);
        self.process.write(&mut w);
        w.bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(bytes);
        let r = &mut r;
        let plan = Self {
            cgroups: r.strs()?,
            cgroup_namespace: r.bool()?,
            user_namespace: r.bool()?,
            root: Root {
                lower: r.strs()?,
                upper: r.str()?,
                work: r.str()?,
                target: r.str()?,
                readonly: r.bool()?,
            },
            mounts: r.list(|r| {
                Ok(Mount {
                    target: r.str()?,
                    kind: r.str()?,
                    source: r.str()?,
                    sub_path: r.str()?,
                    layers: r.strs()?,
                    mapped: r.bool()?,
                    attributes: r.u64()?,
                    recursive: r.bool()?,
                    propagation: r.u64()?,
                    options: r.strs()?,
                })
            })?,
            devices: r.list(|r| {
                Ok(Device {
                    path: r.str()?,
                    mode: r.u32()?,
                    major: r.u32()?,
                    minor: r.u32()?,
                    uid: r.u32()?,
                    gid: r.u32()?,
                })
            })?,
            masked_paths: r.strs()?,
            readonly_paths: r.strs()?,
            process: Process::read(r)?,
        };
        r.end()?;
        Ok(plan)
    }
}

impl ExecPlan {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.strs(&self.cgroups);
        w.bool(self.user_namespace);
        self.process.write(&mut w);
        w.bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(bytes);
        let plan = Self { cgroups: r.strs()?, user_namespace: r.bool()?, process: Process::read(&mut r)? };
        r.end()?;
        Ok(plan)
    }
}

impl Process {
    fn write(&self, w: &mut Writer) {
        w.bool(self.terminal);
        w.strs(&self.args);
        w.strs(&self.env);
        w.str(&self.cwd);
        w.u32(self.uid);
        w.u32(self.gid);
        w.u32(self.groups.len() as u32);
        self.groups.iter().for_each(|g| w.u32(*g));
        w.u64(self.capabilities);
        w.u64(self.ambient);
        w.bool(self.no_new_privileges);
        w.i32(self.oom_score_adj);
        w.blob(&self.seccomp);
        w.str(&self.apparmor);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            terminal: r.bool()?,
            args: r.strs()?,
            env: r.strs()?,
            cwd: r.str()?,
            uid: r.u32()?,
            gid: r.u32()?,
            groups: r.list(Reader::u32)?,
            capabilities: r.u64()?,
            ambient: r.u64()?,
            no_new_privileges: r.bool()?,
            oom_score_adj: r.i32()?,
            seccomp: r.blob()?,
            apparmor: r.str()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process {
            terminal: true,
            args: vec!["sh".into()],
            env: vec!["A=b".into()],
            cwd: "/".into(),
            uid: 1,
            gid: 2,
            groups: vec![3, 4],
            capabilities: u64::MAX,
            ambient: 1 << 10,
            no_new_privileges: true,
            oom_score_adj: -5,
            seccomp: vec![1, 0, 255],
            apparmor: "profile".into(),
        }
    }

    #[test]
    fn plans_survive_and_cut_ones_are_refused() {
        let text = |t: &str| t.to_owned();
        let plan = Plan {
            cgroups: vec![text("/sys/fs/cgroup/x/cgroup.procs")],
            cgroup_namespace: true,
            user_namespace: true,
            root: Root {
                lower: vec![text("/l1"), text("/l2")],
                upper: text("/u"),
                work: text("/w"),
                target: text("/t"),
                readonly: true,
            },
            mounts: vec![
                Mount {
                    target: text("/proc"),
                    kind: text("proc"),
                    attributes: 14,
                    options: vec![text("a=b")],
                    ..Mount::default()
                },
                Mount {
                    target: text("/v"),
                    source: text("/host"),
                    recursive: true,
                    propagation: 1 << 18,
                    mapped: true,
                    ..Mount::default()
                },
                Mount {
                    target: text("/i"),
                    layers: vec![text("/l3"), text("/l4")],
                    sub_path: text("a/b"),
                    ..Mount::default()
                },
            ],
            devices: vec![Device {
                path: text("/dev/x"),
                mode: 0o20_666,
                major: 1,
                minor: 3,
                uid: 4,
                gid: 5,
            }],
            masked_paths: vec![text("/proc/kcore")],
            readonly_paths: vec![text("/proc/sys")],
            process: process(),
        };
        let bytes = plan.encode();
        assert_eq!(Plan::decode(&bytes), Ok(plan));
        for cut in 0..bytes.len() {
            assert!(Plan::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let exec = ExecPlan { cgroups: vec![text("/c")], user_namespace: true, process: process() };
        assert_eq!(ExecPlan::decode(&exec.encode()), Ok(exec));
    }
}
