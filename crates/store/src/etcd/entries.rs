//! Keys and values as etcd has them, and as callers know them.

use bytes::Bytes;
use etcd_client::KeyValue;

use crate::{Entry, Revision};

/// No key of callers.
const MARK: &[u8] = b"/corten/mark";

/// What comes before every key of ours.
pub(crate) struct Root(Vec<u8>);

impl Root {
    pub fn new(prefix: &str) -> Self {
        let trimmed = prefix.trim_matches('/');
        Self(if trimmed.is_empty() { Vec::new() } else { format!("/{trimmed}").into_bytes() })
    }

    pub fn full(&self, key: &[u8]) -> Vec<u8> {
        [&self.0[..], key].concat()
    }

    /// The key as callers know it, if it is one of theirs.
    pub fn own<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(&self.0[..]).filter(|key| key.starts_with(b"/") && *key != MARK)
    }

    /// Where writes leave their marks; below the root, since a user of etcd may have no right to anything else.
    pub fn mark(&self) -> Vec<u8> {
        self.full(MARK)
    }
}

/// The first key after all that begin with `prefix`.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // To the end of all keys.
    vec![0]
}

pub(crate) fn entry(root: &Root, kv: &KeyValue) -> Option<Entry> {
    Some(Entry {
        key: Bytes::copy_from_slice(root.own(kv.key())?),
        value: Bytes::copy_from_slice(kv.value()),
        created: kv.create_revision() as Revision,
        modified: kv.mod_revision() as Revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_below_the_root() {
        #[track_caller]
        fn check(prefix: &str, key: &str, own: Option<&str>) {
            let root = Root::new(prefix);
            let found = root.own(key.as_bytes()).map(|key| String::from_utf8_lossy(key).into_owned());
            assert_eq!(found.as_deref(), own);
            if let Some(own) = own {
                assert_eq!(root.full(own.as_bytes()), key.as_bytes());
            }
        }
        check("/registry", "/registry/corten/mark", None);
        check("/registry", "/registry/pods/a", Some("/pods/a"));
        check("registry/", "/registry/pods/a", Some("/pods/a"));
        check("/registry", "/registry2/pods/a", None);
        check("/registry", "compact_rev_key", None);
        check("/", "/pods/a", Some("/pods/a"));
        check("/a/b", "/a/b/c", Some("/c"));
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(end_of(b"/a/"), b"/a0");
        assert_eq!(end_of(b"a\xff\xff"), b"b");
        assert_eq!(end_of(b"\xff"), b"\0");
    }
}
