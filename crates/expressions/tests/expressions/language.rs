//! The language: operators, macros, optional values, conversions.

use serde_json::json;

use super::{about, fails, holds};

#[test]
fn operators() {
    for source in [
        "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9",
        "7 / 2 == 3 && 7 % 3 == 1 && -7 / 2 == -3",
        "-9223372036854775808 < 0",
        "1u + 2u == 3u && 0x10 == 16 && 0xFFu == 255u",
        "1.5 + .5 == 2.0 && 1e3 == 1000.0",
        "'a' + 'b' == \"ab\" && b'a' + b'b' == b'ab'",
        "[1, 2] + [3] == [1, 2, 3]",
        "1 < 2.5 && 2u > 1 && 3 >= 3u",
        "dyn(1) == 1.0 && dyn(1u) == 1",
        "'x' in ['x', 'y'] && !('z' in {'x': 1})",
        "{'a': 1, 'b': 2}['b'] == 2 && {1: 'x'}[1] == 'x' && {true: 1}[true] == 1",
        "true ? 1 == 1 : false",
        "!!true && - -1 == 1",
        "'\\u00e9' == 'é' && '\\x41' == 'A' && '\\101' == 'A' && r'\\n' == '\\\\n'",
        "'''a\n'b' c''' == 'a\\n\\'b\\' c'",
        "b'\\xff' == b'\\377' && size(b'\\xff') == 1",
        "[1, 2, 3][1] == 2 && [[1]][0][0] == 1",
        "// a comment\n 1 == 1",
        "null == null",
        "size('é') == 1 && 'abc'.size() == 3 && size([1]) == 1 && {'a': 1}.size() == 1",
        "duration('1h') + duration('30m') == duration('90m')",
        "timestamp('2020-01-01T00:00:00Z') + duration('24h') == timestamp('2020-01-02T00:00:00Z')",
        "timestamp('2020-01-02T00:00:00Z') - timestamp('2020-01-01T00:00:00Z') == duration('24h')",
        "type(1) == int && type('') == string && type([]) == list && type(1) != uint",
        "type(duration('1s')) == google.protobuf.Duration",
    ] {
        holds(source);
    }
}

#[test]
fn errors() {
    fails("1 / 0 == 1", "division by zero");
    fails("1 % 0 == 1", "modulus by zero");
    fails("9223372036854775807 + 1 == 0", "integer overflow");
    fails("-9223372036854775808 / -1 == 0", "integer overflow");
    fails("0u - 1u == 0u", "unsigned integer overflow");
    fails("[1][1] == 1", "index out of bounds: 1");
    fails("{'a': 1}['b'] == 1", "no such key: b");
    fails("{'a': 1}.b == 1", "no such key: b");
    fails("dyn('a') + 1 == 1", "no such overload");
    fails("{'a': 1, 'a': 2} == {}", "repeated key");
    fails("int('x') == 1", "type conversion error");
    fails(
        "timestamp('9999-12-30T00:00:00Z') + duration('48h') == timestamp('2020-01-01T00:00:00Z')",
        "out of range",
    );
}

#[test]
fn an_operand_that_decides_makes_up_for_errors() {
    for source in [
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(false && 1 / 0 == 1) && !(1 / 0 == 1 && false)",
        "[1, 0].exists(x, 1 / x == 1) && [0, 1].exists(x, 1 / x == 1)",
        "![1, 0, 2].all(x, 1 / x == 1)",
        "false ? 1 / 0 == 1 : true",
    ] {
        holds(source);
    }
    fails("1 / 0 == 1 || false", "division by zero");
    fails("[0, 1].all(x, 1 / x == 1)", "division by zero");
}

#[test]
fn macros() {
    for source in [
        "[1, 2, 3].all(x, x > 0) && ![1, 2].all(x, x > 1)",
        "[1, 2].exists(x, x == 2) && [1, 2, 2].exists_one(x, x == 1) && ![2, 2].existsOne(x, x == 2)",
        "[1, 2, 3].filter(x, x > 1) == [2, 3] && [1, 2].map(x, x * 2) == [2, 4]",
        "[1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
        "{'a': 1, 'b': 2}.all(k, k in ['a', 'b']) && {'a': 1}.map(k, k + k) == ['aa']",
        "[[1], [2]].map(x, x.map(y, y + 1)) == [[2], [3]]",
        "has({'a': 1}.a) && !has({'a': 1}.b)",
        "[1, 2].all(i, v, i < v) && {'a': 'a'}.exists(k, v, k == v) && [0, 5].existsOne(i, v, i == v)",
        "[10, 20].transformList(i, v, i + v) == [10, 21]",
        "[10, 20].transformList(i, v, i > 0, v) == [20]",
        "{'a': 1}.transformMap(k, v, v + 1) == {'a': 2} && ['x'].transformMap(i, v, v) == {0: 'x'}",
        "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'}",
        "{'a': 1, 'b': 2}.transformMapEntry(k, v, v > 1, {k: v}) == {'b': 2}",
        "[1].map(x, [2].map(x, x)) == [[2]]",
    ] {
        holds(source);
    }
    fails("has(1)", "invalid argument to has() macro");
    fails("[1].all(1, true)", "argument must be a simple name");
    fails("{'a': 'x', 'b': 'x'}.transformMapEntry(k, v, {v: k}) == {}", "key already exists");
}

