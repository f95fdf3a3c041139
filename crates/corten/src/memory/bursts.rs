//! What a burst of work leaves free in the heap goes back to the kernel once the burst is over. The allocator by itself
//! gives back the end of a heap only, and a few long-lived objects at the end hold all that is free before them.

use std::fs;
use std::io;
use std::time::Duration;

use tracing::debug;

/// How often the process looks at itself: a page of /proc.
const PERIOD: Duration = Duration::from_secs(10);
/// A process that works less than this in a period is past its burst.
const CALM: Duration = Duration::from_millis(500);
/// Growth that is worth going through the heap for.
const WORTHWHILE: u64 = 8 << 20;

/// Runs as long as the process does.
pub async fn give_back_after_bursts() {
    let mut heap = match Usage::now() {
        Ok(usage) => Heap::new(usage),
        Err(error) => return debug!(%error, "memory that bursts leave free stays"),
    };
    loop {
        tokio::time::sleep(PERIOD).await;
        let Ok(usage) = Usage::now() else { continue };
        if !heap.look(usage) {
            continue;
        }
        // Each arena is locked while its pages go.
        let _ = tokio::task::spawn_blocking(give_back).await;
        let Ok(after) = Usage::now() else { continue };
        debug!(before = usage.memory, after = after.memory, "gave memory back");
        heap.given_back(after);
    }
}

/// Memory of its own that the process has written to, and the time it has worked.
#[derive(Clone, Copy)]
struct Usage {
    memory: u64,
    worked: Duration,
}

impl Usage {
    fn now() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let memory =
            own_memory(&status).ok_or_else(|| io::Error::other("/proc/self/status has no RssAnon"))?;
        Ok(Self { memory, worked: worked()? })
    }
}

/// The processor time of all threads.
fn worked() -> io::Result<Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills in a structure of this type, of numbers only, for which zeroes are values as well.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        usage.assume_init()
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}

/// Resident memory but for that of files, from proc_pid_status(5).
fn own_memory(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What is known of the heap from one look to the next.
struct Heap {
    /// What the process held when nothing was to be given back.
    least: u64,
    worked: Duration,
}

impl Heap {
    fn new(usage: Usage) -> Self {
        Self { least: usage.memory, worked: usage.worked }
    }

    /// Whether a burst is over that has left something.
    fn look(&mut self, usage: Usage) -> bool {
        let calm = usage.worked.saturating_sub(self.worked) < CALM;
        self.worked = usage.worked;
        self.least = self.least.min(usage.memory);
        calm && usage.memory > self.least + (self.least / 4).max(WORTHWHILE)
    }

    /// What is held now is in use.
    fn given_back(&mut self, usage: Usage) {
        *self = Self::new(usage);
    }
}

fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own locks; it gives up free pages only.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn usage(mib: u64, worked_ms: u64) -> Usage {
        Usage { memory: mib * MIB, worked: Duration::from_millis(worked_ms) }
    }

    #[test]
    fn memory_goes_back_when_a_burst_is_over() {
        let mut heap = Heap::new(usage(20, 0));
        for (mib, worked_ms, expected, why) in [
            (24, 100, false, "grown a little"),
            (120, 9_000, false, "still at work"),
            (130, 9_100, true, "the burst is over"),
        ] {
            assert_eq!(heap.look(usage(mib, worked_ms)), expected, "{why}");
        }
        // Most of it was in use: that is no reason to look again.
        heap.given_back(usage(100, 9_200));
        assert!(!heap.look(usage(124, 9_300)));
        assert!(heap.look(usage(126, 9_400)));
        // What the process frees by itself counts.
        let mut heap = Heap::new(usage(100, 0));
        assert!(!heap.look(usage(10, 10)));
        assert!(heap.look(usage(30, 20)));
    }

    #[test]
    fn lines_of_status() {
        assert_eq!(own_memory("VmRSS:\t  9 kB\nRssAnon:\t    20 kB\nRssFile:\t 1 kB\n"), Some(20 << 10));
        assert_eq!(own_memory("RssAnon:\t many kB\n"), None);
        assert_eq!(own_memory(""), None);
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn free_memory_goes_back() {
        // Too small to be mapped each by itself, and the last one of them stays.
        let (free, kept): (Vec<_>, Vec<_>) =
            (0..16 << 10).map(|_| vec![1_u8; 1 << 10]).enumerate().partition(|(i, _)| i % 4096 != 4095);
        let before = Usage::now().unwrap().memory;
        drop(free);
        give_back();
        let after = Usage::now().unwrap().memory;
        assert!(after + 8 * MIB < before, "{before} {after}");
        assert_eq!(kept.len(), 4);
    }
}
