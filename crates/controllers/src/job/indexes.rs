//! Sets of completion indexes, as statuses spell them: `0,3-5,9`.

use std::collections::BTreeSet;

/// More indexes than this no Job has; what a status claims beyond is not believed.
const MOST: i32 = 10_000_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Indexes(BTreeSet<i32>);

impl Indexes {
    /// Reads a spelled set; what is malformed or beyond `end` is left out.
    pub fn parse(text: &str, end: i32) -> Self {
        let end = end.clamp(0, MOST);
        let mut set = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                set.extend(first.max(0)..last.saturating_add(1).min(end));
            }
        }
        Self(set)
    }

    pub fn insert(&mut self, index: i32) -> bool {
        self.0.insert(index)
    }

    pub fn contains(&self, index: i32) -> bool {
        self.0.contains(&index)
    }

    pub fn len(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX)
    }

    pub fn intersection_len(&self, other: &Self) -> i32 {
        i32::try_from(self.0.intersection(&other.0).count()).unwrap_or(i32::MAX)
    }
}

impl std::fmt::Display for Indexes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = all.next() {
            let mut last = first;
            while all.peek() == Some(&(last + 1)) {
                last += 1;
                all.next();
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_spelled_as_upstream_does() {
        let check = |text: &str, end, expected: &str| {
            assert_eq!(Indexes::parse(text, end).to_string(), expected, "{text}")
        };
        check("", 10, "");
        check("0,1,2", 10, "0-2");
        check("0-1,3", 10, "0,1,3");
        check("3-5,1", 10, "1,3-5");
        check("0-99", 3, "0-2");
        check("0-2147483647", 2, "0,1");
        check("a,-1,5-x,2", 10, "2");
    }
}
