//! Events as lines of a file, which is set aside when it has grown too long.
//!
//! A thread of its own writes: all events that are waiting with one call, and then tells their requests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::options::LogOptions;
use super::sink::Item;

/// So much is gathered for one call at most.
const WRITE: usize = 1 << 20;

/// Starts the writer; it ends when the queue is closed.
pub fn start(options: &LogOptions, queue: mpsc::Receiver<Item>) -> io::Result<()> {
    let mut log = Log::open(options)?;
    std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || log.run(queue))?;
    Ok(())
}

struct Log {
    options: LogOptions,
    out: Out,
}

enum Out {
    Stdout,
    File { file: File, length: u64 },
}

impl Log {
    fn open(options: &LogOptions) -> io::Result<Self> {
        let out = match options.path.as_os_str() == "-" {
            true => Out::Stdout,
            false => {
                if let Some(directory) = options.path.parent() {
                    fs::create_dir_all(directory)?;
                }
                open(&options.path)?
            }
        };
        Ok(Self { options: options.clone(), out })
    }

    fn run(&mut self, mut queue: mpsc::Receiver<Item>) {
        while let Some(first) = queue.blocking_recv() {
            let mut lines = Vec::with_capacity(first.event.len() + 1);
            let mut waiting = Vec::new();
            let mut next = Some(first);
            while let Some(item) = next {
                lines.extend_from_slice(&item.event);
                lines.push(b'\n');
                waiting.extend(item.done);
                next = if lines.len() < WRITE { queue.try_recv().ok() } else { None };
            }
            let written = self.write(&lines);
            if let Err(error) = &written {
                error!(%error, path = %self.options.path.display(), "cannot write the audit log");
            }
            for done in waiting {
                // Whose request has gone away does not care.
                let _ = done.send(written.is_ok());
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let limit = self.options.max_size.saturating_mul(1 << 20);
        if let Out::File { length, .. } = &self.out
            && limit > 0
            && *length > 0
            && length.saturating_add(lines.len() as u64) > limit
        {
            self.rotate()?;
        }
        match &mut self.out {
            Out::Stdout => io::stdout().write_all(lines),
            Out::File { file, length } => {
                *length += lines.len() as u64;
                file.write_all(lines)
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = self.options.path.clone();
        let aside = set_aside_name(&path, Timestamp::now());
        fs::rename(&path, &aside)?;
        self.out = open(&path)?;
        if self.options.compress
            && let Err(error) = compress(&aside)
        {
            warn!(%error, path = %aside.display(), "cannot compress an old audit log");
        }
        if let Err(error) = self.remove_old(&path) {
            warn!(%error, path = %path.display(), "cannot remove old audit logs");
        }
        Ok(())
    }

    fn remove_old(&self, path: &Path) -> io::Result<()> {
        let mut old = set_aside(path)?;
        // The names sort by time; the newest first.
        old.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = Duration::from_secs(self.options.max_age.saturating_mul(86_400));
        for (index, file) in old.iter().enumerate() {
            let surplus = self.options.max_backups > 0 && index >= self.options.max_backups;
            let age = || -> Option<Duration> {
                SystemTime::now().duration_since(fs::metadata(file).ok()?.modified().ok()?).ok()
            };
            let expired = !oldest.is_zero() && age().is_some_and(|age| age > oldest);
            if surplus || expired {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Out> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok(Out::File { file, length })
}

/// `audit-2026-11-23T09-30-00.123456.log` for `audit.log`.
fn set_aside_name(path: &Path, now: Timestamp) -> PathBuf {
    let (stem, extension) = name(path);
    path.with_file_name(format!("{stem}-{}{extension}", now.strftime("%Y-%m-%dT%H-%M-%S.%6f")))
}

fn name(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension =
        path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    (stem, extension)
}

/// Files that were set aside for this one.
fn set_aside(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = name(path);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let time = file_name
            .strip_prefix(&format!("{stem}-"))
            .map(|rest| rest.strip_suffix(".gz").unwrap_or(rest))
            .and_then(|rest| rest.strip_suffix(&extension));
        // Other files of similar names are not ours to remove.
        if time.is_some_and(|time| time.len() == 26 && time.as_bytes().get(10) == Some(&b'T')) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn compress(path: &Path) -> io::Result<()> {
    let mut compressed = path.as_os_str().to_owned();
    compressed.push(".gz");
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&compressed)?;
    let mut encoder = GzEncoder::new(out, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/audit.log");
        let options =
            LogOptions { max_size: 1, max_backups: 2, compress: true, ..LogOptions::new(path.clone()) };
        let mut log = Log::open(&options).unwrap();
        fs::write(directory.path().join("logs/audit-notes.log"), "mine").unwrap();
        let line = [b'x'; 700 << 10];
        for _ in 0..5 {
            log.write(&line).unwrap();
        }
        let old = set_aside(&path).unwrap();
        assert_eq!(old.len(), 2, "{old:?}");
        assert!(old.iter().all(|file| file.extension().is_some_and(|extension| extension == "gz")));
        assert_eq!(fs::metadata(&path).unwrap().len(), line.len() as u64);
        assert!(directory.path().join("logs/audit-notes.log").exists());
        // What is there is appended to.
        let mut again = Log::open(&options).unwrap();
        again.write(b"y").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), line.len() as u64 + 1);
    }
}
