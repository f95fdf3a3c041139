//! One limit of a cgroup: its file, and what stands in it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub struct Knob {
    pub file: PathBuf,
    pub text: String,
    /// Nothing for no limit.
    pub value: Option<i64>,
}

impl Knob {
    /// -1 stands for no limit.
    pub fn number(file: PathBuf, value: Option<i64>) -> Self {
        let text = value.unwrap_or(-1).to_string();
        Self { file, text, value: value.filter(|value| *value >= 0) }
    }

    /// `max` stands for no limit.
    pub fn word(file: PathBuf, value: Option<i64>) -> Self {
        Self { file, text: value.map_or("max".to_owned(), |value| value.to_string()), value }
    }

    /// A controller that the machine does not lend us has no file: its limits are not kept, as everybody who runs
    /// there knows.
    pub fn set(&self) -> std::io::Result<()> {
        match std::fs::OpenOptions::new().write(true).truncate(true).open(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            file => file
                .and_then(|mut file| std::io::Write::write_all(&mut file, self.text.as_bytes()))
                .map_err(|error| at(&self.file, error)),
        }
    }

    /// Only if that takes nothing away.
    pub fn widen(&self) -> std::io::Result<()> {
        let Ok(now) = std::fs::read_to_string(&self.file) else { return Ok(()) };
        let now: Option<i64> = now.split_whitespace().next().and_then(|word| word.parse().ok());
        let now = now.filter(|now| *now >= 0);
        let grows = match (now, self.value) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(now), Some(wanted)) => wanted > now,
        };
        if grows { self.set() } else { Ok(()) }
    }
}

pub fn at(path: &Path, error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// v1 shares as v2 weight.
pub fn weight(shares: i64) -> i64 {
    let weight = k8s_cri::cpu_weight(u64::try_from(shares).unwrap_or(0));
    i64::try_from(weight).unwrap_or(1)
}
