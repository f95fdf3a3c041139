//! `reset`: the machine as if there had never been a Corten.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use crate::cli::{Directories, ResetArgs};
use crate::{detach, parts, roles, shim};

/// Where a machine's only kubelet has its pods write.
const LOGS: [&str; 2] = ["/var/log/pods", "/var/log/containers"];

pub async fn run(directories: &Directories, args: ResetArgs) -> Result<()> {
    let layout = directories.layout();
    let clusters = cluster::record::Records::new(&layout.root).all()?;
    if !clusters.is_empty() {
        bail!(
            "this machine has clusters of several nodes: delete them first with: corten cluster delete --all"
        );
    }
    if !args.force {
        confirm(&layout.root)?;
    }
    detach::down(directories)?;
    let lock = parts::lock(&layout)?;
    let config = roles::runtime_config(&layout, &args.runtime, &args.network, shim::unpack(&layout.root)?)?;
    let pods = runtime::clear(config).await.context("cannot remove the pods")?;
    println!("Removed {pods} pods and their network.");
    roles::clear_network(&args.network)?;
    for directory in [&layout.run, &layout.kubelet(), &layout.root] {
        unmount_below(directory)?;
    }
    for cgroup in [args.runtime.cgroup_parent.as_str(), "/kubepods"] {
        cluster::cgroups::remove(cgroup);
    }
    drop(lock);
    let logs = if layout.is_of_the_machine() { &LOGS[..] } else { &[] };
    for directory in logs.iter().map(Path::new).chain([&*layout.run, &layout.kubelet(), &layout.root]) {
        remove_contents(directory)?;
    }
    println!("Removed all in {} and {}.", layout.run.display(), layout.root.display());
    Ok(())
}

fn confirm(root: &Path) -> Result<()> {
    if !io::stdin().is_terminal() {
        bail!("reset removes every pod and all data in {}; say so with --force", root.display());
    }
    print!("This kills every pod and removes all data in {}. Go on? [y/N] ", root.display());
    io::stdout().flush().context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    anyhow::ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was changed");
    Ok(())
}

/// Unmounts what is mounted below `directory`, the last first.
fn unmount_below(directory: &Path) -> Result<()> {
    let Ok(directory) = directory.canonicalize() else { return Ok(()) };
    let table = fs::read_to_string("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    for mount in mount_points(&table).iter().rev().filter(|path| path.starts_with(&directory)) {
        match unmount(mount, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It went with one above it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e).with_context(|| format!("cannot unmount {}", mount.display())),
        }
    }
    Ok(())
}

/// The fifth column of mountinfo, in which blanks are octal escapes (proc(5)).
fn mount_points(table: &str) -> Vec<PathBuf> {
    let column = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    let unescape = |path: String| {
        let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
        plain.iter().fold(path, |path, (escaped, plain)| path.replace(escaped, plain))
    };
    table.lines().filter_map(column).map(|path| PathBuf::from(unescape(path))).collect()
}

/// The directory itself may be a mount point, or somebody else's to keep.
fn remove_contents(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", directory.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
        let path = entry.path();
        let removed = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let _ = fs::remove_dir(directory);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        let table = "22 1 0:21 / /proc rw - proc proc rw\n30 22 0:5 /a /mnt/a\\040b\\134c rw shared:1 - ext4 /dev/x rw\n";
        assert_eq!(mount_points(table), [PathBuf::from("/proc"), PathBuf::from("/mnt/a b\\c")]);
        assert!(mount_points("\n x").is_empty());
    }

    #[test]
    fn contents_are_removed() {
        let directory = std::env::temp_dir().join(format!("corten-reset-{}", std::process::id()));
        fs::create_dir_all(directory.join("a/b")).unwrap();
        fs::write(directory.join("a/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", directory.join("link")).unwrap();
        remove_contents(&directory).unwrap();
        assert!(!directory.exists());
        assert!(Path::new("/etc/hostname").exists() || Path::new("/etc/passwd").exists());
        remove_contents(&directory).unwrap();
    }
}
