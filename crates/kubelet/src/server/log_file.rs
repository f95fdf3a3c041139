//! Reading a container's log file, and following it through rotation, by inotify.
//!
//! A rotated log is renamed and a new file takes its name: a follower reads the old one to its end, then the new.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, mpsc};
use tracing::debug;

use super::log_format::parse;
use super::logs::Options;
use crate::cri::Cri;
use crate::turns::in_turn;

const CHUNK: usize = 64 << 10;
/// A line longer than this is not one that a runtime has written.
const LINE_MAX: usize = 1 << 20;

/// For a log that is to be followed: how to learn that its container has ended.
pub struct Follow {
    pub cri: Cri,
    pub container_id: String,
    pub pod_uid: String,
    /// UIDs of pods whose containers have changed.
    pub changes: broadcast::Receiver<std::sync::Arc<str>>,
}

/// Sends the log until its end, the limit, or nobody listens.
pub async fn send(path: PathBuf, options: Options, follow: Option<Follow>, to: mpsc::Sender<Bytes>) {
    if let Err(error) = try_send(&path, options, follow, to).await {
        debug!(path = %path.display(), %error, "cannot read a container's log");
    }
}

async fn try_send(
    path: &Path,
    options: Options,
    follow: Option<Follow>,
    to: mpsc::Sender<Bytes>,
) -> std::io::Result<()> {
    let watch = match &follow {
        Some(_) => Some(Watch::new(path)?),
        None => None,
    };
    let mut file = File::open(path)?;
    if let Some(tail) = options.tail {
        let start = in_turn(|| tail_offset(&mut file, tail)).await?;
        file.seek(SeekFrom::Start(start))?;
    }
    let mut writer = Writer::new(options);
    let mut rest = Vec::new();
    if !drain(&mut file, &mut rest, &mut writer, &to).await? {
        return Ok(());
    }
    let (Some(mut follow), Some(watch)) = (follow, watch) else {
        return Ok(());
    };
    let mut ended = has_ended(&follow).await;
    loop {
        // After every sign of life, and once more after the end.
        if !drain(&mut file, &mut rest, &mut writer, &to).await? {
            return Ok(());
        }
        if let Some(new) = rotated(path, &file) {
            drain(&mut file, &mut rest, &mut writer, &to).await?;
            file = new;
            continue;
        }
        if ended {
            return Ok(());
        }
        tokio::select! {
            () = to.closed() => return Ok(()),
            changed = watch.changed() => changed?,
            change = follow.changes.recv() => match change {
                Ok(uid) if *uid != *follow.pod_uid => continue,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => ended = has_ended(&follow).await,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }
}

async fn has_ended(follow: &Follow) -> bool {
    match follow.cri.container_status(&follow.container_id).await {
        Ok(status) => status.state != k8s_cri::v1::ContainerState::ContainerRunning as i32,
        Err(_) => true,
    }
}

/// Sends all complete lines; what is left of an incomplete one stays in `rest`. False when it is enough.
async fn drain(
    file: &mut File,
    rest: &mut Vec<u8>,
    writer: &mut Writer,
    to: &mpsc::Sender<Bytes>,
) -> std::io::Result<bool> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = in_turn(|| file.read(&mut chunk)).await?;
        if count == 0 {
            return Ok(true);
        }
        rest.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            if rest.len() > LINE_MAX {
                rest.clear();
            }
            continue;
        };
        let lines: Vec<u8> = rest.drain(..=end).collect();
        let out = writer.write(&lines);
        if !out.is_empty() && to.send(Bytes::from(out)).await.is_err() {
            return Ok(false);
        }
        if writer.done {
            return Ok(false);
        }
    }
}

/// The new file of that name, if the open one has been renamed away.
fn rotated(path: &Path, open: &File) -> Option<File> {
    use std::os::unix::fs::MetadataExt;
    let new = File::open(path).ok()?;
    let (old_meta, new_meta) = (open.metadata().ok()?, new.metadata().ok()?);
    (old_meta.ino() != new_meta.ino()).then_some(new)
}

