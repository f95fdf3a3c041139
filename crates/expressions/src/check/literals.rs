//! Constant arguments that can only be wrong: durations, timestamps and patterns are read when the expression is
//! compiled.

use crate::ast::{Call, Kind, Literal};
use crate::value::{Duration, moment};

pub(super) fn check(call: &Call) -> Result<(), (u32, String)> {
    let text = |index: usize| match call.arguments.get(index) {
        Some(argument) => match &argument.kind {
            Kind::Literal(Literal::String(text)) => Some((argument.at, text)),
            _ => None,
        },
        None => None,
    };
    let function = call.function.as_str();
    match function {
        "duration" if !call.member => match text(0) {
            Some((at, text)) if Duration::parse(text).is_none() => {
                Err((at, "invalid duration argument".to_owned()))
            }
            _ => Ok(()),
        },
        "timestamp" if !call.member => match text(0) {
            Some((at, text)) if moment(text).is_none() => Err((at, "invalid timestamp argument".to_owned())),
            _ => Ok(()),
        },
        "matches" | "find" | "findAll" => match text(1) {
            Some((at, text)) if api::structural::pattern::compile(text).is_err() => {
                Err((at, format!("invalid {function} argument")))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
