//! Probe results counted against their thresholds.

use k8s_openapi::api::core::v1::{Container, Probe};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// As event messages begin.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// Results of one kind in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Run {
    succeeded: i32,
    failed: i32,
}

/// What the probes of a container have said since it started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probed {
    /// The container that is being probed, and whether its startup probe is over.
    pub id: Option<String>,
    pub after_startup: bool,
    startup: Run,
    liveness: Run,
    readiness: Run,
}

impl Probed {
    pub fn of(id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..Self::default() }
    }

    /// Counts a result; tells when a threshold is reached: `Some(true)` for success, `Some(false)` for failure.
    pub fn count(&mut self, kind: Kind, probe: &Probe, success: bool) -> Option<bool> {
        let run = match kind {
            Kind::Startup => &mut self.startup,
            Kind::Liveness => &mut self.liveness,
            Kind::Readiness => &mut self.readiness,
        };
        if success {
            run.failed = 0;
            run.succeeded = run.succeeded.saturating_add(1);
            (run.succeeded >= probe.success_threshold.unwrap_or(1)).then_some(true)
        } else {
            run.succeeded = 0;
            run.failed = run.failed.saturating_add(1);
            (run.failed >= probe.failure_threshold.unwrap_or(3)).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_results_in_a_row() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Default::default() };
        let mut probed = Probed::default();
        let mut check = |success, expected| {
            assert_eq!(probed.count(Kind::Readiness, &probe, success), expected);
        };
        check(true, None);
        check(false, None);
        check(true, None);
        check(true, Some(true));
        check(true, Some(true));
        check(false, None);
        check(false, None);
        check(false, Some(false));
    }
}
