//! Tells when something in a directory changes, by inotify.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tracing::warn;

const RETRY: Duration = Duration::from_secs(1);

/// Changes whenever names in `dir` come, go or are written to; the directory may not exist yet. Followed for as long as
/// the receiver lives.
pub fn follow(dir: PathBuf) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    // Nothing that happens from now on is missed, though it is told a little later.
    let first = open(&dir);
    tokio::spawn(async move {
        let mut opened = first;
        loop {
            let problem = match opened {
                Ok(inotify) => tokio::select! {
                    () = sender.closed() => return,
                    result = read(inotify, &sender) => match result { Ok(()) => return, Err(error) => error },
                },
                Err(error) => error,
            };
            warn!(path = %dir.display(), error = %problem, "cannot watch a directory, trying again");
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
            opened = open(&dir);
            sender.send_modify(|count| *count += 1);
        }
    });
    receiver
}

fn open(dir: &Path) -> std::io::Result<OwnedFd> {
    let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    let what = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::CREATE
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::DELETE;
    inotify::add_watch(&inotify, dir, what)?;
    Ok(inotify)
}

async fn read(inotify: OwnedFd, changes: &watch::Sender<u64>) -> std::io::Result<()> {
    // SAFETY: an OwnedFd stays open, and the same descriptor, until it is dropped, which AsyncFd does last.
    let inotify: AsyncFd<OwnedFd> = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE)? };
    loop {
        let mut ready = inotify.readable().await?;
        let mut buffer = [0_u8; 4096];
        while rustix::io::read(inotify.get_ref(), &mut buffer).is_ok_and(|count| count > 0) {}
        ready.clear_ready();
        changes.send_modify(|count| *count += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_that_come_and_go_are_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = follow(dir.path().to_owned());
        changes.mark_unchanged();
        std::fs::write(dir.path().join("a"), "").unwrap();
        changes.changed().await.unwrap();
        changes.mark_unchanged();
        std::fs::remove_file(dir.path().join("a")).unwrap();
        changes.changed().await.unwrap();
    }
}
