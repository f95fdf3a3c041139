//! A fuzz target: any text as an expression, compiled, estimated and run against an object.

use crate::{Bindings, Budget, Environment, Program, Type, Value};

/// Whatever the text, it is answered within the budget, and without a panic.
pub fn expressions(bytes: &[u8]) {
    let Ok(source) = std::str::from_utf8(bytes) else { return };
    let environment = Environment::kubernetes().with("self", Type::Dyn).with_mutations();
    let Ok(program) = Program::compile(source, &environment) else { return };
    let _ = program.estimated_cost();
    let object = serde_json::json!({"a": [1, 2.5, "x", null, {"b": true}], "s": "10.0.0.1", "q": "1Gi"});
    let mut bindings = Bindings::new();
    bindings.set("self", Value::from_json(&object));
    let _ = program.evaluate(&bindings, &mut Budget::new(100_000, 100_000));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_do_no_harm() {
        fuzzing::drive(
            &[
                b"self.a.all(x, x == 1 || has(self.s)) ? self.s : string(self.a.size())",
                b"self.a.map(x, type(x)).exists_one(y, y == int) && !(1 in [1, 2, 3])",
                b"quantity(self.q).isGreaterThan(quantity('1e999999')) || ip(self.s).family() == 4",
                b"duration('1h').getSeconds() + timestamp('2026-01-01T00:00:00Z').getFullYear() * -9223372036854775807",
                b"'a%s%d'.format([self.s, 1]).split('').join('-').matches('^[a-z]+(x|y)*$')",
                b"Object{spec: Object.spec{a: 1}} != [JSONPatch{op: 'add', path: '/a', value: b'\\x00'}]",
                b"optional.of(self.?s).orValue(r'\\d').replace('a', '\\u00e9').substring(0, 1)",
            ],
            6000,
            expressions,
        );
    }
}
