//! Numbers that may be percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How a share of a whole becomes a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Round {
    Up,
    Down,
}

/// The number that `value` stands for; a malformed percentage stands for nothing.
pub fn resolve(value: &IntOrString, total: i32, round: Round) -> Option<i32> {
    match value {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let product = percent.checked_mul(i64::from(total))?;
            let share = match round {
                Round::Up => product.div_euclid(100) + i64::from(product.rem_euclid(100) > 0),
                Round::Down => product.div_euclid(100),
            };
            i32::try_from(share).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let check = |value: IntOrString, total, round, expected| {
            assert_eq!(resolve(&value, total, round), expected, "{value:?} of {total} {round:?}");
        };
        let text = |text: &str| IntOrString::String(text.to_owned());
        check(IntOrString::Int(3), 10, Round::Up, Some(3));
        check(text("25%"), 10, Round::Up, Some(3));
        check(text("25%"), 10, Round::Down, Some(2));
        check(text("50%"), 10, Round::Up, Some(5));
        check(text("0%"), 10, Round::Up, Some(0));
        check(text("x%"), 10, Round::Up, None);
        check(text("25"), 10, Round::Up, None);
        check(text("9223372036854775807%"), i32::MAX, Round::Up, None);
    }
}
