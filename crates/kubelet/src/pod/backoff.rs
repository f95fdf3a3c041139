//! Exponential back-off of restarts and image pulls.

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(10);
pub const LONGEST: SignedDuration = SignedDuration::from_secs(300);
/// A container that has run for so long begins anew, whatever the longest delay is.
const FORGOTTEN: SignedDuration = SignedDuration::from_secs(600);

/// 10 s, 20 s, ... 300 s; forgotten after ten minutes without a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    longest: SignedDuration,
    current: Option<(SignedDuration, Timestamp)>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Backoff {
    pub fn up_to(longest: SignedDuration) -> Self {
        Self { longest, current: None }
    }

    /// How long after `event` (the end of the last attempt) the next attempt has to wait, and until when;
    /// nothing when it may go ahead.
    pub fn until(&self, event: Timestamp, now: Timestamp) -> Option<(SignedDuration, Timestamp)> {
        let (delay, updated) = self.current?;
        if self.expired(event, updated) {
            return None;
        }
        let until = event.checked_add(delay).ok()?;
        (now < until).then_some((delay, until))
    }

    /// An attempt is made because of `event`: the next one waits longer.
    pub fn next(&mut self, event: Timestamp, now: Timestamp) -> SignedDuration {
        let delay = match self.current {
            Some((delay, updated)) if !self.expired(event, updated) => (delay * 2).min(self.longest),
            _ => FIRST.min(self.longest),
        };
        self.current = Some((delay, now));
        delay
    }

    pub fn reset(&mut self) {
        self.current = None;
    }

    fn expired(&self, event: Timestamp, updated: Timestamp) -> bool {
        event.duration_since(updated) > FORGOTTEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn doubles_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.until(at(0), at(0)), None, "the first restart is immediate");
        let delays: Vec<i64> = (0..7).map(|_| backoff.next(at(0), at(0)).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_short_limit_is_the_first_delay_too() {
        let mut backoff = Backoff::up_to(SignedDuration::from_secs(2));
        let delays: Vec<i64> = (0..3).map(|run| backoff.next(at(run * 60), at(run * 60)).as_secs()).collect();
        assert_eq!(delays, [2, 2, 2]);
        assert!(backoff.until(at(180), at(181)).is_some(), "a minute is not long enough to begin anew");
    }

    #[test]
    fn waits_from_the_end_of_the_last_attempt() {
        let mut backoff = Backoff::default();
        backoff.next(at(0), at(0));
        assert_eq!(backoff.until(at(5), at(14)).map(|(_, until)| until), Some(at(15)));
        assert_eq!(backoff.until(at(5), at(15)), None);
    }

    #[test]
    fn ten_good_minutes_are_rewarded() {
        let mut backoff = Backoff::default();
        backoff.next(at(0), at(0));
        backoff.next(at(10), at(10));
        assert_eq!(backoff.until(at(611), at(611)), None);
        assert_eq!(backoff.next(at(611), at(611)), FIRST);
    }
}
