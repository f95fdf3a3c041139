//! Drives fuzz targets within ordinary tests.
//!
//! A target is a `fn(&[u8])` that must neither panic nor go on without end, whatever it is given. Crates keep theirs in
//! a module `fuzz`; here they are called with seeds and with what chance makes of seeds, the same at every run, so that
//! they run with every change. `fuzz/` calls the same functions from libFuzzer, for as long as one likes.

use std::fmt::Write;

/// Inputs are not made longer than this: what is linear in them is quick then.
const MAX_INPUT: usize = 16 << 10;

/// What parsers stumble over.
const TOKENS: [&str; 36] = [
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "'",
    "\\",
    ",",
    ":",
    "=",
    "!=",
    "..",
    "/",
    "%",
    "%zz",
    "\0",
    "é",
    "\u{fffd}",
    "null",
    "true",
    "-1",
    "0",
    "1e999999",
    "1e-999999",
    "9223372036854775808",
    "0.0000000000000000001",
    "NaN",
    "&a",
    "*a",
    "- ",
    "\n",
    "\t",
    "?",
    "metadata",
];

/// Calls the target with the seeds, and `rounds` times with a mutation of one.
pub fn drive(seeds: &[&[u8]], rounds: u32, target: impl Fn(&[u8])) {
    for seed in seeds {
        call(&target, seed);
        // Every way in which it can end too early.
        for end in 0..seed.len().min(512) {
            call(&target, seed.get(..end).unwrap_or_default());
        }
    }
    for token in TOKENS {
        call(&target, token.repeat((MAX_INPUT / token.len()).min(2048)).as_bytes());
    }
    let mut chance = Chance(0x5eed);
    for _ in 0..rounds {
        let mut input = chance.of(seeds).to_vec();
        for _ in 0..=chance.below(4) {
            mutate(&mut input, seeds, &mut chance);
        }
        input.truncate(MAX_INPUT);
        call(&target, &input);
    }
}

/// Says which input it was, if it panics.
fn call(target: &impl Fn(&[u8]), input: &[u8]) {
    struct Tell<'a>(&'a [u8]);
    impl Drop for Tell<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                let mut shown = String::new();
                for byte in self.0.iter().take(4096).flat_map(|byte| std::ascii::escape_default(*byte)) {
                    // Writing to a String cannot fail.
                    let _ = shown.write_char(byte.into());
                }
                eprintln!("the input is b\"{shown}\" ({} bytes)", self.0.len());
            }
        }
    }
    let _tell = Tell(input);
    target(input);
}

/// A generator whose whole state is one number, so that a failing case is reproduced by its seed.
pub struct Chance(pub u64);

impl Chance {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, seeds: &[&'a [u8]]) -> &'a [u8] {
        let at = self.below(seeds.len());
        seeds.get(at).copied().unwrap_or_default()
    }

    /// A part of that many bytes, not a long one.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let begin = self.below(len + 1);
        let end = (begin + self.below(64)).min(len);
        begin..end
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[&[u8]], chance: &mut Chance) {
    let range = chance.range(input.len());
    match chance.below(8) {
        0 => {
            if let Some(byte) = input.get_mut(range.start) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(range.start) {
                *byte = chance.number() as u8;
            }
        }
        2 => drop(input.drain(range)),
        3 => {
            let token = TOKENS.get(chance.below(TOKENS.len())).copied().unwrap_or_default();
            input.splice(range.start..range.start, token.bytes());
        }
        4 => {
            let token = TOKENS.get(chance.below(TOKENS.len())).copied().unwrap_or_default();
            input.splice(range, token.bytes());
        }
        5 => {
            // The same again, often: nesting, long lists, long names.
            let part = input.get(range.clone()).unwrap_or_default().to_vec();
            let again = part.repeat(1 + chance.below(64));
            input.splice(range.start..range.start, again);
        }
        6 => {
            let other = chance.of(seeds);
            let from = chance.range(other.len());
            input.splice(range, other.get(from).unwrap_or_default().iter().copied());
        }
        _ => input.truncate(range.start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn every_run_is_the_same_and_no_input_is_long() {
        let record = || {
            let seen = RefCell::new(Vec::new());
            drive(&[b"{\"a\": [1, 2]}", b""], 200, |input| seen.borrow_mut().push(input.to_vec()));
            seen.into_inner()
        };
        let first = record();
        assert_eq!(first, record());
        assert!(first.iter().all(|input| input.len() <= MAX_INPUT), "too long");
        let distinct: std::collections::HashSet<_> = first.iter().collect();
        assert!(distinct.len() > 150, "only {} inputs", distinct.len());
    }
}
