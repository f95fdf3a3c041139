//! The functions, methods and operators that expressions may use: a file per library of the documentation.
//!
//! Each declares its overloads as signatures, in which `type . name(..)` is a method and capital letters are type
//! parameters. The checker resolves calls against them, and evaluation picks the overload that the values fit.

mod addresses;
mod arithmetic;
mod authorization;
mod conversions;
mod format;
mod formats;
mod lists;
mod logic;
mod optionals;
mod ordering;
mod quantities;
mod regexes;
mod semvers;
mod sets;
mod signature;
mod strings;
pub(crate) mod template;
mod times;
mod urls;

pub(crate) use ordering::by_keys;

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::budget::Budget;
use crate::error::EvalError;
use crate::types::Type;
use crate::value::Value;

/// Carries a call out. The arguments fit one of the signatures it is declared with.
pub(crate) type Native = for<'a> fn(&[Value<'a>], &mut Budget) -> Evaluated<'a>;

pub(crate) type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// Signatures, and what carries calls of them out.
pub(crate) type Library = &'static [(&'static [&'static str], Native)];

pub(crate) struct Overload {
    pub member: bool,
    pub parameters: Vec<Type>,
    pub result: Type,
    pub run: Native,
}

const LIBRARIES: [Library; 17] = [
    logic::LIBRARY,
    arithmetic::LIBRARY,
    conversions::LIBRARY,
    strings::LIBRARY,
    format::LIBRARY,
    lists::LIBRARY,
    ordering::LIBRARY,
    sets::LIBRARY,
    times::LIBRARY,
    optionals::LIBRARY,
    regexes::LIBRARY,
    urls::LIBRARY,
    addresses::LIBRARY,
    quantities::LIBRARY,
    semvers::LIBRARY,
    formats::LIBRARY,
    authorization::LIBRARY,
];

static OVERLOADS: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut overloads: HashMap<&'static str, Vec<Overload>> = HashMap::new();
    for (signatures, run) in LIBRARIES.into_iter().flatten() {
        for text in *signatures {
            let signature = signature::read(text);
            let overload = Overload {
                member: signature.member,
                parameters: signature.parameters,
                result: signature.result,
                run: *run,
            };
            overloads.entry(signature.name).or_default().push(overload);
        }
    }
    overloads
});

/// What a function's name may mean.
pub(crate) fn overloads(name: &str) -> &'static [Overload] {
    OVERLOADS.get(name).map_or(&[], Vec::as_slice)
}

/// Calls the overload that the values fit.
pub(crate) fn call<'a>(
    overloads: &[Overload],
    member: bool,
    arguments: &[Value<'a>],
    budget: &mut Budget,
) -> Evaluated<'a> {
    let fits = |overload: &&Overload| {
        overload.member == member
            && overload.parameters.len() == arguments.len()
            && overload.parameters.iter().zip(arguments).all(|(of, value)| admits(of, value))
    };
    match overloads.iter().find(fits) {
        Some(overload) => (overload.run)(arguments, budget),
        None => Err(EvalError::NoSuchOverload),
    }
}

/// Whether the value can be what the parameter is declared as; elements of lists and maps are not looked at.
fn admits(of: &Type, value: &Value<'_>) -> bool {
    match (of, value) {
        (Type::Dyn | Type::Parameter(_), _) => true,
        (Type::List(_), Value::List(_)) | (Type::Map(_), Value::Map(_)) => true,
        (Type::Optional(_), Value::Optional(_)) | (Type::Type(_), Value::Type(_)) => true,
        (Type::Opaque(name), Value::Opaque(opaque)) => *name == opaque.type_name(),
        (Type::Null, Value::Null)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_)) => true,
        _ => false,
    }
}

/// The answer of an implementation to arguments that no signature of it lets through.
fn mismatch<T>() -> Result<T, EvalError> {
    Err(EvalError::NoSuchOverload)
}

/// A string made by an expression: counted before it is made.
fn text<'a>(text: String, budget: &mut Budget) -> Evaluated<'a> {
    budget.work(text.len())?;
    Ok(Value::string(text))
}
