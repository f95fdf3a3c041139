//! Control groups of both generations: where a container's is, what it uses, how it ends.

mod create;
mod device_filter;
mod devices_io;
mod usage;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_cri::v1::LinuxContainerResources;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Error, Result};

pub use devices_io::DeviceIo;
pub use k8s_cri::cpu_weight as weight_of_shares;
pub use usage::{Pressure, Stall, Usage};

/// More rounds than this do not help against processes that cannot die.
const KILL_ROUNDS: usize = 100;

/// How long the processes of a group that is removed may take to end.
const LEAVING: Duration = Duration::from_secs(2);

/// How this machine has its control groups mounted.
#[derive(Debug, Clone)]
pub enum Cgroups {
    /// One hierarchy.
    Unified(PathBuf),
    /// One hierarchy per controller, or group of controllers that share one.
    Legacy(Vec<Hierarchy>),
}

#[derive(Debug, Clone)]
pub struct Hierarchy {
    controllers: Vec<String>,
    mount: PathBuf,
}

impl Cgroups {
    pub fn detect() -> Self {
        let root = Path::new("/sys/fs/cgroup");
        if root.join("cgroup.controllers").exists() {
            return Self::Unified(root.to_owned());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::Legacy(legacy_hierarchies(&mounts))
    }

    pub fn is_unified(&self) -> bool {
        matches!(self, Self::Unified(_))
    }

    /// Every directory of a group.
    fn directories(&self, group: &str) -> Vec<PathBuf> {
        let relative = group.trim_start_matches('/');
        match self {
            Self::Unified(mount) => vec![mount.join(relative)],
            Self::Legacy(hierarchies) => hierarchies.iter().map(|h| h.mount.join(relative)).collect(),
        }
    }

    /// A group's directory in the hierarchy that has the controller.
    fn directory(&self, controller: &str, group: &str) -> Option<PathBuf> {
        let relative = group.trim_start_matches('/');
        match self {
            Self::Unified(mount) => Some(mount.join(relative)),
            Self::Legacy(hierarchies) => {
                let of = hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == controller))?;
                Some(of.mount.join(relative))
            }
        }
    }

    /// The file with the `oom_kill N` line.
    pub fn oom_file(&self, group: &str) -> Option<PathBuf> {
        let name = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        Some(self.directory("memory", group)?.join(name))
    }

    /// The group in which shims live, so that stopping the service that started them does not end them: made, and the
    /// file through which a process enters it. None where services do not hold processes by groups.
    pub fn refuge(&self, group: &str) -> Result<Option<PathBuf>> {
        let Some(directory) = self.directory("name=systemd", group) else { return Ok(None) };
        fs::create_dir_all(&directory).map_err(Error::io("make control group", &directory))?;
        Ok(Some(directory.join(self.entrance())))
    }

    /// Moves a process into a group.
    pub fn adopt(&self, entrance: &Path, pid: i32) -> Result<()> {
        fs::write(entrance, pid.to_string()).map_err(Error::io("write", entrance))
    }

    /// A process with one thread that writes 0 into `tasks` enters without waiting for all processors to have taken
    /// notice, which takes ten milliseconds and more. Version 2 knows no such file; there, children are born in the group.
    fn entrance(&self) -> &'static str {
        if self.is_unified() { "cgroup.procs" } else { "tasks" }
    }

    /// Of a group and those below it.
    pub fn processes(&self, group: &str) -> Vec<i32> {
        let directories = match self {
            Self::Unified(_) => [self.directory("", group), None],
            // The last has a scope's keeper, which systemd has put there.
            Self::Legacy(_) => [
                self.directory("pids", group).or_else(|| self.directory("memory", group)),
                self.directory("name=systemd", group),
            ],
        };
        let mut pids = Vec::new();
        for directory in directories.into_iter().flatten() {
            collect_processes(&directory, &mut pids);
        }
        pids
    }

    /// Lets go on what somebody has frozen: with version 1 it does not even die otherwise.
    pub fn thaw(&self, group: &str) {
        if let Self::Legacy(_) = self
            && let Some(directory) = self.directory("freezer", group)
        {
            // There is none, or it is as it should be.
            let _ = fs::write(directory.join("freezer.state"), "THAWED");
        }
    }

    /// Kills everything in a group. Returns whether it is empty.
    pub fn kill(&self, group: &str) -> bool {
        if let Self::Unified(_) = self
            && let Some(directory) = self.directory("", group)
            && fs::write(directory.join("cgroup.kill"), "1").is_ok()
        {
            return true;
        }
        self.thaw(group);
        for _ in 0..KILL_ROUNDS {
            let pids = self.processes(group);
            if pids.is_empty() {
                return true;
            }
            for pid in pids {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    // It may have ended since.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            std::thread::yield_now();
        }
        false
    }

    /// Removes a group and those below it. What is gone is gone.
    pub fn remove(&self, group: &str) -> Result<()> {
        let deadline = Instant::now() + LEAVING;
        self.directories(group)
            .iter()
            .try_for_each(|d| remove_emptied(d, deadline).map_err(Error::io("remove control group", d)))
    }

    /// Of CPU, memory and I/O: what waited for them in a group.
    pub fn pressures(&self, group: &str) -> [Option<Pressure>; 3] {
        usage::pressures(self, group)
    }

    pub fn usage(&self, group: &str) -> Usage {
        usage::read(self, group)
    }

    /// Applies new limits to a running container's group.
    pub fn update(&self, group: &str, limits: &LinuxContainerResources) -> Result<()> {
        let set = |controller: &str, file: &str, value: String| -> Result<()> {
            let Some(path) = self.directory(controller, group).map(|d| d.join(file)) else { return Ok(()) };
            fs::write(&path, &value).map_err(Error::io("set a limit in", &path))
        };
        // A share is relative: on a machine that lends us no CPU controller there is nothing to share, and that is no
        // reason not to run. A limit that cannot be kept is.
        let has = |file: &str| self.directory("cpu", group).is_some_and(|d| d.join(file).exists());
        let shares = u64::try_from(limits.cpu_shares).unwrap_or(0);
        let period = if limits.cpu_period > 0 { limits.cpu_period } else { 100_000 };
        let memory = limits.memory_limit_in_bytes;
        if self.is_unified() {
            if shares > 0 && has("cpu.weight") {
                set("cpu", "cpu.weight", weight_of_shares(shares).to_string())?;
            }
            if limits.cpu_quota != 0 {
                let quota =
                    if limits.cpu_quota > 0 { limits.cpu_quota.to_string() } else { "max".to_owned() };
                set("cpu", "cpu.max", format!("{quota} {period}"))?;
            }
            let amount = |bytes: i64| if bytes < 0 { "max".to_owned() } else { bytes.to_string() };
            if memory != 0 {
                set("memory", "memory.max", amount(memory))?;
            }
            let both = limits.memory_swap_limit_in_bytes;
            if both != 0
                && (memory > 0 || both < 0)
                && self.directory("memory", group).is_some_and(|d| d.join("memory.swap.max").exists())
            {
                // The CRI counts memory and swap together, as v1 did.
                let swap = if both < 0 { both } else { (both - memory).max(0) };
                set("memory", "memory.swap.max", amount(swap))?;
            }
            for (file, value) in &limits.unified {
                if file.contains('/') {
                    return Err(Error::InvalidArgument(format!("{file:?} is not a control group file")));
                }
                set("", file, value.clone())?;
            }
        } else {
            if shares > 0 {
                set("cpu", "cpu.shares", shares.to_string())?;
            }
            if limits.cpu_quota != 0 {
                set("cpu", "cpu.cfs_period_us", period.to_string())?;
                set("cpu", "cpu.cfs_quota_us", limits.cpu_quota.to_string())?;
            }
            let total = "memory.memsw.limit_in_bytes";
            // There without swap accounting it is not.
            let accounted = self.directory("memory", group).is_some_and(|d| d.join(total).exists());
            // Below zero is no limit, in the kernel's words too.
            let set_memory = || match memory {
                0 => Ok(()),
                _ => set("memory", "memory.limit_in_bytes", memory.max(-1).to_string()),
            };
            if limits.memory_swap_limit_in_bytes != 0 && accounted {
                // The one may never be above the other: what grows grows first, what shrinks shrinks last.
                let total = || set("memory", total, limits.memory_swap_limit_in_bytes.max(-1).to_string());
                if set_memory().is_err() {
                    total()?;
                    set_memory()?;
                }
                total()?;
            } else {
                set_memory()?;
            }
        }
        if !limits.cpuset_cpus.is_empty() {
            set("cpuset", "cpuset.cpus", limits.cpuset_cpus.clone())?;
        }
        if !limits.cpuset_mems.is_empty() {
            set("cpuset", "cpuset.mems", limits.cpuset_mems.clone())?;
        }
        self.limit_huge_pages(group, limits)
    }
}

