//! `corten cluster export logs`: what the nodes and their pods have written.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cluster::record::{Record, Records};

const LOGS: &str = "/var/log";

pub fn export(records: &Records, record: &Record, directory: &Path) -> Result<()> {
    for node in &record.nodes {
        let Some(from) = cluster::node::kept(records, &record.name, &node.name, Path::new(LOGS)) else {
            continue;
        };
        let to = directory.join(&node.name);
        copy(&from, &to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    let relay = records.directory(&record.name).join(super::create::RELAY_LOG);
    if relay.exists() {
        fs::copy(&relay, directory.join(super::create::RELAY_LOG)).context("cannot copy the relay's log")?;
    }
    let text = serde_json::to_string_pretty(record)?;
    fs::write(directory.join("cluster.json"), text)
        .with_context(|| format!("cannot write to {}", directory.display()))?;
    println!("The logs of cluster {:?} are in {}.", record.name, directory.display());
    Ok(())
}

/// Directories and files; links lead to where only the node is, to files that are copied anyway.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            match fs::copy(entry.path(), target) {
                // It has been rotated away meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied?),
            }
        }
    }
    Ok(())
}
