//! Since when endpoints should be as they are: the time of the change that a Service's endpoints follow, by which it is
//! measured how long that takes. Free of IO.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use std::sync::Arc;

use crate::kit::{Key, meta, pods};

pub const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was seen of each Service when its endpoints were last written.
#[derive(Default)]
pub struct Triggers(Mutex<HashMap<Key, Seen>>);

#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

impl Triggers {
    /// The earliest change since the last call, as the annotation spells it.
    pub fn next(&self, service: &Service, pods: &[Arc<Pod>]) -> Option<String> {
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let of_pods = pods.iter().filter_map(|pod| {
            let ready = pods::condition(pod, "Ready")?.last_transition_time.as_ref()?.0;
            Some((meta::name(&**pod).to_owned(), ready))
        });
        let now = Seen { service: created, pods: of_pods.collect() };
        let mut all = self.0.lock();
        let before = all.entry(Key::of(service)).or_default();
        let new_pods = now.pods.iter().filter(|(name, time)| before.pods.get(*name) != Some(time));
        let new_pods = new_pods.map(|(_, time)| *time).min();
        let new_service = created.filter(|_| before.service != created);
        *before = now;
        new_service.into_iter().chain(new_pods).min().map(|time| time.to_string())
    }

    pub fn forget(&self, service: &Key) {
        self.0.lock().remove(service);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_earliest_news_counts_once() {
        let service: Service = serde_json::from_value(
            json!({"metadata": {"name": "s", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"}}),
        )
        .unwrap();
        let pod = |name: &str, second: u8| -> Arc<Pod> {
            Arc::new(
                serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": format!("2026-01-01T00:00:{second:02}Z")}]}}))
                .unwrap(),
            )
        };
        let triggers = Triggers::default();
        let check = |pods: &[Arc<Pod>], expected: Option<&str>| {
            assert_eq!(triggers.next(&service, pods).as_deref(), expected);
        };
        check(&[pod("a", 5)], Some("2026-01-01T00:00:00Z"));
        check(&[pod("a", 5)], None);
        check(&[pod("a", 9), pod("b", 7)], Some("2026-01-01T00:00:07Z"));
        check(&[pod("b", 7)], None);
        triggers.forget(&Key::of(&service));
        check(&[], Some("2026-01-01T00:00:00Z"));
    }
}
