//! The shim that this binary carries.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/corten-shim"));

/// Unpacks the shim below `root`, once. Its name carries its contents' fingerprint: pods of an older Corten go on with
/// the shim they have.
pub fn unpack(root: &Path) -> Result<PathBuf> {
    let directory = root.join("bin");
    let path = directory.join(format!("corten-shim-{:016x}", fingerprint(SHIM)));
    if path.exists() {
        return Ok(path);
    }
    let unpack = || -> io::Result<()> {
        fs::create_dir_all(&directory)?;
        let temporary = directory.join(format!(".shim-{}", std::process::id()));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(&temporary)?;
        file.write_all(SHIM)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, &path)?;
        File::open(&directory)?.sync_all()
    };
    unpack().with_context(|| format!("cannot unpack {}", path.display()))?;
    Ok(path)
}

/// FNV-1a: tells builds apart; nobody is to be kept from forging it, who could write to this directory anyway.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
