//! RuntimeClass handlers: the OCI runtimes that containers are run with.

use std::path::{Path, PathBuf};

use crate::state::Runtime;
use crate::{Error, Result};

/// The built-in handler also answers to the empty name.
pub const BUILT_IN: &str = "corten";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// The shim carries out a plan of ours.
    BuiltIn,
    /// Any program with runc's command line.
    External(PathBuf),
}

impl Runtime {
    pub fn handler(&self, name: &str) -> Result<Handler> {
        if name.is_empty() || name == BUILT_IN {
            return Ok(Handler::BuiltIn);
        }
        match self.config.handlers.iter().find(|(handler, _)| handler == name) {
            Some((_, binary)) => Ok(Handler::External(binary.clone())),
            None => Err(Error::InvalidArgument(format!("no runtime for handler {name:?} is configured"))),
        }
    }

    /// The start of a command line: program, state directory, log.
    pub fn oci_command(&self, binary: &Path, bundle: &Path) -> Vec<String> {
        let mut command = vec![binary.display().to_string()];
        let root = self.config.run_dir.join("oci");
        let log = bundle.join("oci.log");
        command.extend([
            "--root".into(),
            root.display().to_string(),
            "--log".into(),
            log.display().to_string(),
        ]);
        command.extend(["--log-format".into(), "json".into()]);
        command
    }
}

/// The last error in an OCI runtime's log.
pub fn last_error(bundle: &Path) -> Option<String> {
    let text = std::fs::read_to_string(bundle.join("oci.log")).ok()?;
    let entries = text.lines().rev().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let mut errors = entries.filter(|e| e["level"] == "error");
    Some(errors.next()?["msg"].as_str()?.to_owned())
}
