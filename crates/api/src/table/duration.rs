//! Durations as kubectl's users read them: `42s`, `5m3s`, `2d4h`, `3y10d`.

use jiff::Timestamp;

/// At most two units, and only one where the second would say little.
pub fn human_duration(seconds: i64) -> String {
    match seconds {
        ..=-2 => return "<invalid>".to_owned(),
        -1 => return "0s".to_owned(),
        0..120 => return format!("{seconds}s"),
        _ => {}
    }
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / (24 * 365));
    match () {
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if years < 2 => format!("{days}d"),
        () if years < 8 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// How long ago an RFC 3339 time was.
pub(super) fn since(time: Option<&str>, now: Timestamp) -> String {
    match time.and_then(|time| time.parse::<Timestamp>().ok()) {
        Some(time) => human_duration(now.as_second() - time.as_second()),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_as_kubectl_rounds_them() {
        #[track_caller]
        fn check(seconds: i64, want: &str) {
            assert_eq!(human_duration(seconds), want);
        }
        const MINUTE: i64 = 60;
        const HOUR: i64 = 60 * MINUTE;
        const DAY: i64 = 24 * HOUR;
        const YEAR: i64 = 365 * DAY;
        check(-5, "<invalid>");
        check(-1, "0s");
        check(0, "0s");
        check(119, "119s");
        check(120, "2m");
        check(123, "2m3s");
        check(10 * MINUTE + 5, "10m");
        check(179 * MINUTE, "179m");
        check(3 * HOUR, "3h");
        check(3 * HOUR + 7 * MINUTE, "3h7m");
        check(47 * HOUR, "47h");
        check(2 * DAY, "2d");
        check(5 * DAY + 2 * HOUR, "5d2h");
        check(8 * DAY + 2 * HOUR, "8d");
        check(2 * YEAR + 5 * DAY, "2y5d");
        check(9 * YEAR, "9y");
    }

    #[test]
    fn times_that_are_missing_are_unknown() {
        let now = "2026-01-01T00:02:03Z".parse().unwrap();
        assert_eq!(since(Some("2026-01-01T00:00:00Z"), now), "2m3s");
        assert_eq!(since(None, now), "<unknown>");
        assert_eq!(since(Some("yesterday"), now), "<unknown>");
    }
}
