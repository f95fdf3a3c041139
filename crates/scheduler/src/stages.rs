//! How long the last decision took, stage by stage. Measured only: no decision depends on it.

use std::time::Duration;

use tokio::time::Instant;

/// Upstream's extension points, as far as there is something like them here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    PreFilter,
    Filter,
    PostFilter,
    Score,
}

impl Stage {
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreFilter => "PreFilter",
            Self::Filter => "Filter",
            Self::PostFilter => "PostFilter",
            Self::Score => "Score",
        }
    }
}

/// A stage that was gone through, whether the pod got on by it, and how long it took.
pub type Taken = (Stage, bool, Duration);

#[derive(Debug)]
pub struct Stages {
    taken: [Option<Taken>; 4],
    begun: Instant,
}

impl Default for Stages {
    fn default() -> Self {
        Self { taken: [None; 4], begun: Instant::now() }
    }
}

impl Stages {
    /// A decision begins.
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// What was done since the last stage was this one.
    pub fn end(&mut self, stage: Stage, went_well: bool) {
        let now = Instant::now();
        if let Some(free) = self.taken.iter_mut().find(|taken| taken.is_none()) {
            *free = Some((stage, went_well, now.duration_since(self.begun)));
        }
        self.begun = now;
    }

    pub fn taken(&self) -> impl Iterator<Item = Taken> + '_ {
        self.taken.iter().flatten().copied()
    }
}
