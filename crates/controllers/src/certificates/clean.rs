//! Removes requests that are no longer of use: an hour after they were decided, a day after they were made, and those
//! whose certificate has expired, which are at least an hour old then: who made one may still look at it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::DeleteParams;
use x509_parser::pem::parse_x509_pem;

use super::{APPROVED, DENIED, FAILED, certificate, condition};
use crate::Loops;
use crate::kit::{Controller, Key, Queue, SyncError, World};

const DECIDED: Duration = Duration::from_secs(3600);
const PENDING: Duration = Duration::from_secs(24 * 3600);

pub fn start(world: &Arc<World>, loops: &mut Loops) {
    let queue = Queue::default();
    let due = queue.clone();
    world.certificate_signing_requests.on(move |change| {
        if let Some(csr) = change.new {
            due.add(Key::of(&**csr));
        }
    });
    loops.add(Cleaner { world: world.clone() }, queue);
}

struct Cleaner {
    world: Arc<World>,
}

impl Controller for Cleaner {
    const NAME: &'static str = "certificatesigningrequest-cleaner-controller";

    async fn sync(&self, key: &Key) -> Result<Option<Duration>, SyncError> {
        let Some(csr) = self.world.certificate_signing_requests.by_key(key) else { return Ok(None) };
        let left = time_left(&csr, Timestamp::now());
        if left.is_zero() {
            self.world.certificate_signing_requests.delete(&*csr, DeleteParams::default()).await?;
            return Ok(None);
        }
        Ok(Some(left))
    }
}

/// How long a request stays.
fn time_left(csr: &CertificateSigningRequest, now: Timestamp) -> Duration {
    let since = |time: Option<Timestamp>| {
        let passed = time.map(|time| now.duration_since(time)).unwrap_or_default();
        Duration::try_from(passed).unwrap_or_default()
    };
    let age = since(csr.metadata.creation_timestamp.as_ref().map(|time| time.0));
    if expiry(csr).is_some_and(|expiry| expiry <= now) {
        return DECIDED.saturating_sub(age);
    }
    let decided = [APPROVED, DENIED, FAILED].iter().filter_map(|type_| condition(csr, type_));
    let decided =
        decided.filter_map(|condition| condition.last_update_time.as_ref()).map(|time| time.0).min();
    if decided.is_some() {
        return DECIDED.saturating_sub(since(decided));
    }
    PENDING.saturating_sub(age)
}

fn expiry(csr: &CertificateSigningRequest) -> Option<Timestamp> {
    let (_, pem) = parse_x509_pem(certificate(csr)?).ok()?;
    let parsed = pem.parse_x509().ok()?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn requests_stay_for_a_while() {
        let check = |conditions: Value, left: u64| {
            let csr: CertificateSigningRequest = serde_json::from_value(json!({
                "metadata": {"name": "c", "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"request": "", "signerName": "x"}, "status": {"conditions": conditions}}))
            .unwrap();
            let now = "2026-01-01T00:30:00Z".parse().unwrap();
            assert_eq!(time_left(&csr, now).as_secs(), left, "{conditions}");
        };
        let told =
            |type_: &str, time: &str| json!([{"type": type_, "status": "True", "lastUpdateTime": time}]);
        check(json!([]), 23 * 3600 + 1800);
        check(told(APPROVED, "2026-01-01T00:10:00Z"), 2400);
        check(told(DENIED, "2025-12-31T23:00:00Z"), 0);
        check(told("Other", "2025-12-31T23:00:00Z"), 23 * 3600 + 1800);
    }
}
