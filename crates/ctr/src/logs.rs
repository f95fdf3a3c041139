//! A container's log, as it was written.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use cri::v1::{ContainerEventType, ContainerStatusRequest, GetEventsRequest};
use rustix::fs::inotify;
use tokio::sync::mpsc;

use crate::{Ctr, is_running, told};

impl Ctr {
    /// Prints it, the last lines of it, or all that comes until the container ends.
    pub async fn logs(&mut self, wanted: &str, follow: bool, tail: Option<usize>) -> Result<()> {
        let container = self.find(wanted).await?;
        // Before the log is read, so that no end is missed.
        let events = self.runtime.get_container_events(GetEventsRequest {}).await.map_err(told)?;
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = self.runtime.container_status(request).await.map_err(told)?.into_inner();
        let path = status.status.map(|s| s.log_path).unwrap_or_default();
        if path.is_empty() {
            bail!("container {wanted} keeps no log");
        }
        let mut log = Log::open(Path::new(&path))?;
        log.skip_to(tail)?;
        log.print()?;
        if follow && is_running(&container) {
            self.follow(&container.id, log, events.into_inner()).await?;
        }
        Ok(())
    }

    /// Prints what is written until the container has ended.
    pub(crate) async fn follow(
        &mut self,
        id: &str,
        mut log: Log,
        mut events: tonic::Streaming<cri::v1::ContainerEventResponse>,
    ) -> Result<()> {
        let mut changes = watch(&log.path)?;
        loop {
            tokio::select! {
                event = events.message() => {
                    let Some(event) = event.map_err(told)? else { break };
                    let ended = event.container_event_type() == ContainerEventType::ContainerStoppedEvent;
                    if event.container_id == id && ended {
                        break;
                    }
                }
                changed = changes.recv() => {
                    if changed.is_none() {
                        break;
                    }
                    log.print()?;
                }
            }
        }
        log.print()
    }
}

pub(crate) struct Log {
    path: std::path::PathBuf,
    reader: BufReader<File>,
    /// A line whose end is not there yet.
    begun: Vec<u8>,
}

impl Log {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), reader: BufReader::new(file), begun: Vec::new() })
    }

    fn skip_to(&mut self, tail: Option<usize>) -> Result<()> {
        let Some(tail) = tail else { return Ok(()) };
        // Where the last lines begin.
        let (mut starts, mut at) = (std::collections::VecDeque::new(), 0_u64);
        let mut line = Vec::new();
        loop {
            line.clear();
            let n = self.reader.read_until(b'\n', &mut line)?;
            if n == 0 {
                break;
            }
            starts.push_back(at);
            at += n as u64;
            if starts.len() > tail {
                starts.pop_front();
            }
        }
        let start = starts.front().copied().unwrap_or(at);
        std::io::Seek::seek(&mut self.reader, std::io::SeekFrom::Start(start))?;
        Ok(())
    }

    pub fn print(&mut self) -> Result<()> {
        let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
        while self.reader.read_until(b'\n', &mut self.begun)? > 0 && self.begun.ends_with(b"\n") {
            let line = std::mem::take(&mut self.begun);
            let Some((stream, whole, text)) = parse(&line) else { continue };
            let to: &mut dyn Write = if stream == b"stderr" { &mut err } else { &mut out };
            to.write_all(text)?;
            if whole {
                to.write_all(b"\n")?;
            }
        }
        Ok(out.flush()?)
    }
}

/// Time, stream, whether it is a whole line, and the text.
fn parse(line: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut words = line.splitn(4, |b| *b == b' ');
    let (_time, stream, tag) = (words.next()?, words.next()?, words.next()?);
    Some((stream, tag == b"F", words.next().unwrap_or_default()))
}

/// Something for each time that a file is written to.
fn watch(path: &Path) -> Result<mpsc::Receiver<()>> {
    let watched = inotify::init(inotify::CreateFlags::CLOEXEC).context("cannot watch files")?;
    inotify::add_watch(&watched, path, inotify::WatchFlags::MODIFY)
        .with_context(|| format!("cannot watch {}", path.display()))?;
    let (changed, changes) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // Ends when nobody listens any more, or with the program.
        while matches!(rustix::io::read(&watched, &mut buffer), Ok(1..)) {
            match changed.try_send(()) {
                Err(mpsc::error::TrySendError::Closed(())) => break,
                _ => continue,
            }
        }
    });
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, expected) in [
            ("T stdout F a b\n", Some(("stdout", true, "a b"))),
            ("T stderr P x", Some(("stderr", false, "x"))),
            ("T stdout F \n", Some(("stdout", true, ""))),
            ("T stdout F\n", Some(("stdout", true, ""))),
            ("nonsense\n", None),
        ] {
            let expected = expected.map(|(s, w, t)| (s.as_bytes(), w, t.as_bytes()));
            assert_eq!(parse(line.as_bytes()), expected, "{line:?}");
        }
    }
}
