//! Kubernetes' libraries, by the examples of their documentation.

use expressions::types::Sized;
use expressions::{Bindings, Budget, Environment, Program, Type, Value};

use super::{fails, holds};

#[test]
fn lists() {
    for source in [
        "[1, 2, 3].isSorted() && !['b', 'a'].isSorted() && [].isSorted() && [true].isSorted()",
        "[1, 2, 3].sum() == 6 && [1.5, .5].sum() == 2.0 && [duration('1s'), duration('2s')].sum() == duration('3s')",
        "[].sum() == 0 && [1u].sum() == 1u",
        "[1, 3].min() == 1 && ['a', 'c'].max() == 'c' && [2.5, 1.0].min() == 1.0",
        "[1, 2, 2, 3].indexOf(2) == 1 && ['a', 'b', 'b', 'c'].lastIndexOf('b') == 2",
        "[1.0].indexOf(1.1) == -1 && [].indexOf('string') == -1",
        "sets.contains([], []) && sets.contains([1, 2, 3, 4], [2, 3]) && !sets.contains([1], [2])",
        "sets.equivalent([1, 2, 2], [2, 1]) && sets.intersects([1], [1, 2]) && !sets.intersects([1], [])",
    ] {
        holds(source);
    }
    fails("[].min() == 0", "min called on empty list");
    for source in [
        "lists.range(3) == [0, 1, 2] && lists.range(0) == []",
        "[3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sort() == ['a', 'b'] && [].sort() == []",
        "[{'n': 2}, {'n': 1}].sortBy(e, e.n) == [{'n': 1}, {'n': 2}] && [1, 3].sortBy(e, -e) == [3, 1]",
        "[1, 2, 2, 1].distinct() == [1, 2] && [1, 2, 3].reverse() == [3, 2, 1]",
        "[[1], [2, 3]].flatten() == [1, 2, 3] && [[[1]], [[2]]].flatten(2) == [1, 2]",
        "[1, 2, 3].slice(1, 3) == [2, 3] && [1].slice(1, 1) == []",
    ] {
        holds(source);
    }
    fails("[1].slice(0, 2) == []", "cannot slice(0, 2), list is length 1");
    fails("[1].slice(1, 0) == []", "cannot slice(1, 0), start index must be less than or equal to end index");
    fails("lists.range(-1) == []", "size must be non-negative, got -1");
    fails("[[1]].flatten(-1) == []", "level must be non-negative");
    fails("[dyn(1), dyn('a')].sortBy(e, e) == []", "list elements must have the same type");
    fails("[[1]].sortBy(e, e) == []", "found no matching overload for '@sortByAssociatedKeys'");
}

#[test]
fn costs_are_upstreams() {
    let environment = Environment::kubernetes()
        .with("l", Sized { of: Type::list(Sized { of: Type::String, max: 20 }), max: 50 })
        .with("s", Sized { of: Type::String, max: 1000 });
    let check = |source: &str, estimated: u64, actual: u64| {
        let program = Program::compile(source, &environment).unwrap();
        let mut bindings = Bindings::new();
        bindings.set("l", Value::list(vec![Value::string("a"), Value::string("b")]));
        bindings.set("s", Value::string("hello world"));
        let mut budget = Budget::default();
        let before = budget.remaining();
        program.evaluate(&bindings, &mut budget).unwrap();
        assert_eq!((program.estimated_cost(), before - budget.remaining()), (estimated, actual), "{source}");
    };
    // What is constant is made once, whatever the estimate says.
    check("[1, 2]", 10, 0);
    check("{'a': [1]}", 40, 0);
    check("[s]", 11, 11);
    check("l + ['a']", 12, 2);
    check("string(s)", 2, 2);
    check("'%s of %s'.format([s, 1])", 12, 12);
}

