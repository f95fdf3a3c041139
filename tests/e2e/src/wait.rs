//! Waiting for what `kubectl wait` cannot wait for.

use std::time::{Duration, Instant};

/// Long enough for a busy machine; what works is there far earlier.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Tries until `attempt` gives something; fails with `what` and its last complaint.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(complaint) if Instant::now() > deadline => panic!("never: {what}: {complaint}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
