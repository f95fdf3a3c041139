//! How full a file system is that somebody else serves: over a network, or from a process.
//!
//! One that hangs keeps whoever asks it until it answers, be it never. So each is asked on a thread of its own, and one
//! that owes an answer is not asked again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{StatVfs, statvfs};

/// A file system that lives answers in microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Enough for one call of the kernel.
const STACK: usize = 64 << 10;

/// Since when each has been asked.
static ASKED: Mutex<BTreeMap<PathBuf, Instant>> = Mutex::new(BTreeMap::new());

/// Waits for a second at most; nothing from a file system that hangs.
pub fn of(path: &Path) -> Option<StatVfs> {
    of_any(path, |path| statvfs(path).ok())
}

fn of_any<T: Send + 'static>(path: &Path, ask: fn(&Path) -> Option<T>) -> Option<T> {
    let since = *ASKED.lock().entry(path.to_owned()).or_insert_with(Instant::now);
    if since.elapsed() > PATIENCE {
        return None;
    }
    let (tell, told) = mpsc::sync_channel(1);
    let asked = path.to_owned();
    let thread = std::thread::Builder::new().name("statvfs".into()).stack_size(STACK).spawn(move || {
        let answer = ask(&asked);
        ASKED.lock().remove(&asked);
        // Whoever asked may be tired of waiting.
        let _ = tell.send(answer);
    });
    if thread.is_err() {
        ASKED.lock().remove(path);
        return None;
    }
    told.recv_timeout(PATIENCE).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    static HANGS: Mutex<()> = Mutex::new(());

    #[test]
    fn what_hangs_is_asked_once() {
        assert!(of(Path::new("/")).is_some_and(|stat| stat.f_blocks > 0));
        assert!(of(Path::new("/none/such")).is_none());
        let path = Path::new("/hangs");
        let held = HANGS.lock();
        let ask = |_: &Path| {
            drop(HANGS.lock());
            Some(())
        };
        assert_eq!(of_any(path, ask), None);
        assert!(ASKED.lock().contains_key(path));
        assert_eq!(of_any(path, |_| panic!("asked again")), None::<()>);
        drop(held);
        while ASKED.lock().contains_key(path) {
            std::thread::yield_now();
        }
        assert_eq!(of_any(path, ask), Some(()), "it answers again");
    }
}