#[test]
fn strings() {
    for source in [
        "'hello'.charAt(4) == 'o' && 'hello'.charAt(5) == ''",
        "'hello mellow'.indexOf('') == 0 && 'hello mellow'.indexOf('ello') == 1",
        "'hello mellow'.indexOf('jello') == -1 && 'hello mellow'.indexOf('', 2) == 2",
        "'hello mellow'.indexOf('ello', 2) == 7 && 'hello mellow'.lastIndexOf('ello') == 7",
        "'hello mellow'.lastIndexOf('') == 12 && 'hello mellow'.lastIndexOf('ello', 6) == 1",
        "'a'.indexOf('a', 1) == -1 && ''.indexOf('l', 4) == -1 && 'a'.lastIndexOf('a', 1) == -1",
        "['hello', 'mellow'].join() == 'hellomellow' && ['hello', 'mellow'].join(' ') == 'hello mellow'",
        "[].join('/') == ''",
        "'TacoCat'.lowerAscii() == 'tacocat' && 'TacoCÆt Xii'.lowerAscii() == 'tacocÆt xii'",
        "'TacoCat'.upperAscii() == 'TACOCAT'",
        "'hello hello'.replace('he', 'we') == 'wello wello' && 'hello hello'.replace('he', 'we', -1) == 'wello wello'",
        "'hello hello'.replace('he', 'we', 1) == 'wello hello' && 'hello hello'.replace('he', 'we', 0) == 'hello hello'",
        "'12 days'.replace('', '_') == '_1_2_ _d_a_y_s_'",
        "'hello hello hello'.split(' ') == ['hello', 'hello', 'hello']",
        "'hello hello hello'.split(' ', 0) == [] && 'hello hello hello'.split(' ', 1) == ['hello hello hello']",
        "'hello hello hello'.split(' ', 2) == ['hello', 'hello hello'] && 'abc'.split('') == ['a', 'b', 'c']",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco' && 'tacocat'.substring(7) == ''",
        "'  \\ttrim\\n    '.trim() == 'trim'",
        "'abc'.startsWith('ab') && 'abc'.endsWith('bc') && 'abc'.contains('b')",
        "strings.quote('first\\nsecond \"x\"') == '\"first\\\\nsecond \\\\\"x\\\\\"\"'",
        "'%s is %d years, %.2f%%'.format(['Ann', 30, 1.5]) == 'Ann is 30 years, 1.50%'",
        "'%x %X %o %b %e'.format([255, 255, 8, 5, 1234.5]) == 'ff FF 10 101 1.234500×10⁰³'",
        "'%s'.format([['a', 1, 2.0, {'k': true}]]) == '[\"a\", 1, 2.000000, {\"k\":true}]'",
        "jsonpatch.escapeKey('k8s.io/my~label') == 'k8s.io~1my~0label'",
    ] {
        holds(source);
    }
    fails("'tacocat'.substring(40) == ''", "index out of range: 40");
    fails("'tacocat'.substring(3, 2) == ''", "invalid substring range");
    fails("'hello'.charAt(-1) == ''", "index out of range: -1");
    fails("'%d'.format(['x']) == ''", "error during formatting");
    fails("'%s %s'.format(['x']) == ''", "index 1 out of range");
    fails("'%q'.format(['x']) == ''", "unrecognized formatting clause");
    fails("'a'.format([1]) == ''", "too many arguments supplied to string.format (expected 0, got 1)");
    fails("'%d'.format([1.5]) == ''", "ERROR: <input>:1:14: error during formatting: decimal clause");
    fails("'%f'.format([dyn(1)]) == ''", "fixed-point clause can only be used on doubles, was given int");
    holds("'%.1f %f'.format([1234567.25, -1.0/0.0]) == '1,234,567.2 -∞'");
    holds("string(1e6) == '1e+06' && string(123456.5) == '123456.5' && bool('F') == false");
    fails("int('x') == 1", "type conversion error from 'string' to 'int'");
}

#[test]
fn regexes() {
    for source in [
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'123 abc 456'.findAll('[0-9]+') == ['123', '456'] && '123 abc 456'.findAll('[0-9]+', 1) == ['123']",
        "'123 abc 456'.findAll('xyz') == [] && 'abc'.matches('^a.c$') && matches('abc', 'b')",
    ] {
        holds(source);
    }
    fails("'a'.matches('(')", "invalid matches argument");
    fails("'a'.matches(dyn('('))", "error parsing regexp");
}

#[test]
fn urls() {
    for source in [
        "isURL('https://user:pass@example.com:80/path?query=val#fragment') && isURL('/absolute-path')",
        "!isURL('https://a:b:c/') && !isURL('../relative-path')",
        "url('https://example.com:80/').getScheme() == 'https' && url('/path').getScheme() == ''",
        "url('https://example.com:80/').getHost() == 'example.com:80' && url('https://[::1]:80/').getHost() == '[::1]:80'",
        "url('https://example.com:80/').getHostname() == 'example.com' && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://example.com:80/').getPort() == '80' && url('https://example.com/').getPort() == ''",
        "url('https://example.com/path').getEscapedPath() == '/path'",
        "url('https://example.com/path with spaces/'.replace(' ', '%20')).getEscapedPath() == '/path%20with%20spaces/'",
        "url('https://example.com/path?k1=a&k2=b&k2=c').getQuery() == {'k1': ['a'], 'k2': ['b', 'c']}",
        "url('https://example.com/path').getQuery() == {} && url('https://a/?key%20with=x%20y').getQuery()['key with'][0] == 'x y'",
    ] {
        holds(source);
    }
    fails("url('../relative-path').getHost() == ''", "URL parse error");
}

