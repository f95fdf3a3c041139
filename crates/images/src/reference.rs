//! Image references as people write them.
//!
//! Read by hand, by the grammar of the distribution project: the regular expression that `oci_client` has for it takes
//! megabytes in each thread that uses it, and a node reads references all the time.

use oci_client::Reference;

use crate::Error;

/// The longest name, without tag and digest.
const MAX_NAME: usize = 255;
const DEFAULT_REGISTRY: &str = "docker.io";

/// The full form of a reference: `busybox` is `docker.io/library/busybox:latest`.
pub fn normalize(reference: &str) -> Result<String, Error> {
    Ok(named(&parse(reference)?))
}

/// A digest says everything: a tag beside it is a note for people.
pub(crate) fn named(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}@{digest}", repository(reference)),
        None => reference.whole(),
    }
}

/// `docker.io/library/busybox`, of any form of reference.
pub(crate) fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

pub(crate) fn parse(reference: &str) -> Result<Reference, Error> {
    split(reference)
        .map_err(|reason| Error::Reference { reference: reference.to_owned(), reason: reason.to_owned() })
}

fn split(reference: &str) -> Result<Reference, &'static str> {
    let (named, digest) = match reference.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (reference, None),
    };
    // A colon before the last slash belongs to a port.
    let (name, tag) = match named.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (named, None),
    };
    if name.is_empty() {
        return Err("repository name must have at least one component");
    }
    let (registry, repository) = registry_and_repository(name)?;
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("invalid tag format");
    }
    digest.map_or(Ok(()), verify_digest)?;
    Ok(match (tag, digest) {
        (Some(tag), Some(digest)) => {
            Reference::with_tag_and_digest(registry, repository, tag.into(), digest.into())
        }
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest.into()),
        (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or("latest").into()),
    })
}

fn registry_and_repository(name: &str) -> Result<(String, String), &'static str> {
    let is_registry = |first: &str| {
        first == "localhost" || first.contains(['.', ':']) || first.contains(|c: char| c.is_ascii_uppercase())
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    };
    if !is_host_and_port(registry) {
        return Err("invalid reference format");
    }
    if !path.split('/').all(is_path_component) {
        let lower = path.to_ascii_lowercase();
        let only_case = lower != path && lower.split('/').all(is_path_component);
        return Err(if only_case { "repository name must be lowercase" } else { "invalid reference format" });
    }
    if path.len() > MAX_NAME {
        return Err("repository name must not be more than 255 characters");
    }
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let official = registry == DEFAULT_REGISTRY && !path.contains('/');
    Ok((registry.to_owned(), if official { format!("library/{path}") } else { path.to_owned() }))
}

/// A domain name, an IPv4 address, or an IPv6 address in brackets; with a port or without.
fn is_host_and_port(text: &str) -> bool {
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let is_address =
                address.contains(':') && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            return is_address && (port.is_empty() || port.strip_prefix(':').is_some_and(digits));
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_label = |label: &str| {
        let within = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(within) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(is_label) && port.is_none_or(digits)
}

/// Runs of small letters and digits, between them one dot, one or two underscores, or dashes.
fn is_path_component(text: &str) -> bool {
    let within = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_well = |end: Option<u8>| end.is_some_and(within);
    ends_well(text.bytes().next())
        && ends_well(text.bytes().next_back())
        && text
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|between| matches!(between, "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn verify_digest(digest: &str) -> Result<(), &'static str> {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return Err("invalid checksum digest format");
    };
    if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("invalid checksum digest format");
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("unsupported digest algorithm"),
    };
    if hex.len() == length { Ok(()) } else { Err("invalid checksum digest length") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_become_full() {
        let check = |short: &str, full: &str| assert_eq!(normalize(short).unwrap(), full);
        check("busybox", "docker.io/library/busybox:latest");
        check("busybox:1.36", "docker.io/library/busybox:1.36");
        check("me/app:v1", "docker.io/me/app:v1");
        check("localhost:5000/app", "localhost:5000/app:latest");
        check("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10");
        let digest = format!("sha256:{}", "a".repeat(64));
        check(&format!("me/app:v1@{digest}"), &format!("docker.io/me/app@{digest}"));
        check("index.docker.io/busybox", "docker.io/library/busybox:latest");
        check("[fd00::1]:5000/a/b", "[fd00::1]:5000/a/b:latest");
        check("Registry/app", "Registry/app:latest");
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            "",
            "UPPER/Case",
            "a b",
            "x:",
            "@sha256:12",
            "a//b",
            "a/",
            "/a",
            "a.example:/b",
            "[::1/a",
            "a___b",
            "-a",
            "é",
        ] {
            assert!(normalize(nonsense).is_err(), "{nonsense:?}");
        }
    }

    proptest::proptest! {
        /// What `oci_client` makes of a text is what this makes of it. It knows no IPv6 addresses and takes a first part with
        /// capitals for one of Docker Hub's users, which nobody can be.
        #[test]
        fn reads_as_others_do(text in "[a-c.]{0,3}(:5)?/?[a-bA._-]{0,4}/?[a-b_-]{1,4}(:[a-bA._-]{1,3})?(@sha256:[0a]{63,64})?") {
            let first_has_capitals = text.split_once('/').is_some_and(|(first, _)| first != first.to_ascii_lowercase());
            if !first_has_capitals {
                let other: Option<Reference> = text.parse().ok();
                proptest::prop_assert_eq!(split(&text).ok(), other, "{}", text);
            }
        }
    }
}
