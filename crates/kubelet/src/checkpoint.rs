//! What the kubelet must still know when it is started again: a JSON file that is replaced whole.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

/// What the file holds; nothing when there is none. `what` is lost when it cannot be understood, and the log says so.
pub fn read<T: Default + DeserializeOwned>(path: &Path, what: &str) -> T {
    let Ok(bytes) = fs::read(path) else { return T::default() };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        warn!(path = %path.display(), %error, "cannot read {what}: none, for all that is known");
        T::default()
    })
}

pub fn write(path: &Path, state: &impl Serialize) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
    let text = serde_json::to_string(state).map_err(|error| failed(&error))?;
    pki::write_private(path, &text).map_err(|error| failed(&error))
}
