//! Image references as people write them.

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

pub(crate) fn parse(reference: &str) -> Result<Reference, Error> {
    reference.parse().map_err(|e: oci_client::ParseError| Error::Reference {
        reference: reference.to_owned(),
        reason: e.to_string(),
    })
}

/// `docker.io/library/busybox`, of any form of reference.
pub(crate) fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
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
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in ["", "UPPER/Case", "a b", "x:", "@sha256:12"] {
            assert!(normalize(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
