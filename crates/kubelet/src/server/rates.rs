//! CPU use as a rate, from two looks at what was used altogether, where the runtime does not tell the rate itself.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Looks that are closer to each other say little: the last rate is told again.
const APART: i64 = 250_000_000;
/// A look older than this says nothing of now.
const STALE: i64 = 300_000_000_000;

#[derive(Clone, Copy)]
struct Look {
    at: i64,
    used: u64,
    rate: Option<u64>,
}

#[derive(Default)]
pub struct Rates(Mutex<HashMap<String, Look>>);

impl Rates {
    /// Nanoseconds of CPU per second, of what had used `used` nanoseconds at `at` (nanoseconds, too).
    pub fn of(&self, what: &str, at: i64, used: u64) -> Option<u64> {
        let mut known = self.0.lock();
        let Some(last) = known.get(what).copied().filter(|last| at.saturating_sub(last.at) < STALE) else {
            known.insert(what.to_owned(), Look { at, used, rate: None });
            return None;
        };
        let between = at.saturating_sub(last.at);
        if between < APART {
            return last.rate;
        }
        let more = u128::from(used.saturating_sub(last.used));
        let rate = more * 1_000_000_000 / u128::try_from(between).unwrap_or(1).max(1);
        let rate = u64::try_from(rate).ok();
        known.insert(what.to_owned(), Look { at, used, rate });
        rate
    }

    /// Whether nothing is known yet, or not of late: then it is worth while to look twice.
    pub fn is_stale(&self, now: i64) -> bool {
        let known = self.0.lock();
        !known.values().any(|look| look.rate.is_some() && now.saturating_sub(look.at) < STALE)
    }

    /// What was not looked at of late is forgotten.
    pub fn clean(&self, now: i64) {
        self.0.lock().retain(|_, look| now.saturating_sub(look.at) < STALE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_looks() {
        let rates = Rates::default();
        let second = 1_000_000_000;
        assert!(rates.is_stale(0));
        assert_eq!(rates.of("a", 0, 100), None);
        assert_eq!(rates.of("a", 2 * second, 1100), Some(500));
        assert_eq!(rates.of("a", 2 * second + 1, 1101), Some(500), "too close");
        assert!(!rates.is_stale(2 * second));
        assert_eq!(rates.of("a", 400 * second, 2000), None, "too long ago");
        rates.clean(1000 * second);
        assert_eq!(rates.of("a", 1000 * second, 3000), None);
    }
}
