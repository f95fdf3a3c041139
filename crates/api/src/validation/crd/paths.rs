//! JSON paths that name one field: `.spec.replicas`.

/// The names along the path; `None` where it is more than names joined by dots.
pub fn simple(path: &str) -> Option<Vec<&str>> {
    let rest = path.strip_prefix('.')?;
    let names: Vec<&str> = rest.split('.').collect();
    let plain = |name: &&str| {
        !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "[]()*?@'\"{}$,:".contains(c))
    };
    names.iter().all(plain).then_some(names)
}
