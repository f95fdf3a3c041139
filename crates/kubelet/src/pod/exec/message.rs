//! Termination messages: what a container left in its file, or, having failed without a word, its last log lines.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::cri::view::{Container, PodView, State};
use crate::server::log_format;

const FILE_MAX: u64 = 4096;
const LOG_MAX: u64 = 2048;
const LOG_LINES: usize = 80;

/// Adds messages to the containers of `news` that are not known to have ended yet.
pub fn complete(news: &mut PodView, known: &PodView) {
    for (id, container) in &mut news.containers {
        if is_news(id, known) && container.state == State::Exited {
            add_message(container);
        }
    }
}

/// The same for one container.
pub fn complete_one(container: &mut Container, known: &PodView) {
    if is_news(&container.id, known) && container.state == State::Exited {
        add_message(container);
    }
}

fn is_news(id: &str, known: &PodView) -> bool {
    known.containers.get(id).is_none_or(|known| known.state != State::Exited)
}

fn add_message(container: &mut Container) {
    let mut message = String::new();
    if let Some(path) = &container.message_file {
        message = tail(Path::new(path), FILE_MAX);
    }
    let fall_back = container.message_policy == "FallbackToLogsOnError" && container.exit_code != 0;
    if message.is_empty() && fall_back {
        message = log_tail(Path::new(&container.log_path));
    }
    if !message.is_empty() {
        if !container.message.is_empty() {
            container.message.push_str(": ");
        }
        container.message.push_str(&message);
    }
}

/// The last bytes of a file; empty when it cannot be read: a message is a courtesy.
fn tail(path: &Path, max: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(max)))?;
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn log_tail(path: &Path) -> String {
    // Each line carries a time stamp and more.
    let raw = tail(path, LOG_MAX * 4);
    let lines: Vec<&str> = raw.lines().collect();
    let first = lines.len().saturating_sub(LOG_LINES);
    let text: String = lines
        .iter()
        .skip(first)
        .filter_map(|line| log_format::parse(line.as_bytes()))
        .map(|entry| {
            let text = String::from_utf8_lossy(entry.content).into_owned();
            if entry.partial { text } else { text + "\n" }
        })
        .collect();
    let keep = usize::try_from(LOG_MAX).unwrap_or(usize::MAX);
    let mut start = text.len().saturating_sub(keep);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default().to_owned()
}
