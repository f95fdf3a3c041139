//! The filters of list calls: what is set must match.

use std::collections::HashMap;
use std::hash::BuildHasher;

pub fn id(wanted: &str, actual: &str) -> bool {
    actual.starts_with(wanted)
}

pub fn labels<S: BuildHasher>(
    wanted: &HashMap<String, String, S>,
    actual: &HashMap<String, String, S>,
) -> bool {
    wanted.iter().all(|(key, value)| actual.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_match_when_all_are_there() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>()
        };
        let actual = map(&[("a", "1"), ("b", "2")]);
        for (wanted, expected) in
            [(&[][..], true), (&[("a", "1")], true), (&[("a", "2")], false), (&[("c", "1")], false)]
        {
            assert_eq!(labels(&map(wanted), &actual), expected, "{wanted:?}");
        }
    }
}