#[test]
fn addresses() {
    for source in [
        "isIP('127.0.0.1') && isIP('::1') && !isIP('127.0.0.256') && !isIP(':::1') && !isIP('01.2.3.4')",
        "ip('192.168.0.1').family() == 4 && ip('::ffff').family() == 6 && string(ip('::0001')) == '::1'",
        "ip.isCanonical('127.0.0.1') && ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD')",
        "ip('0.0.0.0').isUnspecified() && ip('::').isUnspecified() && !ip('127.0.0.1').isUnspecified()",
        "ip('127.0.0.1').isLoopback() && ip('::1').isLoopback() && !ip('192.168.0.1').isLoopback()",
        "ip('224.0.0.1').isLinkLocalMulticast() && ip('ff02::1').isLinkLocalMulticast() && !ip('224.0.1.1').isLinkLocalMulticast()",
        "ip('169.254.169.254').isLinkLocalUnicast() && ip('fe80::1').isLinkLocalUnicast()",
        "ip('192.168.0.1').isGlobalUnicast() && !ip('255.255.255.255').isGlobalUnicast() && ip('2001:db8::abcd').isGlobalUnicast()",
        "isCIDR('192.168.0.0/24') && isCIDR('::1/128') && !isCIDR('192.168.0.0/33') && !isCIDR('::1/129')",
        "cidr('192.168.0.0/24').containsIP(ip('192.168.0.1')) && cidr('192.168.0.0/24').containsIP('192.168.0.1')",
        "!cidr('192.168.0.0/24').containsIP('192.168.1.1')",
        "cidr('192.168.0.0/16').containsCIDR(cidr('192.168.10.0/24')) && !cidr('192.168.1.0/24').containsCIDR('192.168.0.0/16')",
        "cidr('192.168.0.1/24').ip().family() == 4 && cidr('::1/128').ip() == ip('::1')",
        "cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24') && cidr('192.168.0.0/24').prefixLength() == 24",
        "string(cidr('192.168.0.1/24').masked()) == '192.168.0.0/24' && cidr('0.0.0.0/0').containsIP('1.2.3.4')",
        "type(ip('1.2.3.4')) == net.IP && type(ip('1.2.3.4')) != net.CIDR",
    ] {
        holds(source);
    }
    fails("ip('127.0.0.256').isLoopback()", "IP Address");
    fails("ip('::ffff:1.2.3.4').isLoopback()", "IPv4-mapped");
    fails("cidr('192.168.0.0/256').prefixLength() == 1", "network address parse error");
}

#[test]
fn quantities() {
    for source in [
        "isQuantity('1.3Gi') && isQuantity('1.3G') && isQuantity('500000G') && !isQuantity('1,3G') && !isQuantity('200K')",
        "quantity('50000000G').isInteger() && quantity('50k').asInteger() == 50000 && !quantity('1.5').isInteger()",
        "quantity('50k').sub(20000) == quantity('30k') && quantity('50k').add(quantity('20k')) == quantity('70k')",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('50M').compareTo(quantity('50Mi')) == -1",
        "quantity('150Mi').isGreaterThan(quantity('100Mi')) && quantity('50M').isLessThan(quantity('100M'))",
        "quantity('50.703k').asApproximateFloat() == 50703.0 && quantity('-5').sign() == -1 && quantity('0').sign() == 0",
        "quantity('1000m') == quantity('1') && [quantity('1')].all(q, q.isInteger())",
    ] {
        holds(source);
    }
    fails("quantity('200K').isInteger()", "unable to parse quantity");
    fails("quantity('1.5').asInteger() == 1", "cannot convert value to integer");
}

#[test]
fn semvers() {
    for source in [
        "isSemver('1.0.0') && !isSemver('hello') && !isSemver('v1.0') && isSemver('v1.0', true) && isSemver('01.2', true)",
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
        "semver('1.2.3').isLessThan(semver('1.2.4')) && semver('1.0.0').isGreaterThan(semver('1.0.0-alpha'))",
        "semver('1.2.3').compareTo(semver('1.2.3')) == 0 && semver('v1', true) == semver('1.0.0')",
    ] {
        holds(source);
    }
    fails("semver('a').major() == 1", "unexpected character");
}

#[test]
fn formats() {
    for source in [
        "!format.dns1123Label().validate('my-label-name').hasValue()",
        "format.dns1123Label().validate('My_Label').hasValue()",
        "format.named('dns1123Subdomain').hasValue() && !format.named('nope').hasValue()",
        "!format.dns1123LabelPrefix().validate('my-label-prefix-').hasValue()",
        "!format.qualifiedName().validate('apiextensions.k8s.io/v1beta1').hasValue()",
        "!format.uri().validate('http://example.com').hasValue() && format.uri().validate('x').hasValue()",
        "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue() && format.uuid().validate('x').hasValue()",
        "!format.byte().validate('aGVsbG8=').hasValue() && format.byte().validate('*').hasValue()",
        "!format.date().validate('2021-01-01').hasValue() && format.date().validate('2021-13-01').hasValue()",
        "!format.datetime().validate('2021-01-01T00:00:00Z').hasValue() && format.datetime().validate('x').hasValue()",
        "format.dns1035Label().validate('1x').value().join('').contains('DNS-1035')",
        "!format.labelValue().validate('').hasValue()",
    ] {
        holds(source);
    }
}
