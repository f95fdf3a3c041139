//! Cron schedules: `*/5 9-17 * * mon-fri`, `@daily`, `@every 1h30m`, in any time zone. Free of IO.

use std::time::Duration;

use jiff::civil::{Date, DateTime, time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// No schedule of the Gregorian calendar skips more days than this (29 February over a century without a leap day).
const MOST_DAYS: usize = 366 * 9;

#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    Every(Duration),
    Fields { minutes: u64, hours: u64, days: Field, months: u64, weekdays: Field },
}

/// The values of a field, as bits, and whether it says anything at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field {
    bits: u64,
    any: bool,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(every) = text.strip_prefix("@every ") {
            return parse_duration(every.trim()).map(Self::Every);
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            fields => fields,
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}: [{text}]", fields.len()));
        };
        Ok(Self::Fields {
            minutes: field(minutes, 0, 59, &[])?.bits,
            hours: field(hours, 0, 23, &[])?.bits,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?.bits,
            weekdays: field(weekdays, 0, 6, &WEEKDAYS)?,
        })
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => {
                let whole = Timestamp::from_second(after.as_second()).ok()?;
                whole.checked_add(SignedDuration::try_from(*period).ok()?).ok()
            }
            Self::Fields { .. } => self.next_by_fields(after, zone),
        }
    }

    fn next_by_fields(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let Self::Fields { minutes, hours, .. } = self else { return None };
        let start = zone.to_datetime(after);
        let mut date = start.date();
        for _ in 0..MOST_DAYS {
            if self.is_day(date) {
                for hour in bits(*hours) {
                    for minute in bits(*minutes) {
                        let candidate = date.to_datetime(time(hour, minute, 0, 0));
                        if let Some(found) = instant(candidate, zone).filter(|found| *found > after) {
                            return Some(found);
                        }
                    }
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let Self::Fields { days, months, weekdays, .. } = self else { return false };
        let has = |bits: u64, value: i8| bits & (1 << value.clamp(0, 63)) != 0;
        let day = has(days.bits, date.day());
        let weekday = has(weekdays.bits, date.weekday().to_sunday_zero_offset());
        // Where both are given, either will do.
        let fits = if days.any || weekdays.any { day && weekday } else { day || weekday };
        has(*months, date.month()) && fits
    }
}

/// Nothing for a time that daylight saving leaves out.
fn instant(time: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let found = zone.to_ambiguous_timestamp(time).compatible().ok()?;
    (zone.to_datetime(found) == time).then_some(found)
}

fn bits(set: u64) -> impl Iterator<Item = i8> {
    (0..60).filter(move |bit| set & (1 << bit) != 0)
}

fn field(text: &str, least: u32, most: u32, names: &[&str]) -> Result<Field, String> {
    let mut field = Field { bits: 0, any: false };
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let everything = matches!(range, "*" | "?");
        let (first, last) = if everything {
            (least, most)
        } else if let Some((first, last)) = range.split_once('-') {
            (value(first, least, names)?, value(last, least, names)?)
        } else {
            let first = value(range, least, names)?;
            (first, if step.is_some() { most } else { first })
        };
        let step: u32 =
            step.unwrap_or("1").parse().map_err(|_| format!("failed to parse number in step: {part}"))?;
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        if first < least || last > most || first > last {
            return Err(format!("{part} is not within {least} and {most}"));
        }
        field.any |= everything && step == 1;
        for value in (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            field.bits |= 1 << value;
        }
    }
    Ok(field)
}

fn value(text: &str, least: u32, names: &[&str]) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = names.iter().position(|name| *name == lower) {
        return u32::try_from(at).map(|at| at + least).map_err(|error| error.to_string());
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let malformed = || format!("failed to parse duration @every {text}");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| malformed())?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(malformed()),
        };
        let part = Duration::from_secs(number.checked_mul(seconds).ok_or_else(malformed)?);
        total = total.checked_add(part).ok_or_else(malformed)?;
        rest = after;
    }
    if total.is_zero() { Err(malformed()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_times() {
        let check = |schedule: &str, zone: &str, after: &str, expected: &str| {
            let zone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::get(zone).unwrap() };
            let after: Timestamp = after.parse().unwrap();
            let found = Schedule::parse(schedule).unwrap().next(after, &zone).map(|found| found.to_string());
            assert_eq!(found.as_deref(), (!expected.is_empty()).then_some(expected), "{schedule}");
        };
        check("* * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        check("*/15 * * * *", "UTC", "2026-01-01T00:44:59Z", "2026-01-01T00:45:00Z");
        check("5 4 * * *", "UTC", "2026-01-01T04:05:00Z", "2026-01-02T04:05:00Z");
        check("0 9-17/4 * * mon-fri", "UTC", "2026-01-02T17:00:00Z", "2026-01-05T09:00:00Z");
        check("0 0 13 * fri", "UTC", "2026-01-03T00:00:00Z", "2026-01-09T00:00:00Z");
        check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z");
        check("0 0 31 2 *", "UTC", "2026-01-01T00:00:00Z", "");
        check("@weekly", "UTC", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z");
        check("@every 1h30m", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z");
        check("0 0 1 JAN ?", "UTC", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
    }

    #[test]
    fn daylight_saving_skips_and_does_not_repeat() {
        // Transitions given by rule, so that no time zone database is needed.
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let next = |schedule: &str, after: &str| {
            Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &zone).unwrap().to_string()
        };
        assert_eq!(
            next("30 2 * * *", "2026-03-28T12:00:00Z"),
            "2026-03-30T00:30:00Z",
            "02:30 does not exist on the 29th"
        );
        assert_eq!(next("0 12 * * *", "2026-03-28T12:00:00Z"), "2026-03-29T10:00:00Z");
    }

    #[test]
    fn malformed_schedules_are_refused() {
        for schedule in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "x * * * *",
            "* * * * 7",
            "@every",
            "@every 0s",
            "@every 99999999999999999h",
        ] {
            assert!(Schedule::parse(schedule).is_err(), "{schedule}");
        }
    }
}
