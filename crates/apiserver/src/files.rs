//! Following configuration files: what is in them is put in force when it changes, while the server runs.
//!
//! The kernel tells of changes in the file's directory, so that files that are replaced, or that a symbolic link
//! leads to (as in a mounted ConfigMap), are followed too.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use exposition::{Family, Kind, Meters, Page};
use jiff::Timestamp;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

/// A task that ends when this is dropped.
pub struct Task(tokio::task::JoinHandle<()>);

impl Task {
    pub fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a followed file configures, where upstream counts how often it was read anew.
#[derive(Clone, Copy, Debug)]
pub enum Configuration {
    Authentication,
    Authorization,
    Encryption,
}

impl Configuration {
    /// The names of what is counted, and of the time of the last one.
    fn meters(self) -> (&'static str, &'static str) {
        let [authentication, authorization, encryption] = RELOADS;
        let [count, last] = match self {
            Self::Authentication => authentication,
            Self::Authorization => authorization,
            Self::Encryption => encryption,
        };
        (count.name, last.name)
    }
}

const fn reloads(count: &'static str, last: &'static str) -> [Family; 2] {
    [
        Family {
            name: count,
            kind: Kind::Counter,
            help: "Total number of automatic reloads of the configuration split by status.",
        },
        Family {
            name: last,
            kind: Kind::Gauge,
            help: "Timestamp of the last automatic reload of the configuration split by status.",
        },
    ]
}

const RELOADS: &[[Family; 2]; 3] = &[
    reloads(
        "apiserver_authentication_config_controller_automatic_reloads_total",
        "apiserver_authentication_config_controller_automatic_reload_last_timestamp_seconds",
    ),
    reloads(
        "apiserver_authorization_config_controller_automatic_reloads_total",
        "apiserver_authorization_config_controller_automatic_reload_last_timestamp_seconds",
    ),
    reloads(
        "apiserver_encryption_config_controller_automatic_reloads_total",
        "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
    ),
];

/// What the process counts of its files.
static METERS: Meters = Meters::new(RELOADS.as_flattened());

/// How often files were read anew while the server ran.
pub fn write_metrics(page: &mut Page) {
    METERS.write(page);
}

/// A change has been put in force, or not.
fn reloaded(what: Option<Configuration>, well: bool) {
    let Some((count, last)) = what.map(Configuration::meters) else { return };
    let status = [("status", if well { "success" } else { "failure" })];
    METERS.count(count, &status);
    METERS.set(last, &status, Timestamp::now().as_duration().as_secs_f64());
}

/// Calls `changed` with the file's content whenever it is another one than `known`, until the task is dropped.
/// What `changed` refuses is logged, and what was in force stays.
pub fn follow<E: std::fmt::Display>(
    path: &Path,
    what: Option<Configuration>,
    known: Vec<u8>,
    mut changed: impl FnMut(&[u8]) -> Result<(), E> + Send + 'static,
) -> Task {
    let path = path.to_owned();
    Task::spawn(async move {
        let mut known = known;
        let watch = match Watch::new(&path) {
            Ok(watch) => watch,
            Err(error) => {
                warn!(%error, path = %path.display(), "cannot follow the file: changes need a restart");
                return;
            }
        };
        loop {
            // Read first: it may have changed before the watch was there.
            match tokio::fs::read(&path).await {
                Ok(content) if content != known => {
                    let outcome = changed(&content);
                    reloaded(what, outcome.is_ok());
                    match outcome {
                        Ok(()) => info!(path = %path.display(), "the file has changed and is in force"),
                        Err(error) => {
                            warn!(%error, path = %path.display(), "the file has changed but cannot be used: what was in force stays");
                        }
                    }
                    known = content;
                }
                Ok(_) => {}
                // About to be replaced, most likely.
                Err(error) => info!(%error, path = %path.display(), "cannot read the file now"),
            }
            if watch.changed().await.is_err() {
                return;
            }
        }
    })
}

/// Changes in the directory of a file.
struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    fn new(path: &Path) -> std::io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let what = WatchFlags::CLOSE_WRITE | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE;
        inotify::add_watch(&inotify, directory, what)?;
        // SAFETY: an OwnedFd stays open, and the same descriptor, until it is dropped, which AsyncFd does last.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE)? };
        Ok(Self { inotify })
    }

    /// Resolves when something has happened; what it was does not matter.
    async fn changed(&self) -> std::io::Result<()> {
        let mut buffer = [0_u8; 4096];
        loop {
            let mut ready = self.inotify.readable().await?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?));
            match read {
                Ok(Ok(_)) => {
                    // All that is there, so that one change is one wake-up.
                    while rustix::io::read(self.inotify.get_ref(), &mut buffer).is_ok_and(|count| count > 0) {
                    }
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, "1").unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let _task = follow(&path, Some(Configuration::Encryption), b"0".to_vec(), move |content| {
            tell.send(String::from_utf8_lossy(content).into_owned()).map_err(|error| error.to_string())
        });
        // What had changed before it was followed...
        assert_eq!(told.recv().await.as_deref(), Some("1"));
        std::fs::write(&path, "2").unwrap();
        assert_eq!(told.recv().await.as_deref(), Some("2"));
        // ...and a file that takes the place of the old one.
        let new = directory.path().join("new");
        std::fs::write(&new, "3").unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert_eq!(told.recv().await.as_deref(), Some("3"));
        let mut page = Page::default();
        write_metrics(&mut page);
        let counted = "apiserver_encryption_config_controller_automatic_reloads_total{status=\"success\"}";
        assert!(page.text().contains(counted));
    }
}
