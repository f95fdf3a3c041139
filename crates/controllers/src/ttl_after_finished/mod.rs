//! Deletes Jobs some time after they have finished.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::Timestamp;
use kube::api::DeleteParams;

use crate::Loops;
use crate::job::outcome::{COMPLETE, FAILED};
use crate::kit::meta::{self, seconds_between};
use crate::kit::{Controller, Key, Queue, SyncError, World};

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.jobs.on(move |change| {
        if let Some(job) = change.new.filter(|job| time_left(job, Timestamp::now()).is_some()) {
            due.add(Key::of(&**job));
        }
    });
    loops.add(TtlAfterFinished { world: world.clone() }, queue);
}

struct TtlAfterFinished {
    world: Arc<World>,
}

impl Controller for TtlAfterFinished {
    const NAME: &'static str = "ttl-after-finished-controller";
    const QUEUE: &'static str = "ttl_jobs_to_delete";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(job) = self.world.jobs.by_key(key) else { return Ok(None) };
        match time_left(&job, Timestamp::now()) {
            Some(left) if left.is_zero() => {
                self.world.jobs.delete(&*job, DeleteParams::foreground()).await?;
                Ok(None)
            }
            left => Ok(left),
        }
    }
}

/// How long a finished Job still stays; nothing if it stays for good.
fn time_left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if meta::is_terminating(job) {
        return None;
    }
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let finished = conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), COMPLETE | FAILED) && condition.status == "True"
    })?;
    let since = finished.last_transition_time.as_ref()?;
    Some(Duration::from_secs_f64((f64::from(ttl) - seconds_between(since, now)).max(0.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_finished_jobs_with_a_ttl_go() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let check = |ttl: Value, conditions: Value, expected: Option<u64>| {
            let job: Job = serde_json::from_value(json!({"spec": {"template": {}, "ttlSecondsAfterFinished": ttl}, "status": {"conditions": conditions}})).unwrap();
            assert_eq!(time_left(&job, now), expected.map(Duration::from_secs), "{ttl} {conditions}");
        };
        let done =
            json!([{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        check(json!(null), done.clone(), None);
        check(json!(100), json!([]), None);
        check(
            json!(100),
            json!([{"type": "Suspended", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]),
            None,
        );
        check(json!(100), done.clone(), Some(40));
        check(json!(0), done, Some(0));
    }
}
