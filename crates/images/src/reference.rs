//! Image references, as this crate's transfers name them.

use image_reference::{ImageReference, Invalid};
use oci_client::Reference;

use crate::Error;

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
    split(reference).map_err(|reason| Error::Reference { reference: reference.to_owned(), reason })
}

fn split(reference: &str) -> Result<Reference, Invalid> {
    let parsed = ImageReference::parse(reference)?;
    let (registry, repository) = (parsed.registry.to_owned(), parsed.repository.clone().into_owned());
    Ok(match (parsed.tag_or_default(), parsed.digest) {
        (Some(tag), Some(digest)) => {
            Reference::with_tag_and_digest(registry, repository, tag.into(), digest.into())
        }
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest.into()),
        (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or_default().into()),
    })
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
