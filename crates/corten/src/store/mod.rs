//! `corten store`: looking after the embedded store, while its process runs (by its socket) and while none does (by its
//! file).

pub mod admin;

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use store::{Options, Status, Store, snapshot};

use crate::cli::{SnapshotCommand, StoreCommand};
use crate::layout::Layout;
use crate::parts;
use admin::Request;

pub fn run(layout: &Layout, command: StoreCommand) -> Result<()> {
    match command {
        StoreCommand::Status => print_status(layout, carry_out(layout, Request::Status)?),
        StoreCommand::Compact { revision } => {
            let status = carry_out(layout, Request::Compact(revision))?;
            println!(
                "Compacted. Watches from before revision {} begin anew.",
                revision.unwrap_or(status.revision)
            );
            Ok(())
        }
        StoreCommand::Defragment => {
            let before = size(layout)?;
            carry_out(layout, Request::Defragment)?;
            println!("Defragmented: {} before, {} now.", bytes(before), bytes(size(layout)?));
            Ok(())
        }
        StoreCommand::Snapshot { command } => match command {
            SnapshotCommand::Save { file } => save(layout, &file),
            SnapshotCommand::Restore { file, bump_revision } => restore(layout, &file, bump_revision),
            SnapshotCommand::Status { file } => {
                let summary = check(&file)?;
                println!("revision  {}", summary.revision);
                println!("keys      {}", summary.entries);
                println!("size      {}", bytes(summary.bytes));
                println!("checksum  good");
                Ok(())
            }
        },
    }
}

/// By the process that uses the store, or else here.
fn carry_out(layout: &Layout, request: Request) -> Result<Status> {
    if let Some((status, _)) = admin::ask(&layout.store_socket(), request)? {
        return Ok(status);
    }
    let store = open(layout)?;
    match request {
        Request::Defragment => store.defragment()?,
        // History is kept in memory alone: a store that nobody uses has none.
        Request::Compact(_) | Request::Status | Request::Save => {}
    }
    Ok(store.status()?)
}

fn open(layout: &Layout) -> Result<Store> {
    let path = layout.store();
    if !path.exists() {
        bail!("there is no store at {}; is --root-dir right?", path.display());
    }
    Ok(Store::open(&path, Options::default())?)
}

fn save(layout: &Layout, file: &Path) -> Result<()> {
    let unfinished = file.with_added_extension("part");
    let write = || -> Result<()> {
        let mut out = private(&unfinished)?;
        match admin::ask(&layout.store_socket(), Request::Save)? {
            Some((_, mut snapshot)) => {
                io::copy(&mut snapshot, &mut out).context("cannot take the snapshot")?;
            }
            None => {
                open(layout)?.save(&mut out)?;
            }
        }
        out.flush().and_then(|()| out.sync_all()).context("cannot write the snapshot")
    };
    let saved = write().and_then(|()| check(&unfinished)).inspect_err(|_| {
        let _ = fs::remove_file(&unfinished);
    })?;
    fs::rename(&unfinished, file).with_context(|| format!("cannot make {}", file.display()))?;
    println!(
        "Saved {} keys at revision {} to {} ({}).",
        saved.entries,
        saved.revision,
        file.display(),
        bytes(saved.bytes)
    );
    Ok(())
}

/// Secrets are in it.
fn private(path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let made = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

fn check(file: &Path) -> Result<snapshot::Summary> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    snapshot::read(BufReader::with_capacity(1 << 20, opened), |_, _| Ok(()))
        .with_context(|| format!("{} cannot be used", file.display()))
}

fn restore(layout: &Layout, file: &Path, bump_revision: u64) -> Result<()> {
    // Nobody starts on a store that is half there.
    let _lock = parts::lock(layout)?;
    let path = layout.store();
    let restored = snapshot::restore(file, &path, bump_revision)
        .with_context(|| format!("cannot restore {}", file.display()))?;
    println!(
        "Restored {} keys to {}. Revisions go on from {}, so that clients list everything anew.",
        restored.entries,
        path.display(),
        restored.revision
    );
    Ok(())
}

fn size(layout: &Layout) -> Result<u64> {
    let path = layout.store();
    Ok(fs::metadata(&path).with_context(|| format!("cannot see {}", path.display()))?.len())
}

fn print_status(layout: &Layout, status: Status) -> Result<()> {
    println!("file      {}", layout.store().display());
    println!("revision  {}", status.revision);
    println!("keys      {}", status.keys);
    println!("stored    {}", bytes(status.stored));
    println!("in use    {}", bytes(status.allocated));
    println!("size      {}", bytes(size(layout)?));
    Ok(())
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        let check = |count, text| assert_eq!(bytes(count), text);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1536, "1.5 KiB");
        check(u64::MAX, "16777216.0 TiB");
    }
}
