//! What controllers count and time of their own work, under upstream's names. One process has one set of controllers.

use exposition::{Family, Kind, Meters};

const SYNCS: &[f64] = &[
    0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384, 32.768,
    65.536, 131.072, 262.144, 524.288,
];

pub const CRON_JOB_SKEW: &str = "cronjob_controller_job_creation_skew_duration_seconds";
pub const JOB_PODS_FINISHED: &str = "job_controller_job_pods_finished_total";
pub const JOB_SYNC_DURATION: &str = "job_controller_job_sync_duration_seconds";
pub const JOB_SYNCS: &str = "job_controller_job_syncs_total";
pub const JOBS_FINISHED: &str = "job_controller_jobs_finished_total";
pub const EVICTIONS: &str = "node_collector_evictions_total";
pub const TAINT_EVICTIONS: &str = "taint_eviction_controller_pod_deletions_total";

/// In the order of their names.
const FAMILIES: &[Family] = &[
    Family {
        name: CRON_JOB_SKEW,
        kind: Kind::Histogram(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
        help: "Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    },
    Family {
        name: JOB_PODS_FINISHED,
        kind: Kind::Counter,
        help: "The number of finished Pods that are fully tracked",
    },
    Family { name: JOB_SYNC_DURATION, kind: Kind::Histogram(SYNCS), help: "The time it took to sync a job" },
    Family { name: JOB_SYNCS, kind: Kind::Counter, help: "The number of job syncs" },
    Family { name: JOBS_FINISHED, kind: Kind::Counter, help: "The number of finished jobs" },
    Family {
        name: EVICTIONS,
        kind: Kind::Counter,
        help: "Number of Node evictions that happened since current instance of NodeController started.",
    },
    Family {
        name: TAINT_EVICTIONS,
        kind: Kind::Counter,
        help: "Total number of Pods deleted by TaintEvictionController since its start.",
    },
];

pub static METERS: Meters = Meters::new(FAMILIES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_in_order() {
        assert!(FAMILIES.is_sorted_by_key(|family| family.name));
    }
}