fn legacy_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let line = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mount = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        let (kind, _source, options) = (right.next()?, right.next()?, right.next()?);
        (kind == "cgroup").then(|| Hierarchy {
            controllers: options.split(',').map(str::to_owned).collect(),
            mount: PathBuf::from(mount),
        })
    };
    mountinfo.lines().filter_map(line).collect()
}

/// Those that have been killed leave in their own time.
fn remove_emptied(directory: &Path, deadline: Instant) -> io::Result<()> {
    loop {
        match remove_tree(directory) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                await_exits(directory);
            }
            result => return result,
        }
    }
}

/// Waits until a process of a group has ended, but not for long: others may.
fn await_exits(directory: &Path) {
    let mut pids = Vec::new();
    collect_processes(directory, &mut pids);
    let pid = pids.into_iter().find_map(rustix::process::Pid::from_raw);
    let ended = pid.map(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()));
    let mut wait: Vec<PollFd<'_>> = Vec::new();
    if let Some(Ok(process)) = &ended {
        wait.push(PollFd::new(process, PollFlags::IN));
    }
    // With none to wait for, its number is given back already and the group is about to be told.
    let (seconds, nanoseconds) = (0, if wait.is_empty() { 1_000_000 } else { 100_000_000 });
    // Whatever ends the wait, the group is looked at again.
    let _ = poll(&mut wait, Some(&Timespec { tv_sec: seconds, tv_nsec: nanoseconds }));
}

fn collect_processes(directory: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    // 0 is a process of another PID namespace.
    pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
    for child in children(directory) {
        collect_processes(&child, pids);
    }
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::remove_dir(directory) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => {
            let children = children(directory);
            if children.is_empty() {
                return Err(e);
            }
            children.iter().try_for_each(|c| remove_tree(c))?;
            crate::disk::ignore_missing(fs::remove_dir(directory))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found() {
        let info = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                    31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
                    32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n\
                    33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n";
        let groups = Cgroups::Legacy(legacy_hierarchies(info));
        for (controller, expected) in [
            ("cpuacct", Some("/sys/fs/cgroup/cpu,cpuacct/a/b")),
            ("name=systemd", Some("/sys/fs/cgroup/systemd/a/b")),
            ("memory", None),
        ] {
            assert_eq!(groups.directory(controller, "/a/b"), expected.map(PathBuf::from), "{controller}");
        }
    }
}
