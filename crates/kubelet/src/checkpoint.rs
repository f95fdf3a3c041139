//! What the kubelet must still know when it is started again: a JSON file that is replaced whole.
//!
//! Some of these files are upstream's, in place and format, so that either kubelet goes on where the other has stopped,
//! and agents that read them find what they know. Those carry a checksum: FNV-1a of what Go's `spew` prints of the
//! structure ([`checksum`]).

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

/// As [`read`], of a file with a checksum that `of` takes from it and computes anew.
pub fn read_checked<T: Default + DeserializeOwned>(
    path: &Path,
    what: &str,
    of: impl Fn(&T) -> (u32, u32),
) -> T {
    let state: T = read(path, what);
    let (written, computed) = of(&state);
    // Files of old kubelets have none.
    if written == computed || written == 0 {
        return state;
    }
    warn!(path = %path.display(), "checkpoint is corrupted, its checksum is wrong: {what} is not known any more");
    T::default()
}

pub fn write(path: &Path, state: &impl Serialize) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot write {}: {error}", path.display());
    let text = serde_json::to_string(state).map_err(|error| failed(&error))?;
    pki::write_private(path, &text).map_err(|error| failed(&error))
}

/// 32-bit FNV-1a.
pub fn checksum(printed: &str) -> u32 {
    printed.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A map as Go's `spew` prints it: `map[a:1 b:2]`, sorted by key.
pub fn printed_map<K: std::fmt::Display, V>(
    entries: impl IntoIterator<Item = (K, V)>,
    value: impl Fn(V) -> String,
) -> String {
    let entries: Vec<String> =
        entries.into_iter().map(|(key, entry)| format!("{key}:{}", value(entry))).collect();
    format!("map[{}]", entries.join(" "))
}
