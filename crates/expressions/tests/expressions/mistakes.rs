//! What the compiler finds, in the words that users of CEL know.

use std::sync::Arc;

use expressions::authorizer::{Authorizer, Check, Decision, Question};
use expressions::value::Opaque;
use expressions::{Bindings, Budget, Environment, EvalError, Program, Type, Value};

fn environment() -> Environment {
    let spec = Type::object(
        "object.spec",
        [
            ("replicas".to_owned(), Type::Int.into()),
            ("name".to_owned(), Type::String.into()),
            ("tags".to_owned(), Type::map(Type::String, Type::String).into()),
            ("ports".to_owned(), Type::list(Type::Int).into()),
        ],
    );
    Environment::kubernetes()
        .with("self", Type::object("object", [("spec".to_owned(), spec.into())]))
        .with("any", Type::Dyn)
        .with("variables.x", Type::Int)
        .with("authorizer", Type::authorizer())
}

#[test]
fn are_told_with_their_place() {
    let check = |source: &str, expected: &str| {
        let error = Program::compile(source, &environment()).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(expected), "{source}");
    };
    check("self.spec.z == 1", "ERROR: <input>:1:10: undefined field 'z'\n | self.spec.z == 1\n | .........^");
    check("foo > 1", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo > 1\n | ^");
    check(
        "self.spec.replicas == 'a'",
        "ERROR: <input>:1:20: found no matching overload for '_==_' applied to '(int, string)'\n | self.spec.replicas == 'a'\n | ...................^",
    );
}

#[test]
fn of_all_kinds() {
    let check = |source: &str, expected: &str| match Program::compile(source, &environment()) {
        Err(error) => assert!(error.to_string().contains(expected), "{source}: {error}"),
        Ok(program) => panic!("{source} compiles to {}", program.result_type()),
    };
    check("self.spec.replicas + 'a' == ''", "'_+_' applied to '(int, string)'");
    check("self.spec.name.foo()", "undeclared reference to 'foo'");
    check("self.spec.name.sum() == 1", "'sum' applied to 'string.()'");
    check("size(1) == 1", "'size' applied to '(int)'");
    check("[1, 'a'].size() == 2", "expected type 'int' but found 'string'");
    check("{1.5: 1} == {}", "unsupported key type: double");
    check("self.spec.name.x", "type 'string' does not support field selection");
    check("self.spec.replicas.all(x, true)", "cannot be range of a comprehension");
    check("[1].all(x, x)", "expected type 'bool' but found 'int'");
    check("true && 1", "expected type 'bool' but found 'int'");
    check("true ? 1 : 'a'", "'_?_:_' applied to '(bool, int, string)'");
    check("variables.y == 1", "undefined field 'y'");
    check("self.spec.replicas == null", "'_==_' applied to '(int, null)'");
    check("duration('x') == duration('1s')", "invalid duration argument");
    check("Object{spec: 1}", "undeclared reference to 'Object'");
    check("authorizer.resource('x')", "found no matching overload for 'resource'");
    for source in ["1 +", "(1", "[1", "{1:", "a b", "'abc", "\"\\z\"", "1..2", "if", "#", "x.1", "", "a ? b"]
    {
        check(source, "ERROR: <input>:1:");
    }
}

/// Told when all types fit: the first part of a list or map that is not like the others.
#[test]
fn parts_of_lists_and_maps_are_alike() {
    let check = |source: &str, expected: &str| {
        let error = Program::compile(source, &environment()).err().map(|error| error.to_string());
        let told: Vec<&str> =
            error.iter().flat_map(|text| text.lines()).filter(|l| l.contains("ERROR")).collect();
        assert_eq!(told.join("; "), expected, "{source}");
    };
    check("[1, 'a', 'b']", "ERROR: <input>:1:5: expected type 'int' but found 'string'");
    check("[any, 1]", "");
    check("{'a': 1, 'b': any}", "");
    check("[duration('1h'), null]", "ERROR: <input>:1:18: expected type 'duration' but found 'null'");
    check(
        "[1, 'a'].size() + 'x'",
        "ERROR: <input>:1:17: found no matching overload for '_+_' applied to '(int, string)'",
    );
    check("'%s'.format([[1, 'a']])", "");
}

#[test]
fn right_ones_have_a_type() {
    let check = |source: &str, expected: &str| {
        let program = Program::compile(source, &environment());
        assert_eq!(
            program.map(|program| program.result_type().to_string()),
            Ok(expected.to_owned()),
            "{source}"
        );
    };
    check("self.spec.replicas", "int");
    check("self.spec.tags.map(k, self.spec.tags[k])", "list(string)");
    check("self.spec.?name", "optional_type(string)");
    check("self.spec.?tags['a'].orValue('')", "string");
    check("any.x.y + 1", "int");
    check("any + any", "dyn");
    check("[any, 1]", "list(dyn)");
    check("variables.x", "int");
    check("has(variables.x)", "bool");
    check("[]", "list(dyn)");
    check("self.spec == null", "bool");
    check("self.spec.ports.filter(p, p > 1)", "list(int)");
    check("{'a': [1]}", "map(string, list(int))");
    check("optional.none().orValue(1)", "int");
    check("authorizer.group('').resource('pods').check('get').allowed()", "bool");
}

#[test]
fn the_result_has_to_be_what_is_wanted() {
    let compiled = Program::compile_as("1", &environment(), &[Type::Bool]);
    assert_eq!(compiled.err().map(|error| error.to_string()).as_deref(), Some("must evaluate to bool"));
    assert!(Program::compile_as("any", &environment(), &[Type::Bool]).is_ok());
    let program = Program::compile("self.spec.name == 'a' || variables.x == 1", &environment());
    let mentioned = program.map(|program| (program.mentions("self"), program.mentions("any")));
    assert_eq!(mentioned, Ok((true, false)));
}

/// Knows no decision at first, and allows `get`.
struct Host {
    known: bool,
}

impl Authorizer for Host {
    fn decide(&self, check: &Check) -> Option<Decision> {
        let reason = format!("{:?}", check.service_account);
        self.known.then(|| Decision { allowed: check.verb == "get", reason, error: None })
    }
}

#[test]
fn the_host_decides_on_authorization() {
    let source = "true && authorizer.serviceAccount('ns', 'sa').group('').resource('pods').namespace('ns').check('get').allowed()";
    let Ok(program) = Program::compile(source, &environment()) else { panic!("{source} does not compile") };
    let run = |known| {
        let mut variables = Bindings::new();
        let question = Question::new(Arc::new(Host { known }));
        variables.set("authorizer", Value::Opaque(Opaque::Question(question.into())));
        program.evaluate(&variables, &mut Budget::default()).map(|value| value.as_bool())
    };
    assert_eq!(run(true), Ok(Some(true)));
    match run(false) {
        Err(EvalError::Pending(check)) => {
            assert_eq!((check.resource.as_str(), check.verb.as_str()), ("pods", "get"));
        }
        other => panic!("{other:?}"),
    }
}
