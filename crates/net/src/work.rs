//! Waiting, for a thread of its own that makes the kernel what others say it is to be.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

/// Until the kernel is asked again for what it refused, for a reason that time may heal (no memory).
const RETRY: Duration = Duration::from_secs(1);

/// Waits for what is to be done, and takes all there is; after a failure no longer than until it is time to try again,
/// with nothing new then. None when nobody is left to ask for anything.
pub fn next<T>(asked: &Receiver<T>, failed: bool) -> Option<Vec<T>> {
    let first = if failed {
        match asked.recv_timeout(RETRY) {
            Err(RecvTimeoutError::Disconnected) => return None,
            first => first.ok(),
        }
    } else {
        match asked.recv() {
            Ok(first) => Some(first),
            Err(mpsc::RecvError) => return None,
        }
    };
    Some(first.into_iter().chain(asked.try_iter()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for() {
        let (sender, asked) = mpsc::channel();
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(next(&asked, false), Some(vec![1, 2]));
        assert_eq!(next(&asked, true), Some(vec![]), "time to try again");
        drop(sender);
        assert_eq!(next(&asked, true), None);
        assert_eq!(next(&asked, false), None);
    }
}
