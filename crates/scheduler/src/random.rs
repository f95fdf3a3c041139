//! Chance, for choices between equals: nothing that anybody could gain by guessing, so it is cheap (xorshift).

pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self::seeded(rand::random())
    }
}

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or(0).checked_rem(end).unwrap_or(0)
    }
}
