//! Image references as people write them.
//!
//! Read by hand, by the grammar of the distribution project: the regular expression that others have for it takes megabytes
//! in each thread that uses it, and a node reads references all the time.

use std::borrow::Cow;

/// The longest name, without tag and digest.
const MAX_NAME: usize = 255;
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("repository name must have at least one component")]
    Empty,
    #[error("invalid reference format")]
    Format,
    #[error("repository name must be lowercase")]
    Case,
    #[error("repository name must not be more than {MAX_NAME} characters")]
    Length,
    #[error("invalid tag format")]
    Tag,
    #[error("invalid checksum digest format")]
    Digest,
    #[error("unsupported digest algorithm")]
    Algorithm,
    #[error("invalid checksum digest length")]
    DigestLength,
}

/// Which image is meant: `busybox` is `library/busybox` of `docker.io`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference<'a> {
    pub registry: &'a str,
    pub repository: Cow<'a, str>,
    pub tag: Option<&'a str>,
    pub digest: Option<&'a str>,
}

impl<'a> ImageReference<'a> {
    pub fn parse(reference: &'a str) -> Result<Self, Invalid> {
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
            return Err(Invalid::Empty);
        }
        let (registry, repository) = registry_and_repository(name)?;
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(Invalid::Tag);
        }
        digest.map_or(Ok(()), verify_digest)?;
        Ok(Self { registry, repository, tag, digest })
    }

    /// `docker.io/library/busybox`, of any form of reference.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag that is asked for: the default one where nothing says which.
    pub fn tag_or_default(&self) -> Option<&'a str> {
        self.tag.or(self.digest.is_none().then_some(DEFAULT_TAG))
    }
}

fn registry_and_repository(name: &str) -> Result<(&str, Cow<'_, str>), Invalid> {
    let is_registry = |first: &str| {
        first == "localhost" || first.contains(['.', ':']) || first.contains(|c: char| c.is_ascii_uppercase())
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if is_registry(first) => (first, path),
        _ => (DEFAULT_REGISTRY, name),
    };
    if !is_host_and_port(registry) {
        return Err(Invalid::Format);
    }
    if !path.split('/').all(is_path_component) {
        let lower = path.to_ascii_lowercase();
        let only_case = lower != path && lower.split('/').all(is_path_component);
        return Err(if only_case { Invalid::Case } else { Invalid::Format });
    }
    if path.len() > MAX_NAME {
        return Err(Invalid::Length);
    }
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let official = registry == DEFAULT_REGISTRY && !path.contains('/');
    Ok((registry, if official { format!("library/{path}").into() } else { path.into() }))
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

fn verify_digest(digest: &str) -> Result<(), Invalid> {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return Err(Invalid::Digest);
    };
    if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Invalid::Digest);
    }
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(Invalid::Algorithm),
    };
    if hex.len() == length { Ok(()) } else { Err(Invalid::DigestLength) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_mean_full_ones() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let both = format!("me/app:v1@{digest}");
        for (text, name, tag, digest) in [
            ("busybox", "docker.io/library/busybox", Some("latest"), None),
            ("busybox:1.36", "docker.io/library/busybox", Some("1.36"), None),
            ("me/app:v1", "docker.io/me/app", Some("v1"), None),
            ("localhost/app", "localhost/app", Some("latest"), None),
            ("localhost:5000/app", "localhost:5000/app", Some("latest"), None),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause", Some("3.10"), None),
            ("index.docker.io/busybox", "docker.io/library/busybox", Some("latest"), None),
            ("[fd00::1]:5000/a/b", "[fd00::1]:5000/a/b", Some("latest"), None),
            ("Registry/app", "Registry/app", Some("latest"), None),
            (&both, "docker.io/me/app", Some("v1"), Some(digest.as_str())),
            (&both.replace(":v1", ""), "docker.io/me/app", None, Some(digest.as_str())),
        ] {
            let parsed = ImageReference::parse(text).unwrap();
            assert_eq!(
                (parsed.name().as_str(), parsed.tag_or_default(), parsed.digest),
                (name, tag, digest),
                "{text}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let long = format!("a/{}", "b".repeat(300));
        for (nonsense, why) in [
            ("", Invalid::Empty),
            ("@sha256:12", Invalid::Empty),
            ("UPPER/Case", Invalid::Case),
            ("BusyBox", Invalid::Case),
            ("a b", Invalid::Format),
            ("a//b", Invalid::Format),
            ("a/", Invalid::Format),
            ("/a", Invalid::Format),
            ("a.example:/b", Invalid::Format),
            ("[::1/a", Invalid::Format),
            ("a___b", Invalid::Format),
            ("-a", Invalid::Format),
            ("é", Invalid::Format),
            (&long, Invalid::Length),
            ("x:", Invalid::Tag),
            ("x:-a", Invalid::Tag),
            ("a@sha256:xyz", Invalid::Digest),
            ("a@sha256", Invalid::Digest),
            ("a@sha256:0123", Invalid::DigestLength),
            ("a@md5:0123", Invalid::Algorithm),
        ] {
            assert_eq!(ImageReference::parse(nonsense), Err(why), "{nonsense:?}");
        }
    }
}
