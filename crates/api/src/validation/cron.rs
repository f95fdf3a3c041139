//! Cron schedules: five fields, or a descriptor such as `@daily` or `@every 1h`.

/// Names that may stand for numbers, from the first number of their field on.
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { min: 0, max: 59, names: &[] },
    Field { min: 0, max: 23, names: &[] },
    Field { min: 1, max: 31, names: &[] },
    Field { min: 1, max: 12, names: &MONTHS },
    Field { min: 0, max: 6, names: &DAYS },
];

/// What is wrong with a schedule, in the words of upstream's parser.
pub fn check(schedule: &str) -> Result<(), String> {
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into());
    }
    if let Some(descriptor) = schedule.strip_prefix('@') {
        return match descriptor {
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
            _ => match descriptor.strip_prefix("every ") {
                Some(duration) if is_duration(duration) => Ok(()),
                Some(_) => Err(format!("failed to parse duration {schedule}")),
                None => Err(format!("unrecognized descriptor: {schedule}")),
            },
        };
    }
    let parts: Vec<&str> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", parts.len(), parts.join(" ")));
    }
    for (part, field) in parts.iter().zip(&FIELDS) {
        part.split(',').try_for_each(|range| field.check(range))?;
    }
    Ok(())
}

/// A Go duration without fractions: `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = ["ns", "us", "ms", "h", "m", "s"].into_iter().find(|unit| tail.starts_with(unit));
        match unit {
            Some(unit) if number.parse::<f64>().is_ok() => rest = tail.get(unit.len()..).unwrap_or_default(),
            _ => return false,
        }
        any = true;
    }
    any
}

impl Field {
    fn check(&self, range: &str) -> Result<(), String> {
        let (span, step) = match range.split_once('/') {
            Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {range}")),
            Some((span, step)) => (span, Some(step)),
            None => (range, None),
        };
        if span != "*" && span != "?" {
            let (start, end) = match span.split_once('-') {
                Some((_, end)) if end.contains('-') => return Err(format!("too many hyphens: {range}")),
                Some((start, end)) => (self.number(start)?, self.number(end)?),
                None => {
                    let start = self.number(span)?;
                    (start, if step.is_some() { self.max } else { start })
                }
            };
            if start < self.min {
                return Err(format!("beginning of range ({start}) below minimum ({}): {range}", self.min));
            }
            if end > self.max {
                return Err(format!("end of range ({end}) above maximum ({}): {range}", self.max));
            }
            if start > end {
                return Err(format!("beginning of range ({start}) beyond end of range ({end}): {range}"));
            }
        }
        match step.map(parse_number).transpose()? {
            Some(0) => Err(format!("step of range should be a positive number: {range}")),
            _ => Ok(()),
        }
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        match self.names.iter().position(|name| *name == lower) {
            Some(i) => Ok(self.min + u32::try_from(i).unwrap_or_default()),
            None => parse_number(text),
        }
    }
}

fn parse_number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax",
            crate::field::quote(text)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/5 0-12/2 1,15 jan-MAR sun",
            "0 0 ? * 6",
            "@daily",
            "@every 1h30m",
            "5/10 * * * *",
            "  0 0 1 1 0  ",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        #[track_caller]
        fn refused(schedule: &str, want: &str) {
            assert_eq!(check(schedule), Err(want.to_owned()));
        }
        refused("* * * *", "expected exactly 5 fields, found 4: [* * * *]");
        refused("60 * * * *", "end of range (60) above maximum (59): 60");
        refused("* * 0 * *", "beginning of range (0) below minimum (1): 0");
        refused("9-1 * * * *", "beginning of range (9) beyond end of range (1): 9-1");
        refused("*/0 * * * *", "step of range should be a positive number: */0");
        refused("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax");
        refused("@never", "unrecognized descriptor: @never");
        refused("@every x", "failed to parse duration @every x");
        assert!(check("TZ=UTC * * * * *").is_err());
    }
}
