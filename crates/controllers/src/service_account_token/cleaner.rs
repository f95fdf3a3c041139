//! Takes away tokens in Secrets that were made without being asked for and have not been used for a year: first they
//! are marked as invalid, a year later deleted.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;

use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World, meta};

/// Set by the API server on each day on which a token is used.
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// Set here; the API server refuses tokens that have it.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const PERIOD: i32 = 365;
/// Days are what is counted; looking more often would find nothing.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let (due, seen) = (queue.clone(), world.clone());
    world.account_tokens.on(move |change| {
        if let Some(secret) = change.new.filter(|secret| is_automatic(&seen, secret)) {
            due.add_after(Key::of(&**secret), Duration::from_secs(60));
        }
    });
    loops.add(Cleaner { world: world.clone() }, queue);
}

/// Only tokens that an account lists, as they were once made for every account, are taken away by age.
fn is_automatic(world: &World, secret: &Secret) -> bool {
    let account = meta::annotation(secret, super::ACCOUNT_NAME)
        .and_then(|name| world.service_accounts.get(meta::namespace(secret), name));
    account.is_some_and(|account| {
        account.secrets.iter().flatten().any(|listed| listed.name == secret.metadata.name)
    })
}

struct Cleaner {
    world: Arc<World>,
}

impl Controller for Cleaner {
    const NAME: &'static str = "legacy-serviceaccount-token-cleaner-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(secret) = self.world.account_tokens.by_key(key) else { return Ok(None) };
        if !is_automatic(&self.world, &secret) || self.is_mounted(&secret) {
            return Ok(Some(AGAIN));
        }
        match verdict(&secret, Timestamp::now()) {
            Verdict::Keep => Ok(Some(AGAIN)),
            Verdict::Invalidate(date) => {
                let patch = json!({"metadata": {"resourceVersion": secret.metadata.resource_version,
                    "labels": {INVALID_SINCE: date.to_string()}}});
                self.world.account_tokens.merge_patch(key, &patch).await?;
                Ok(Some(AGAIN))
            }
            Verdict::Delete => {
                self.world.account_tokens.delete(&*secret, DeleteParams::default()).await?;
                Ok(None)
            }
        }
    }
}

impl Cleaner {
    fn is_mounted(&self, secret: &Secret) -> bool {
        let pods = self.world.pods.by_namespace(meta::namespace(secret));
        pods.iter().any(|pod| {
            let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            volumes
                .filter_map(|volume| volume.secret.as_ref())
                .any(|source| source.secret_name == secret.metadata.name)
        })
    }
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Keep,
    Invalidate(Date),
    Delete,
}

fn verdict(secret: &Secret, now: Timestamp) -> Verdict {
    let label = |label: &str| {
        let date = secret.metadata.labels.as_ref()?.get(label)?;
        date.parse::<Date>().ok()
    };
    let today = now.to_zoned(TimeZone::UTC).date();
    let created = secret.metadata.creation_timestamp.as_ref();
    let created = created.map(|time| time.0.to_zoned(TimeZone::UTC).date());
    let is_old = |date: Date| date.checked_add(PERIOD.days()).is_ok_and(|end| end < today);
    let used = label(LAST_USED).or(created);
    if !used.is_some_and(is_old) || !created.is_some_and(is_old) {
        return Verdict::Keep;
    }
    match label(INVALID_SINCE) {
        None => Verdict::Invalidate(today),
        Some(since) if is_old(since) => Verdict::Delete,
        Some(_) => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn unused_tokens_go_in_two_steps() {
        let check = |labels: Value, expected: Verdict| {
            let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "s", "labels": labels,
                "creationTimestamp": "2020-01-01T00:00:00Z"}}))
            .unwrap();
            assert_eq!(verdict(&secret, "2026-06-01T00:00:00Z".parse().unwrap()), expected, "{labels}");
        };
        let today = Date::constant(2026, 6, 1);
        check(json!({}), Verdict::Invalidate(today));
        check(json!({LAST_USED: "2026-01-01"}), Verdict::Keep);
        check(json!({LAST_USED: "2024-01-01"}), Verdict::Invalidate(today));
        check(json!({LAST_USED: "2024-01-01", INVALID_SINCE: "2026-01-01"}), Verdict::Keep);
        check(json!({LAST_USED: "2024-01-01", INVALID_SINCE: "2025-01-01"}), Verdict::Delete);
        check(json!({LAST_USED: "2026-05-01", INVALID_SINCE: "2025-01-01"}), Verdict::Keep);
    }
}
