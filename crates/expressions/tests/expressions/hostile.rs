//! No source and no object makes it panic, or go on without end.

use expressions::{Bindings, Budget, Environment, EvalError, Program, Type, Value};
use proptest::prelude::*;

fn run(source: &str, object: &serde_json::Value) -> Option<Result<(), EvalError>> {
    let environment = Environment::kubernetes().with("self", Type::Dyn).with_mutations();
    let program = Program::compile(source, &environment).ok()?;
    let mut variables = Bindings::new();
    variables.set("self", Value::from_json(object));
    Some(program.evaluate(&variables, &mut Budget::default()).map(|_| ()))
}

#[test]
fn large_work_is_stopped() {
    let list: Vec<u32> = (0..20_000).collect();
    let text = "a".repeat(200_000);
    let object = serde_json::json!({"list": list, "text": text});
    for source in [
        "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))",
        "self.list.all(x, self == self)",
        "self.list.all(x, self.list == self.list)",
        "self.list.map(x, self.list).size() > 0 && self.list.map(x, self.list.map(y, self.text + self.text)).size() > 0",
        "self.list.map(x, self.text.split('')).size() > 0",
        "self.list.map(x, self.text.replace('a', self.text)).size() > 0",
        "self.list.map(x, self.text.matches('(a*)*' + string(x))).size() > 0",
        "self.list.map(x, [self.text].join(self.text)).size() > 0",
        "self.list.map(x, '%s%s'.format([self, self])).size() > 0",
        "sets.equivalent(self.list, self.list.map(x, -x))",
        "optional.of([1]).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a)\
         .optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a)\
         .optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a)\
         .optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a)\
         .optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a).optMap(a, a + a)",
    ] {
        assert_eq!(run(source, &object), Some(Err(EvalError::OutOfBudget)), "{source}");
    }
}

#[test]
fn nesting_and_length_are_limited() {
    for source in [
        "(".repeat(100_000),
        format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000)),
        format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000)),
        format!("1{}", " + 1".repeat(20_000)),
        format!("self{}", ".a".repeat(20_000)),
        format!("self{}", "[0]".repeat(20_000)),
        format!("{}true", "true ? true : ".repeat(5_000)),
        "a".repeat(200_000),
    ] {
        assert_eq!(run(&source, &serde_json::json!({})), None, "{}", &source[..40]);
    }
    // Chains of logic are no nesting.
    let long = vec!["true"; 5_000].join(" && ");
    assert_eq!(run(&long, &serde_json::json!({})), Some(Ok(())));
    assert_eq!(run(&format!("{}true", "!".repeat(1000)), &serde_json::json!({})), Some(Ok(())));
}

#[test]
fn the_deepest_expression_fits_a_small_stack() {
    let deep = format!("1{} == 1", " + 1".repeat(200));
    let nested = format!("{}1{} == [1]", "[".repeat(90), "]".repeat(90));
    let comprehension = format!("{}true{}", "[1].all(x, ".repeat(95), ")".repeat(95));
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        let object = serde_json::json!({});
        [deep, comprehension].map(|source| run(&source, &object).is_some()).into_iter().all(|ran| ran)
            && run(&nested, &object).is_none()
    });
    assert!(thread.is_ok_and(|thread| thread.join().is_ok_and(|fine| fine)));
}

#[test]
fn budgets_are_shared() {
    let program = Program::compile("[1, 2, 3].all(x, x > 0)", &Environment::kubernetes());
    let mut budget = Budget::new(1000, 40);
    let mut results = Vec::new();
    for _ in 0..4 {
        let evaluated =
            program.as_ref().map(|program| program.evaluate(&Bindings::new(), &mut budget).is_ok());
        results.push(evaluated.unwrap_or(false));
    }
    assert_eq!((results.first(), results.last()), (Some(&true), Some(&false)));
}

const PIECES: [&str; 60] = [
    "self",
    "x",
    "1",
    "0",
    "-1",
    "1u",
    "1.5",
    "'a'",
    "b'a'",
    "''",
    "null",
    "true",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    ".",
    ",",
    ":",
    "?",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    "!",
    " in ",
    ".all(x, ",
    ".map(x, ",
    ".filter(x, ",
    ".exists(k, v, ",
    "has(self.a)",
    ".size()",
    ".?a",
    "[?0]",
    "self.a",
    "self.list",
    "optional.of(",
    ".matches('a*')",
    ".split('')",
    ".substring(1)",
    "duration('1h')",
    "timestamp(0)",
    "quantity('1')",
    "ip('1.1.1.1')",
    ".orValue(",
    ".format([",
    "Object{a: ",
    "type(",
    "int(",
    "string(",
    "self.text",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_text_is_survived(source in "\\PC{0,60}") {
        let _ = run(&source, &serde_json::json!({"a": 1}));
    }

    #[test]
    fn any_tokens_are_survived(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..14)) {
        let object = serde_json::json!({"a": {"b": [1, 2]}, "list": [1, "x", null, 2.5, {}], "text": "aébc"});
        let _ = run(&pieces.concat(), &object);
    }
}
