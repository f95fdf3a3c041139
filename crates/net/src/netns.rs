//! Doing something inside another network namespace.

use std::fs::File;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::{Error, Result};

/// Opens the namespace file (`/proc/<pid>/ns/net` or a bind mount of one).
pub(crate) fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| Error::io("open the network namespace", path, source))
}

/// Runs `work` on a thread that has entered `namespace`. The thread ends with it, so no other work can ever
/// run in the wrong namespace.
pub(crate) fn inside<T: Send>(
    namespace: &File,
    path: &Path,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let run = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::io("enter the network namespace", path, errno.into()))?;
        work()
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
