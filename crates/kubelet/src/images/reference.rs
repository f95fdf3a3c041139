//! Names of images: what is left out of them.

use image_reference::ImageReference;

pub fn with_tag(image: &str) -> String {
    match ImageReference::parse(image) {
        Ok(ImageReference { tag: None, digest: None, .. }) => format!("{image}:latest"),
        _ => image.to_owned(),
    }
}

/// Host and path, without tag and digest: `docker.io/library/busybox`. What is no name is left as it is.
pub fn repository(image: &str) -> String {
    ImageReference::parse(image).map_or_else(|_| image.to_owned(), |reference| reference.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        let digest = "0123456789abcdef".repeat(4);
        for (image, expected) in [
            ("busybox", "docker.io/library/busybox"),
            ("team/app:1", "docker.io/team/app"),
            ("localhost:5000/a:1", "localhost:5000/a"),
            (&format!("reg.example/a/b@sha256:{digest}"), "reg.example/a/b"),
            ("not a name", "not a name"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn tags() {
        let digest = format!("a@sha256:{}", "0123456789abcdef".repeat(4));
        for (image, expected) in
            [("localhost:5000/a", "localhost:5000/a:latest"), ("a:1", "a:1"), (&digest, digest.as_str())]
        {
            assert_eq!(with_tag(image), expected);
        }
    }
}
