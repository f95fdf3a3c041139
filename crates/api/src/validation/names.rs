//! The formats of names: DNS labels and subdomains, qualified names, label values, and the words that say why one is wrong.
//!
//! Each function returns `None` for a good name and kube-apiserver's explanation for a bad one. They look at bytes
//! directly, since every write passes through them.

const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let b = text.as_bytes();
    b.first().is_some_and(|c| lower(*c))
        && b.last().is_some_and(|c| lower(*c))
        && b.iter().all(|c| lower(*c) || *c == b'-')
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// Keys and values of labels are told so.
fn too_many_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// Namespaces, container names, and parts of domains.
pub fn dns1123_label(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some(too_long(63));
    }
    match is_label(text) {
        true => None,
        false if text.split('.').all(is_label) => Some("must not contain dots".to_owned()),
        false => Some(DNS1123_LABEL.to_owned()),
    }
}

/// Most object names.
pub fn dns1123_subdomain(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some(too_long(253));
    }
    (!text.split('.').all(is_label)).then(|| DNS1123_SUBDOMAIN.to_owned())
}

/// A subdomain that may start with `*.` (Ingress hosts).
pub fn wildcard_dns1123_subdomain(text: &str) -> Option<String> {
    let rest = text.strip_prefix("*.");
    match rest {
        Some(rest) if rest.len() <= 251 && rest.split('.').all(is_label) => None,
        _ => Some("a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned()),
    }
}

/// Versions of APIs, and names in definitions.
pub fn dns1035_label(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some(too_long(63));
    }
    let starts = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    (!starts || !is_label(text)).then(|| DNS1035_LABEL.to_owned())
}

/// A name that is one segment of a URL: RBAC objects and custom paths.
pub fn path_segment(text: &str) -> Option<String> {
    match text {
        "." => Some("may not be '.'".to_owned()),
        ".." => Some("may not be '..'".to_owned()),
        _ if text.contains('/') => Some("may not contain '/'".to_owned()),
        _ if text.contains('%') => Some("may not contain '%'".to_owned()),
        _ => None,
    }
}

/// An object that stands for an IP address.
pub fn ip_address(text: &str) -> Option<String> {
    const WHY: &str = "must be a valid IP address in canonical form";
    let canonical = text.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_string() == text);
    (!canonical).then(|| WHY.to_owned())
}

fn is_name_part(text: &str) -> bool {
    let b = text.as_bytes();
    let word = |c: &u8| c.is_ascii_alphanumeric();
    b.first().is_some_and(word)
        && b.last().is_some_and(word)
        && b.iter().all(|c| word(c) || matches!(c, b'-' | b'_' | b'.'))
}

/// Label and annotation keys, finalizers, resource names: `name` or `prefix.example.com/name`.
pub fn qualified_name(text: &str) -> Option<String> {
    let (prefix, name) = match text.split_once('/') {
        None => (None, text),
        Some((_, name)) if name.contains('/') => {
            return Some(format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
        }
        Some((prefix, name)) => (Some(prefix), name),
    };
    match prefix {
        Some("") => return Some("prefix part must be non-empty".to_owned()),
        Some(prefix) if prefix.len() > 253 => return Some(format!("prefix part {}", too_many_bytes(253))),
        Some(prefix) => {
            if let Some(problem) = dns1123_subdomain(prefix) {
                return Some(format!("prefix part {problem}"));
            }
        }
        None => {}
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Some(format!("name part {}", too_many_bytes(63)));
    }
    (!is_name_part(name)).then(|| format!("name part {QUALIFIED}"))
}

/// Label values.
pub fn label_value(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some(too_many_bytes(63));
    }
    (!text.is_empty() && !is_name_part(text)).then(|| LABEL_VALUE.to_owned())
}

/// Keys of ConfigMaps and Secrets.
pub fn config_map_key(text: &str) -> Option<String> {
    if text.len() > 253 {
        return Some(too_long(253));
    }
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
    {
        return Some(CONFIG_KEY.to_owned());
    }
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// Environment variable names: anything printable but `=`.
pub fn env_var_name(text: &str) -> Option<String> {
    const WHY: &str =
        "a valid environment variable name must consist only of printable ASCII characters other than '='";
    (text.is_empty() || !text.bytes().all(|c| (0x20..0x7f).contains(&c) && c != b'=')).then(|| WHY.to_owned())
}

/// Names of ports: IANA service names.
pub fn port_name(text: &str) -> Vec<&'static str> {
    let mut problems = Vec::new();
    if text.len() > 15 {
        problems.push("must be no more than 15 characters");
    }
    if !text.bytes().all(|c| lower(c) || c == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)");
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens");
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        #[track_caller]
        fn check(f: fn(&str) -> Option<String>, good: &[&str], bad: &[&str]) {
            for name in good {
                assert_eq!(f(name), None, "{name}");
            }
            for name in bad {
                assert!(f(name).is_some(), "{name}");
            }
        }
        let long = "a".repeat(64);
        let very_long = "a".repeat(254);
        check(dns1123_label, &["a", "0", "a-b", "a0"], &["", "-", "a-", "-a", "A", "a.b", "a_b", "é", &long]);
        check(dns1123_subdomain, &["a", "a.b", "0.1-2"], &["", ".", "a.", ".a", "a..b", "A.b", &very_long]);
        check(dns1035_label, &["a", "a-1"], &["1a", "", "a.b", "a-"]);
        check(
            qualified_name,
            &["a", "A_b.c-d", "x.y/z"],
            &["", "/", "a/", "/a", "a/b/c", "X.y/z", "-a", &long],
        );
        check(label_value, &["", "a", "A_b.c"], &["-", "a b", "é", &long]);
        check(config_map_key, &["a", "a.b", ".hidden", "A_B"], &["", ".", "..", "..a", "a/b"]);
        check(path_segment, &["system:node", "a b"], &[".", "..", "a/b", "50%"]);
        check(env_var_name, &["A", "a.b-c", "1x"], &["", "A=B", "é"]);
        check(wildcard_dns1123_subdomain, &["*.a.b"], &["*", "*.", "a.b", "*.*.a"]);
        check(ip_address, &["10.0.0.1", "fd00::1"], &["", "10.0.0.01", "FD00::1", "x"]);
        assert!(port_name("http").is_empty());
        for bad in ["", "80", "a--b", "-a", "A", "a-very-long-port-name"] {
            assert!(!port_name(bad).is_empty(), "{bad}");
        }
    }
}
