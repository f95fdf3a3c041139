//! Names of images: whether they are any, and what is left out of them.

pub fn valid_reference(image: &str) -> bool {
    let name = image.split('@').next().unwrap_or_default();
    let (name, tag) = split_tag(name);
    let path_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let mut parts = name.split('/').peekable();
    let mut first = true;
    let mut ok = !name.is_empty() && image.len() <= 512;
    while let Some(part) = parts.next() {
        // Only a first part that is not the last may be a host: upper case, a port.
        let host = first && parts.peek().is_some();
        let fits = |c: char| path_ok(c) || (host && (c.is_ascii_uppercase() || matches!(c, ':' | '[' | ']')));
        ok &= !part.is_empty() && part.chars().all(fits);
        first = false;
    }
    let tag_ok = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let digest_ok = match image.split_once('@') {
        Some((_, digest)) => digest.split_once(':').is_some_and(|(kind, hex)| {
            !kind.is_empty() && hex.len() >= 32 && hex.chars().all(|c| c.is_ascii_hexdigit())
        }),
        None => true,
    };
    ok && tag.is_none_or(tag_ok) && digest_ok
}

/// The name and the tag; a colon before the last slash belongs to a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    }
}

pub fn with_tag(image: &str) -> String {
    if image.contains('@') || split_tag(image).1.is_some() {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// Host and path, without tag and digest: `docker.io/library/busybox`.
pub fn repository(image: &str) -> String {
    let name = split_tag(image.split('@').next().unwrap_or_default()).0;
    let host = name.split('/').next().unwrap_or_default();
    let has_host = name.contains('/') && (host.contains(['.', ':']) || host == "localhost");
    match (has_host, name.contains('/')) {
        (true, _) => name.to_owned(),
        (false, true) => format!("docker.io/{name}"),
        (false, false) => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for (image, expected) in [
            ("busybox", "docker.io/library/busybox"),
            ("team/app:1", "docker.io/team/app"),
            ("localhost:5000/a:1", "localhost:5000/a"),
            ("reg.example/a/b@sha256:0123", "reg.example/a/b"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn references() {
        for (image, valid) in [
            ("busybox", true),
            ("busybox:1.36", true),
            ("Registry.example:5000/a/b:v1", true),
            ("localhost:5000/a", true),
            ("a@sha256:0123456789012345678901234567890123456789012345678901234567890123", true),
            ("", false),
            ("BusyBox", false),
            ("a b", false),
            ("a:", false),
            ("a//b", false),
            ("a@sha256:xyz", false),
        ] {
            assert_eq!(valid_reference(image), valid, "{image}");
        }
        assert_eq!(with_tag("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(with_tag("a:1"), "a:1");
    }
}