#[test]
fn optionals() {
    for source in [
        "optional.of(1).hasValue() && !optional.none().hasValue() && optional.of(1).value() == 1",
        "{'a': 1}.?a.value() == 1 && !{'a': 1}.?b.hasValue() && {'a': 1}.?b.orValue(5) == 5",
        "{'a': {'b': 1}}.?a.b.orValue(0) == 1 && {'a': {}}.?a.?b.orValue(7) == 7",
        "[1, 2][?1].orValue(0) == 2 && [1][?5].orValue(9) == 9 && {'a': 1}[?'a'] == optional.of(1)",
        "optional.none().or(optional.of(2)).value() == 2",
        "optional.of(3).optMap(x, x + 1).value() == 4 && !optional.none().optMap(x, x).hasValue()",
        "optional.of(3).optFlatMap(x, optional.of(x)).value() == 3",
        "[?optional.of(1), ?optional.none(), 2] == [1, 2]",
        "{?'a': optional.of(1), ?'b': optional.none()} == {'a': 1}",
        "!optional.ofNonZeroValue(0).hasValue() && optional.ofNonZeroValue('x').hasValue()",
        "[optional.of(1), optional.none()].unwrapOpt() == [1] && [1, 2].first().value() == 1",
    ] {
        holds(source);
    }
    fails("optional.none().value() == 1", "optional.none() dereference");
}

#[test]
fn conversions() {
    for source in [
        "int('5') == 5 && int(5u) == 5 && int(5.9) == 5 && uint(5) == 5u && double(1) == 1.0",
        "int(timestamp('1970-01-01T00:00:01Z')) == 1 && timestamp(1) == timestamp('1970-01-01T00:00:01Z')",
        "string(1) == '1' && string(1.5) == '1.5' && string(true) == 'true' && string(2u) == '2'",
        "string(1e21) == '1e+21' && string(1e-7) == '1e-07'",
        "string(duration('90m')) == '5400s'",
        "string(timestamp('2020-01-01T01:00:00+01:00')) == '2020-01-01T00:00:00Z'",
        "string(b'abc') == 'abc' && bytes('abc') == b'abc' && bool('true')",
    ] {
        holds(source);
    }
    fails("string(b'\\xff') == ''", "invalid UTF-8");
    fails("uint(-1) == 0u", "range error");
    fails("bool('yes')", "type conversion error");
}

#[test]
fn time() {
    const AT: &str = "timestamp('2021-03-04T05:06:07.089Z')";
    for check in [
        "getFullYear() == 2021",
        "getMonth() == 2",
        "getDate() == 4",
        "getDayOfMonth() == 3",
        "getDayOfWeek() == 4",
        "getDayOfYear() == 62",
        "getHours() == 5",
        "getMinutes() == 6",
        "getSeconds() == 7",
        "getMilliseconds() == 89",
        "getHours('America/New_York') == 0",
        "getHours('+02:30') == 7",
        "getMinutes('-02:30') == 36",
    ] {
        holds(&format!("{AT}.{check}"));
    }
    holds("duration('1h30m').getMinutes() == 90 && duration('1h').getSeconds() == 3600");
    fails(&format!("{AT}.getHours('Nowhere/Atall') == 0"), "unknown time zone");
}

#[test]
fn objects_are_maps() {
    let pod = json!({"metadata": {"name": "a", "labels": {"app": "x"}},
        "spec": {"containers": [{"image": "i:1"}, {"image": "j"}], "n": 3, "f": 2.5}});
    let check = |source: &str, expected: serde_json::Value| {
        assert_eq!(about(&pod, source), Ok(expected), "{source}");
    };
    check("self.metadata.name", json!("a"));
    check("self.metadata.labels['app']", json!("x"));
    check("self.spec.containers.map(c, c.image)", json!(["i:1", "j"]));
    check("self.spec.containers.all(c, c.image.contains(':'))", json!(false));
    check("has(self.metadata.annotations)", json!(false));
    check("self.metadata.?annotations['x'].orValue('none')", json!("none"));
    check("self.spec.n + 1", json!(4));
    check("self.spec.f * 2.0", json!(5));
    check("self", pod.clone());
    check("self.spec.containers == self.spec.containers", json!(true));
}
