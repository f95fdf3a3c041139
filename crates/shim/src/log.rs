//! CRI log files: one line per line of output, each with its time, stream and whether it is whole.

use std::fs::File;
use std::io::{self, Write};

use crate::stdio::Stream;
use crate::sys;

/// A longer line is cut into parts of this size, tagged P, of which the last is tagged F.
const LONGEST_LINE: usize = 16 << 10;

pub struct Log {
    path: String,
    file: Option<File>,
    /// What each stream wrote after its last line break.
    rest: [Vec<u8>; 2],
}

impl Log {
    /// Opens the file for appending; an empty path means no log.
    pub fn open(path: &str) -> io::Result<Self> {
        let file = if path.is_empty() { None } else { Some(open(path)?) };
        Ok(Self { path: path.to_owned(), file, rest: [Vec::new(), Vec::new()] })
    }

    /// Keeps nothing.
    pub fn none() -> Self {
        Self { path: String::new(), file: None, rest: [Vec::new(), Vec::new()] }
    }

    /// The file was renamed away: go on in a new one.
    pub fn reopen(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            self.file = Some(open(&self.path)?);
        }
        Ok(())
    }

    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let mut out = Vec::with_capacity(bytes.len() + 64);
        format(&mut out, &timestamp(sys::now()), stream, &mut self.rest[stream as usize], bytes);
        // A full disk must not stop the container: what cannot be written is lost.
        let _ = file.write_all(&out);
    }

    /// The stream has ended. What is left of it had no line break, and so it is told: as a part.
    pub fn finish(&mut self, stream: Stream) {
        let rest = std::mem::take(&mut self.rest[stream as usize]);
        let Some(file) = &mut self.file else { return };
        if !rest.is_empty() {
            let mut out = Vec::with_capacity(rest.len() + 64);
            line(&mut out, &timestamp(sys::now()), stream, b'P', &rest);
            let _ = file.write_all(&out);
        }
    }
}

fn open(path: &str) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().append(true).create(true).mode(0o640).open(path)
}

/// Appends what `bytes` completes to `out`, and keeps the rest.
fn format(out: &mut Vec<u8>, time: &str, stream: Stream, rest: &mut Vec<u8>, bytes: &[u8]) {
    for piece in bytes.split_inclusive(|&b| b == b'\n') {
        let (content, whole) = match piece.strip_suffix(b"\n") {
            Some(content) => (content, true),
            None => (piece, false),
        };
        if whole && rest.is_empty() && content.len() <= LONGEST_LINE {
            line(out, time, stream, b'F', content);
            continue;
        }
        rest.extend_from_slice(content);
        let mut start = 0;
        while rest.len() - start > LONGEST_LINE {
            line(out, time, stream, b'P', &rest[start..start + LONGEST_LINE]);
            start += LONGEST_LINE;
        }
        if whole {
            line(out, time, stream, b'F', &rest[start..]);
            *rest = Vec::new();
        } else {
            rest.drain(..start);
        }
    }
}

fn line(out: &mut Vec<u8>, time: &str, stream: Stream, tag: u8, content: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    });
    out.extend_from_slice(&[tag, b' ']);
    out.extend_from_slice(content);
    out.push(b'\n');
}

/// RFC 3339 in UTC with nanoseconds.
fn timestamp(nanoseconds: i64) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let fraction = nanoseconds.rem_euclid(1_000_000_000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to civil date, with years that begin in March so that the leap day is the last: 146097 days make 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:09}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps() {
        for (nanoseconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_709_251_199_999_999_999, "2024-02-29T23:59:59.999999999Z"),
            (1_795_413_077_120_000_000, "2026-11-23T05:51:17.120000000Z"),
        ] {
            assert_eq!(timestamp(nanoseconds), expected);
        }
    }

    fn formatted(chunks: &[&[u8]]) -> (String, Vec<u8>) {
        let (mut out, mut rest) = (Vec::new(), Vec::new());
        for chunk in chunks {
            format(&mut out, "T", Stream::Stdout, &mut rest, chunk);
        }
        (String::from_utf8(out).unwrap(), rest)
    }

    #[test]
    fn lines_are_joined_across_reads() {
        let (out, rest) = formatted(&[b"he", b"llo\nwor", b"ld\n\nx"]);
        assert_eq!(out, "T stdout F hello\nT stdout F world\nT stdout F \n");
        assert_eq!(rest, b"x");
    }

    #[test]
    fn long_lines_are_cut() {
        let long = vec![b'a'; LONGEST_LINE + 5];
        let (out, rest) = formatted(&[&long, b"b\n"]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), "T stdout P ".len() + LONGEST_LINE);
        assert_eq!(lines[1], "T stdout F aaaaab");
        assert!(rest.is_empty());
    }

    proptest! {
        /// Whatever the chunking, joining the parts gives what was written, and no part is over the limit.
        #[test]
        fn nothing_is_lost(
            lines in proptest::collection::vec(prop_oneof![0..50usize, 0..40_000usize], 0..6),
            cuts in proptest::collection::vec(1..20_000usize, 1..6),
        ) {
            let text = lines.iter().map(|n| "a".repeat(*n)).collect::<Vec<_>>().join("\n").into_bytes();
            let (mut out, mut rest) = (Vec::new(), Vec::new());
            let (mut left, mut cuts) = (&text[..], cuts.into_iter().cycle());
            while !left.is_empty() {
                let n = cuts.next().unwrap_or(1).min(left.len());
                format(&mut out, "T", Stream::Stderr, &mut rest, &left[..n]);
                left = &left[n..];
            }
            let mut joined = Vec::new();
            for line in out.split_inclusive(|&b| b == b'\n') {
                let line = &line[..line.len() - 1];
                prop_assert!(line.starts_with(b"T stderr "));
                let content = &line[b"T stderr F ".len()..];
                prop_assert!(content.len() <= LONGEST_LINE);
                joined.extend_from_slice(content);
                if line[b"T stderr ".len()] == b'F' {
                    joined.push(b'\n');
                }
            }
            joined.extend_from_slice(&rest);
            prop_assert_eq!(joined, text);
        }
    }
}
