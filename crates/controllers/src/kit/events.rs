//! Events: what controllers tell users about their objects (`kubectl describe`).
//!
//! Recording never waits: events go through a bounded channel to one task. Equal events become one with a
//! count; many similar ones (another message for the same object and reason) become one that says so, as
//! upstream's correlator does.

use std::collections::{HashMap, HashSet};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

/// Events that are waiting; more are dropped, for they are only words.
const CHANNEL: usize = 4096;
/// Similar events beyond this number are told as one.
const SIMILAR: usize = 10;
/// Events further apart than this have nothing to do with each other.
const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// What the correlator remembers at most.
const MEMORY: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    Normal,
    Warning,
}

#[derive(Clone, Debug)]
struct Record {
    component: &'static str,
    regarding: ObjectReference,
    type_: Type,
    reason: String,
    message: String,
}

/// Clones share the task.
#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Record>);

impl Recorder {
    /// Starts the recording task; it ends with the last recorder.
    pub fn start(client: kube::Client) -> Self {
        let (sender, mut records) = mpsc::channel(CHANNEL);
        tokio::spawn(async move {
            let mut correlator = Correlator::default();
            while let Some(record) = records.recv().await {
                publish(&client, correlator.correlate(record, Timestamp::now())).await;
            }
        });
        Self(sender)
    }

    pub fn normal<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(component, object.object_ref(&()), Type::Normal, reason, message.into());
    }

    pub fn warning<K: Resource<DynamicType = ()>>(
        &self,
        component: &'static str,
        object: &K,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(component, object.object_ref(&()), Type::Warning, reason, message.into());
    }

    /// About an object of a kind that is only known by name.
    pub fn warning_of(
        &self,
        component: &'static str,
        object: ObjectReference,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(component, object, Type::Warning, reason, message.into());
    }

    fn record(
        &self,
        component: &'static str,
        regarding: ObjectReference,
        type_: Type,
        reason: &str,
        message: String,
    ) {
        let record = Record { component, regarding, type_, reason: reason.to_owned(), message };
        if self.0.try_send(record).is_err() {
            debug!(reason, "too many events are waiting, one is dropped");
        }
    }
}

async fn publish(client: &kube::Client, outcome: Outcome) {
    let (namespace, result) = match outcome {
        Outcome::Create(event) => {
            let namespace = event.metadata.namespace.clone().unwrap_or_default();
            let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
            (namespace, api.create(&PostParams::default(), &event).await)
        }
        Outcome::Count { namespace, name, count, last, message } => {
            let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
            let patch = json!({"count": count, "lastTimestamp": last, "message": message});
            let result = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            (namespace, result)
        }
    };
    if let Err(error) = result {
        debug!(%error, namespace, "event is lost");
    }
}

#[derive(Debug)]
enum Outcome {
    Create(Box<Event>),
    Count { namespace: String, name: String, count: i32, last: Time, message: String },
}

type SimilarKey = (String, &'static str, Type, String);

/// Decides which events become one. Free of IO.
#[derive(Default)]
struct Correlator {
    /// Messages seen for the same object and reason, since when.
    similar: HashMap<SimilarKey, (HashSet<String>, Timestamp)>,
    /// The event that stands for a message: its name, count and last time.
    told: HashMap<(SimilarKey, String), (String, i32, Timestamp)>,
}

impl Correlator {
    fn correlate(&mut self, record: Record, now: Timestamp) -> Outcome {
        if self.told.len() > MEMORY || self.similar.len() > MEMORY {
            self.similar.clear();
            self.told.clear();
        }
        let object = record.regarding.uid.clone().unwrap_or_default();
        let similar_key = (object, record.component, record.type_, record.reason.clone());
        let (messages, since) =
            self.similar.entry(similar_key.clone()).or_insert_with(|| (HashSet::new(), now));
        if now.duration_since(*since) > WINDOW {
            messages.clear();
        }
        *since = now;
        let (identity, message) = if messages.len() >= SIMILAR && !messages.contains(&record.message) {
            ("(combined)".to_owned(), format!("(combined from similar events): {}", record.message))
        } else {
            messages.insert(record.message.clone());
            (record.message.clone(), record.message.clone())
        };

        let namespace = record.regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let told_key = (similar_key, identity);
        if let Some((name, count, last)) = self.told.get_mut(&told_key)
            && now.duration_since(*last) <= WINDOW
        {
            *count = count.saturating_add(1);
            *last = now;
            return Outcome::Count {
                namespace,
                name: name.clone(),
                count: *count,
                last: whole_seconds(now),
                message,
            };
        }
        let event = new_event(&record, namespace, message, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        self.told.insert(told_key, (name, 1, now));
        Outcome::Create(Box::new(event))
    }
}

fn new_event(record: &Record, namespace: String, message: String, now: Timestamp) -> Event {
    let time = whole_seconds(now);
    let object = record.regarding.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace),
            ..Default::default()
        },
        involved_object: record.regarding.clone(),
        type_: Some(format!("{:?}", record.type_)),
        reason: Some(record.reason.clone()),
        message: Some(message),
        count: Some(1),
        first_timestamp: Some(time.clone()),
        last_timestamp: Some(time),
        source: Some(EventSource { component: Some(record.component.to_owned()), host: None }),
        reporting_component: Some(record.component.to_owned()),
        ..Default::default()
    }
}

fn whole_seconds(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(message: &str) -> Record {
        Record {
            component: "c",
            regarding: ObjectReference {
                uid: Some("u".into()),
                name: Some("web".into()),
                namespace: Some("ns".into()),
                ..Default::default()
            },
            type_: Type::Normal,
            reason: "R".into(),
            message: message.into(),
        }
    }

    #[test]
    fn equal_events_are_counted() {
        let mut correlator = Correlator::default();
        let now = Timestamp::from_second(1_000_000).unwrap();
        let Outcome::Create(event) = correlator.correlate(record("a"), now) else {
            panic!("the first is created");
        };
        assert_eq!(event.type_.as_deref(), Some("Normal"));
        let Outcome::Count { name, count, .. } = correlator.correlate(record("a"), now) else {
            panic!("the second is counted");
        };
        assert_eq!((Some(name), count), (event.metadata.name, 2));
        let later = now + SignedDuration::from_mins(11);
        assert!(matches!(correlator.correlate(record("a"), later), Outcome::Create(_)));
    }

    #[test]
    fn many_similar_events_become_one() {
        let mut correlator = Correlator::default();
        let now = Timestamp::from_second(1_000_000).unwrap();
        let mut created = 0;
        let mut combined = String::new();
        for n in 0..50 {
            match correlator.correlate(record(&format!("m{n}")), now) {
                Outcome::Create(_) => created += 1,
                Outcome::Count { message, .. } => combined = message,
            }
        }
        assert_eq!(created, SIMILAR + 1);
        assert_eq!(combined, "(combined from similar events): m49");
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        let now = Timestamp::from_second(1_000_000).unwrap();
        for n in 0..3 * MEMORY {
            let mut record = record("m");
            record.regarding.uid = Some(n.to_string());
            correlator.correlate(record, now);
        }
        assert!(correlator.told.len() <= MEMORY + 1);
    }
}
