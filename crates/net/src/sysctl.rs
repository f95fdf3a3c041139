//! Kernel settings under `/proc/sys`, which show the network namespace of the calling thread.

use std::path::Path;

use crate::{Error, Result};

/// Sets `/proc/sys/<key>` to `value`; does not write when it is so already (a read-only `/proc` is fine then).
pub(crate) fn set(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    if std::fs::read_to_string(&path).is_ok_and(|now| now.trim_end() == value) {
        return Ok(());
    }
    std::fs::write(&path, value).map_err(|source| Error::io("set the kernel parameter", path, source))
}
