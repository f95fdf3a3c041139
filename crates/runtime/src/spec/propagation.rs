//! Whether a path of the node can propagate mounts as a volume wants: only a mount that has peers or a master can.

use std::fs;
use std::path::Path;

use k8s_cri::v1::MountPropagation;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use crate::{Error, Result};

/// Of the calling thread: its mount namespace need not be that of the process.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// Refuses a volume whose mounts would silently stay on one side.
pub fn check(source: &Path, wanted: MountPropagation) -> Result<()> {
    if wanted == MountPropagation::PropagationPrivate {
        return Ok(());
    }
    let found = statx(CWD, source, AtFlags::empty(), StatxFlags::MNT_ID)
        .map_err(Error::errno("find the mount of", source))?;
    let table = fs::read_to_string(MOUNTS).map_err(Error::io("read", MOUNTS))?;
    // What the table does not tell of is left to the kernel.
    let Some(mount) = find(&table, found.stx_mnt_id) else { return Ok(()) };
    let (enough, needed) = match wanted {
        MountPropagation::PropagationBidirectional => (mount.shared, "a shared mount"),
        _ => (mount.shared || mount.slave, "a shared or slave mount"),
    };
    if enough {
        return Ok(());
    }
    Err(Error::FailedPrecondition(format!(
        "path {:?} is mounted on {:?} but it is not {needed}: `mount --make-rshared {}` on the node makes it one",
        source, mount.point, mount.point,
    )))
}

#[derive(Debug, PartialEq)]
struct Found<'a> {
    /// As the table has it: blanks are octal escapes.
    point: &'a str,
    shared: bool,
    slave: bool,
}

/// The line of one mount (proc_pid_mountinfo(5)): its ID comes first, optional fields go from the seventh to a dash.
fn find(table: &str, id: u64) -> Option<Found<'_>> {
    let id = id.to_string();
    let line = table.lines().find(|line| line.split(' ').next() == Some(&id))?;
    let optional = line.split(' ').skip(6).take_while(|field| *field != "-");
    let has = |prefix: &str| optional.clone().any(|field| field.starts_with(prefix));
    let (shared, slave) = (has("shared:"), has("master:"));
    Some(Found { point: line.split(' ').nth(4)?, shared, slave })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table() {
        let table = "27 1 8:1 / / rw - ext4 shared:9 rw\n\
                     5 27 0:2 / /a\\040b rw,relatime shared:3 - tmpfs none rw\n\
                     6 27 0:3 / /c rw master:3 propagate_from:2 - tmpfs none rw\n\
                     7 27 0:4 / /d rw shared:4 master:3 - tmpfs none rw\n";
        let found = |id| find(table, id).map(|f| (f.point, f.shared, f.slave));
        assert_eq!(found(27), Some(("/", false, false)));
        assert_eq!(found(5), Some(("/a\\040b", true, false)));
        assert_eq!(found(6), Some(("/c", false, true)));
        assert_eq!(found(7), Some(("/d", true, true)));
        assert_eq!(found(2), None);
        assert_eq!(find("5 truncated", 5), None);
    }
}
