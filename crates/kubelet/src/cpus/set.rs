//! Sets of CPUs, as the kernel writes them.

use std::collections::BTreeSet;

pub type Set = BTreeSet<u32>;

/// Reads `0-1,4`.
pub fn parse(list: &str) -> Set {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // Machines have no more.
        (last < 1 << 16).then_some(first..=last)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// Writes `0-1,4`.
pub fn shown(set: &Set) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for cpu in set {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
            _ => ranges.push((*cpu, *cpu)),
        }
    }
    let range =
        |(first, last): (u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (text, expected) in [("0-2,5", "0-2,5"), ("3,1,2", "1-3"), ("", ""), ("x", "")] {
            assert_eq!(shown(&parse(text)), expected, "{text}");
        }
    }
}