/// Where the last `lines` lines begin.
fn tail_offset(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut seen = 0;
    let mut block = vec![0; CHUNK];
    let length = end;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let size = usize::try_from(end - start).unwrap_or(CHUNK);
        let Some(block) = block.get_mut(..size) else { break };
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        for (index, byte) in block.iter().enumerate().rev() {
            let after = start + index as u64 + 1;
            // The newline at the very end ends the last line; it does not begin one.
            if *byte == b'\n' && after < length {
                seen += 1;
                if seen == lines {
                    return Ok(after);
                }
            }
        }
        end = start;
    }
    Ok(if lines == 0 { length } else { 0 })
}

/// From lines of the file to what the client sees.
struct Writer {
    options: Options,
    left: Option<u64>,
    at_line_start: bool,
    done: bool,
}

impl Writer {
    fn new(options: Options) -> Self {
        Self { left: options.limit, options, at_line_start: true, done: false }
    }

    fn write(&mut self, lines: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let Some(entry) = parse(line) else { continue };
            if self.options.stderr.is_some_and(|stderr| stderr != entry.stderr) {
                continue;
            }
            if let Some(since) = self.options.since {
                match entry.time.parse::<Timestamp>() {
                    Ok(time) if time >= since => self.options.since = None,
                    _ => continue,
                }
            }
            if self.options.timestamps && self.at_line_start {
                out.extend_from_slice(entry.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(entry.content);
            if !entry.partial {
                out.push(b'\n');
            }
            self.at_line_start = !entry.partial;
        }
        if let Some(left) = &mut self.left {
            let allowed = usize::try_from(*left).unwrap_or(usize::MAX);
            if out.len() >= allowed {
                out.truncate(allowed);
                self.done = true;
            }
            *left = left.saturating_sub(out.len() as u64);
        }
        out
    }
}

/// Changes in the directory of a log file.
struct Watch {
    inotify: AsyncFd<OwnedFd>,
}

impl Watch {
    fn new(path: &Path) -> std::io::Result<Self> {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let inotify = inotify::init(flags)?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        let what = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, dir, what)?;
        // SAFETY: an OwnedFd stays open, and the same descriptor, until it is dropped, which AsyncFd does last.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE)? };
        Ok(Self { inotify })
    }

    /// Resolves when something has happened; what it was does not matter.
    async fn changed(&self) -> std::io::Result<()> {
        let mut buffer = [0_u8; 4096];
        let mut any = false;
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?)) {
                Ok(Ok(_)) => any = true,
                Ok(Err(error)) => return Err(error),
                Err(_) if any => return Ok(()),
                Err(_) => {}
            }
            if any {
                // Everything that is there, so that one change is one wake-up.
                while rustix::io::read(self.inotify.get_ref(), &mut buffer).is_ok_and(|count| count > 0) {}
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n\
                       2026-01-01T00:00:02Z stderr F two\n\
                       2026-01-01T00:00:03Z stdout P thr\n\
                       2026-01-01T00:00:03Z stdout F ee\n";

    async fn read(options: Options) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(LOG.as_bytes()).unwrap();
        let (sender, mut receiver) = mpsc::channel(8);
        send(file.path().to_owned(), options, None, sender).await;
        let mut got = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            got.extend_from_slice(&chunk);
        }
        String::from_utf8(got).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn parts_of_a_log() {
        let base = Options::default;
        assert_eq!(read(base()).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { tail: Some(3), ..base() }).await, "two\nthree\n");
        assert_eq!(read(Options { tail: Some(0), ..base() }).await, "");
        assert_eq!(read(Options { tail: Some(99), ..base() }).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { limit: Some(5), ..base() }).await, "one\nt");
        assert_eq!(read(Options { stderr: Some(true), ..base() }).await, "two\n");
        let since = "2026-01-01T00:00:02Z".parse().ok();
        assert_eq!(read(Options { since, ..base() }).await, "two\nthree\n");
        let stamped = read(Options { timestamps: true, tail: Some(2), ..base() }).await;
        assert_eq!(stamped, "2026-01-01T00:00:03Z three\n");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "").unwrap();
        let watch = Watch::new(&path).unwrap();
        let open = File::open(&path).unwrap();
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        assert!(rotated(&path, &open).is_none());
        std::fs::write(&path, "x").unwrap();
        watch.changed().await.unwrap();
        assert!(rotated(&path, &open).is_some());
    }
}
