//! Expressions that select devices (dynamic resource allocation): their one variable, and what they may cost.

use std::sync::LazyLock;

use crate::environment::Environment;
use crate::error::CompileError;
use crate::program::Program;
use crate::types::{Sized, Type};

/// What looking at one device may cost.
pub const MOST: u64 = 1_000_000;

/// Sizes that the API server holds slices to.
const MAX_ENTRIES: u64 = 32;
const MAX_DOMAIN: u64 = 63;
const MAX_NAME: u64 = 32;
const MAX_TEXT: u64 = 64;

/// `device`, as drivers describe it.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| {
    let text = |max: u64| Sized { of: Type::String, max };
    let by_domain = |value: Type| {
        let entries = Type::map(text(MAX_NAME), Sized { of: value, max: MAX_TEXT });
        Sized { of: Type::map(text(MAX_DOMAIN), Sized { of: entries, max: MAX_ENTRIES }), max: MAX_ENTRIES }
    };
    let device = Type::object(
        "kubernetes.DRADevice",
        [
            ("driver".to_owned(), text(MAX_DOMAIN)),
            ("attributes".to_owned(), by_domain(Type::Dyn)),
            ("capacity".to_owned(), by_domain(Type::Opaque("kubernetes.Quantity"))),
            ("allowMultipleAllocations".to_owned(), Type::Bool.into()),
        ],
    );
    Environment::kubernetes().with("device", device)
});

/// Compiles a selector.
pub fn compile(expression: &str) -> Result<Program, CompileError> {
    Program::compile_as(expression, &ENVIRONMENT, &[Type::Bool])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_about_devices() {
        #[track_caller]
        fn check(expression: &str, expected: &str) {
            let got = match compile(expression) {
                Ok(program) if program.estimated_cost() > MOST => "costly".to_owned(),
                Ok(_) => "good".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(got.contains(expected), "{expression}: {got}");
        }
        check("device.driver == 'gpu.example.com'", "good");
        check("device.attributes['gpu.example.com'].model == 'a100'", "good");
        check("device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) >= 0", "good");
        check("device.attributes.exists(d, device.attributes[d].exists(n, n == 'numa'))", "good");
        check("device.allowMultipleAllocations", "good");
        check("device.driver", "must evaluate to bool");
        check("device.name == 'x'", "undefined field 'name'");
        check("devices == 1", "undeclared reference");
        let nested = "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a + b + c == d))))";
        check(nested, "costly");
    }
}
