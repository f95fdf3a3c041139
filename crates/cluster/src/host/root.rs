//! A root of a host's own: an overlay of the machine's files, in memory, with the kernel's file systems and what the host
//! shares with the machine on top.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};

use super::spec::{Bind, Root};

/// Of the machine's mounts those that the host does not get: it has its own, or they are none of its business.
const NOT_TAKEN: [&str; 4] = ["/proc", "/run", "/tmp", "/var/lib"];
const OLD: &str = ".old";

/// Keeps the mounts of this namespace to itself.
pub fn make_private() -> Result<(), String> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| said("make its mounts private", Path::new("/"), errno.into()))
}

/// A view of this process namespace at `path`.
pub fn mount_proc(path: &Path) -> Result<(), String> {
    mount("proc", path, "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)
        .map_err(|errno| said("mount proc at", path, errno.into()))
}

/// Makes the root and enters it.
pub fn enter(root: &Root) -> Result<(), String> {
    let table = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| said("read", Path::new("/proc/self/mountinfo"), error))?;
    let stage = &root.stage;
    mount_tmpfs(stage)?;
    let [upper, work, new] = ["upper", "work", "root"].map(|name| stage.join(name));
    for directory in [&upper, &work, &new] {
        make_directory(directory)?;
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    let options = CString::new(options).map_err(|error| error.to_string())?;
    mount("overlay", &new, "overlay", MountFlags::empty(), options.as_c_str())
        .map_err(|errno| said("lay a root of its own over that of the machine at", &new, errno.into()))?;
    for point in taken(&table, stage) {
        let target = below(&new, &point);
        make_place(&point, &target)?;
        mount_bind_recursive(&point, &target)
            .map_err(|errno| said("take over the mount of", &point, errno.into()))?;
    }
    mount_proc(&new.join("proc"))?;
    for own in ["run", "tmp"] {
        make_directory(&new.join(own))?;
        mount_tmpfs(&new.join(own))?;
    }
    set_sticky(&new.join("tmp"))?;
    for wanted in &root.binds {
        bind(wanted, &new)?;
    }
    for file in &root.files {
        let path = below(&new, &file.path);
        make_directory(path.parent().unwrap_or(&new))?;
        // What is there may be a link to somewhere else.
        let _ = fs::remove_file(&path);
        fs::write(&path, &file.contents).map_err(|error| said("write", &file.path, error))?;
    }
    change_to(&new)
}

fn change_to(new: &Path) -> Result<(), String> {
    let old = new.join(OLD);
    make_directory(&old)?;
    let failed = |error: rustix::io::Errno| said("change the root to", new, error.into());
    rustix::process::pivot_root(new, &old).map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)?;
    let old = Path::new("/").join(OLD);
    unmount(&old, UnmountFlags::DETACH).map_err(failed)?;
    fs::remove_dir(&old).map_err(|error| said("remove", &old, error))?;
    // As on a machine that systemd has started: pods may propagate mounts from any path.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|errno| said("share the mounts below", Path::new("/"), errno.into()))
}

fn bind(wanted: &Bind, new: &Path) -> Result<(), String> {
    let target = below(new, &wanted.target);
    make_place(&wanted.source, &target)?;
    let failed = |errno: rustix::io::Errno| said("bind", &wanted.source, errno.into());
    mount_bind(&wanted.source, &target).map_err(failed)?;
    if wanted.read_only {
        mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, "").map_err(failed)?;
    }
    Ok(())
}

/// Somewhere to mount `source` on.
fn make_place(source: &Path, target: &Path) -> Result<(), String> {
    let found = fs::metadata(source).map_err(|error| said("look at", source, error))?;
    if found.is_dir() {
        return make_directory(target);
    }
    make_directory(target.parent().unwrap_or(target))?;
    match fs::File::options().create_new(true).write(true).open(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(said("make", target, error)),
        _ => Ok(()),
    }
}

fn make_directory(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| said("make the directory", path, error))
}

fn mount_tmpfs(path: &Path) -> Result<(), String> {
    mount("tmpfs", path, "tmpfs", MountFlags::empty(), c"mode=0755")
        .map_err(|errno| said("mount a file system in memory at", path, errno.into()))
}

fn set_sticky(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o1777))
        .map_err(|error| said("set the mode of", path, error))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn said(what: &str, path: &Path, error: io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

/// The machine's mounts that the host gets: the uppermost, for what is below comes with them.
fn taken(table: &str, stage: &Path) -> Vec<PathBuf> {
    let mut taken: Vec<PathBuf> = Vec::new();
    for line in table.lines() {
        // Blanks are octal escapes (proc(5)); a name that has any is left out.
        let Some(point) = line.split(' ').nth(4).filter(|point| !point.contains('\\')) else { continue };
        let point = Path::new(point);
        let skipped = point == Path::new("/")
            || NOT_TAKEN.iter().any(|other| point.starts_with(other))
            || stage.starts_with(point) && point.as_os_str().as_bytes() != b"/"
            || taken.iter().any(|above| point.starts_with(above));
        if !skipped {
            taken.push(point.to_owned());
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_mounts_are_taken() {
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /proc rw - proc proc rw\n\
                     3 1 0:3 / /sys rw - sysfs sysfs rw\n4 3 0:4 / /sys/fs/cgroup rw - cgroup2 c rw\n\
                     5 1 0:5 / /var/lib/docker/x rw - overlay o rw\n6 1 0:6 / /home rw - ext4 /dev/b rw\n\
                     7 1 0:7 / /run/user rw - tmpfs t rw\n8 1 0:8 / /mnt/a\\040b rw - ext4 /dev/c rw\n";
        let stage = Path::new("/var/lib/corten/clusters/c/nodes/n/stage");
        assert_eq!(taken(table, stage), [PathBuf::from("/sys"), "/home".into()]);
        assert!(taken("1\n\nx y z", stage).is_empty());
    }
}
