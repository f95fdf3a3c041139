//! Parts of timestamps and durations. Timestamps are looked at in UTC, or in the time zone that is named.

use jiff::Zoned;
use jiff::tz::{Offset, TimeZone};

use super::{Evaluated, Library, mismatch};
use crate::budget::Budget;
use crate::error::EvalError;
use crate::value::Value;

macro_rules! part {
    ($method:literal) => {
        &[concat!("timestamp . ", $method, "() -> int"), concat!("timestamp . ", $method, "(string) -> int")]
    };
    ($method:literal, duration) => {
        &[
            concat!("timestamp . ", $method, "() -> int"),
            concat!("timestamp . ", $method, "(string) -> int"),
            concat!("duration . ", $method, "() -> int"),
        ]
    };
}

pub(super) const LIBRARY: Library = &[
    (part!("getFullYear"), year),
    (part!("getMonth"), month),
    (part!("getDayOfYear"), day_of_year),
    (part!("getDayOfMonth"), day_of_month),
    (part!("getDate"), date),
    (part!("getDayOfWeek"), day_of_week),
    (part!("getHours", duration), hours),
    (part!("getMinutes", duration), minutes),
    (part!("getSeconds", duration), seconds),
    (part!("getMilliseconds", duration), milliseconds),
];

fn moment(arguments: &[Value<'_>]) -> Result<Zoned, EvalError> {
    let (at, zone) = match arguments {
        [Value::Timestamp(at)] => (at, TimeZone::UTC),
        [Value::Timestamp(at), Value::String(name)] => (at, zone(name)?),
        _ => return mismatch(),
    };
    Ok(at.to_zoned(zone))
}

/// A name of the tz database, or an offset such as `-08:00`.
fn zone(name: &str) -> Result<TimeZone, EvalError> {
    let unknown =
        || EvalError::failed(format!("unknown time zone {}", name.chars().take(64).collect::<String>()));
    if let Some((hours, minutes)) = name.split_once(':') {
        let negative = hours.starts_with('-');
        let hours: i32 = hours.parse().map_err(|_| unknown())?;
        let minutes: i32 = minutes.parse::<u8>().map_err(|_| unknown())?.into();
        let seconds =
            hours.checked_mul(3600).ok_or_else(unknown)? + if negative { -minutes } else { minutes } * 60;
        return Offset::from_seconds(seconds).map(TimeZone::fixed).map_err(|_| unknown());
    }
    TimeZone::get(name).map_err(|_| unknown())
}

fn int<'a>(value: impl Into<i64>) -> Evaluated<'a> {
    Ok(Value::Int(value.into()))
}

fn year<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    int(moment(arguments)?.year())
}

/// From 0.
fn month<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    int(moment(arguments)?.month() - 1)
}

/// From 0.
fn day_of_year<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    int(moment(arguments)?.day_of_year() - 1)
}

/// From 0.
fn day_of_month<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    int(moment(arguments)?.day() - 1)
}

/// From 1.
fn date<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    int(moment(arguments)?.day())
}

/// From 0, which is Sunday.
fn day_of_week<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    int(moment(arguments)?.weekday().to_sunday_zero_offset())
}

fn hours<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Duration(duration)] => int(duration.0 / 3_600_000_000_000),
        _ => int(moment(arguments)?.hour()),
    }
}

fn minutes<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Duration(duration)] => int(duration.0 / 60_000_000_000),
        _ => int(moment(arguments)?.minute()),
    }
}

fn seconds<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Duration(duration)] => int(duration.0 / 1_000_000_000),
        _ => int(moment(arguments)?.second()),
    }
}

/// Of a duration all of them, of a timestamp those within the second.
fn milliseconds<'a>(arguments: &[Value<'a>], _: &mut Budget) -> Evaluated<'a> {
    match arguments {
        [Value::Duration(duration)] => int(duration.0 / 1_000_000),
        _ => int(moment(arguments)?.millisecond()),
    }
}
