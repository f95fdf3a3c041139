//! How many seats each level has: its share, and what others lend it while they do not need it.
//!
//! Recomputed when a request has had to wait, and then every few seconds until all is as it was: a server with
//! enough seats does nothing here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::level::{Level, Shares};

/// Demand that has come is answered at once, but no more often than this.
const SOONEST: Duration = Duration::from_millis(100);
/// How long what is borrowed is kept before it is looked at again.
const PERIOD: Duration = Duration::from_secs(10);

/// Gives every level its part of the `total`, by its shares.
pub fn share(levels: &[Arc<Level>], total: usize) {
    let settings: Vec<_> = levels.iter().map(|level| level.settings()).collect();
    let sum: u64 = settings.iter().map(|settings| settings.shares).sum::<u64>().max(1);
    for (level, settings) in levels.iter().zip(&settings) {
        let part = |of: u64, whole: u64| (total as u64).saturating_mul(of).div_ceil(whole.max(1));
        let nominal = usize::try_from(part(settings.shares, sum)).unwrap_or(usize::MAX);
        // Rounded to the nearest.
        let percent = |percent: u64| ((nominal as u64).saturating_mul(percent) + 50) / 100;
        let lendable = usize::try_from(percent(settings.lendable_percent)).unwrap_or(usize::MAX);
        let borrowable = match settings.borrowing_percent {
            Some(limit) => usize::try_from(percent(limit)).unwrap_or(usize::MAX),
            None => total,
        };
        let shares = Shares {
            nominal,
            lower: nominal.saturating_sub(lendable),
            upper: nominal.saturating_add(borrowable).min(total.max(nominal)),
        };
        level.set_shares(shares);
        level.set_limit(nominal);
    }
}

/// Adjusts limits whenever seats are scarce.
pub async fn run(scarce: Arc<Notify>, levels: impl Fn() -> Option<Vec<Arc<Level>>>, total: usize) {
    loop {
        scarce.notified().await;
        loop {
            let Some(levels) = levels() else { return };
            let settled = adjust(&levels, total);
            sleep(SOONEST).await;
            if settled {
                break;
            }
            let _ = tokio::time::timeout(PERIOD, scarce.notified()).await;
        }
    }
}

/// Whether nobody lends or borrows.
fn adjust(levels: &[Arc<Level>], total: usize) -> bool {
    let limited: Vec<&Arc<Level>> = levels.iter().filter(|level| !level.is_exempt()).collect();
    let wanted: Vec<(Shares, usize)> =
        limited.iter().map(|level| (level.shares(), level.take_demand())).collect();
    let limits = limits(&wanted, total);
    let mut settled = true;
    for ((level, limit), (shares, _)) in limited.iter().zip(limits).zip(&wanted) {
        settled &= limit == shares.nominal;
        level.set_limit(limit);
    }
    settled
}

/// The limit of each level, of its shares and the most seats it has wanted lately.
///
/// Everyone keeps what they use of their own, and at least what they do not lend; the rest is for those who want
/// more, in proportion to what they want.
fn limits(levels: &[(Shares, usize)], total: usize) -> Vec<usize> {
    if levels.iter().all(|(shares, demand)| *demand <= shares.nominal) {
        return levels.iter().map(|(shares, _)| shares.nominal).collect();
    }
    let mut limits: Vec<usize> =
        levels.iter().map(|(shares, demand)| shares.lower.max(shares.nominal.min(*demand))).collect();
    let mut free = total.saturating_sub(limits.iter().sum());
    // Every round fills somebody up or gives all away.
    while free > 0 {
        let wants: Vec<usize> = levels
            .iter()
            .zip(&limits)
            .map(|((shares, demand), limit)| (*demand).min(shares.upper).saturating_sub(*limit))
            .collect();
        let wanted: usize = wants.iter().sum();
        if wanted == 0 {
            break;
        }
        let round = free;
        for (limit, want) in limits.iter_mut().zip(wants) {
            let part = (round.saturating_mul(want)).div_ceil(wanted).min(want).min(free);
            *limit += part;
            free -= part;
        }
    }
    // What nobody wants stays with its owners.
    for ((shares, _), limit) in levels.iter().zip(&mut limits) {
        let back = shares.nominal.saturating_sub(*limit).min(free);
        *limit += back;
        free -= back;
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_go_where_they_are_wanted() {
        let shares = |nominal, lower, upper| Shares { nominal, lower, upper };
        let check = |levels: &[(Shares, usize)], total: usize, expected: &[usize]| {
            assert_eq!(limits(levels, total), expected, "{levels:?}");
        };
        let (lender, borrower) = (shares(60, 10, 100), shares(40, 20, 100));
        // Nobody wants more than they have.
        check(&[(lender, 60), (borrower, 0)], 100, &[60, 40]);
        // One wants all that the other does not need, but for what it never lends.
        check(&[(lender, 0), (borrower, 500)], 100, &[10, 90]);
        check(&[(lender, 30), (borrower, 500)], 100, &[30, 70]);
        check(&[(lender, 30), (borrower, 50)], 100, &[50, 50]);
        // Both want more: each has their own.
        check(&[(lender, 500), (borrower, 500)], 100, &[60, 40]);
        // Not beyond the upper limit.
        check(&[(lender, 0), (shares(40, 20, 50), 500)], 100, &[50, 50]);
    }
}
