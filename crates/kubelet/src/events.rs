//! Events about pods and the node, sent behind the back of whoever records them.
//!
//! The same event again raises the count of the first. A bucket per object keeps a crashing pod from filling the
//! store: 25 at once, then one in five minutes, as upstream.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::mpsc;
use tracing::debug;

use crate::pod::ext::PodExt;

const BURST: f64 = 25.0;
const REFILL: SignedDuration = SignedDuration::from_secs(300);
/// How many different events are remembered for counting.
const REMEMBERED: usize = 4096;

struct Record {
    object: ObjectReference,
    warning: bool,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Records events; cheap to clone. Never waits: when the API server is far behind, events are dropped.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Record>,
}

impl Recorder {
    /// Starts the task that sends; it ends with the last recorder.
    pub fn start(client: kube::Client, node_name: String) -> Self {
        let (sender, receiver) = mpsc::channel(4096);
        tokio::spawn(send(client, node_name, receiver));
        Self { sender }
    }

    pub fn normal(&self, pod: &Pod, container: Option<&str>, reason: &str, message: &str) {
        self.record(pod_reference(pod, container), false, reason, message);
    }

    pub fn warning(&self, pod: &Pod, container: Option<&str>, reason: &str, message: &str) {
        self.record(pod_reference(pod, container), true, reason, message);
    }

    pub fn node(&self, node_name: &str, warning: bool, reason: &str, message: &str) {
        let object = ObjectReference {
            kind: Some(<Node as k8s_openapi::Resource>::KIND.into()),
            name: Some(node_name.to_owned()),
            uid: Some(node_name.to_owned()),
            ..Default::default()
        };
        self.record(object, warning, reason, message);
    }

    fn record(&self, object: ObjectReference, warning: bool, reason: &str, message: &str) {
        let record = Record {
            object,
            warning,
            reason: reason.to_owned(),
            message: message.chars().take(1024).collect(),
            at: Timestamp::now(),
        };
        if self.sender.try_send(record).is_err() {
            debug!(reason, "event dropped: the queue is full");
        }
    }
}

fn pod_reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let spec = pod.pod_spec();
    let is = |name: &str| Some(name) == container;
    let place = |list: &str| container.map(|name| format!("spec.{list}{{{name}}}"));
    let field_path = if spec.init_containers.iter().flatten().any(|container| is(&container.name)) {
        place("initContainers")
    } else if spec.ephemeral_containers.iter().flatten().any(|container| is(&container.name)) {
        place("ephemeralContainers")
    } else {
        place("containers")
    };
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.namespace().to_owned()),
        name: Some(pod.name().to_owned()),
        uid: Some(pod.uid().to_owned()),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

/// What makes two events the same.
type Key = (String, String, String, String);

struct Sent {
    name: String,
    count: i32,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

impl Bucket {
    fn take(&mut self, now: Timestamp) -> bool {
        let refilled = now.duration_since(self.at).as_secs_f64() / REFILL.as_secs_f64();
        self.tokens = (self.tokens + refilled).min(BURST);
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

async fn send(client: kube::Client, node_name: String, mut records: mpsc::Receiver<Record>) {
    let mut sent: HashMap<Key, Sent> = HashMap::new();
    let mut buckets: HashMap<String, Bucket> = HashMap::new();
    while let Some(record) = records.recv().await {
        let uid = record.object.uid.clone().unwrap_or_default();
        if buckets.len() > REMEMBERED {
            buckets.clear();
        }
        let bucket = buckets.entry(uid.clone()).or_insert(Bucket { tokens: BURST, at: record.at });
        if !bucket.take(record.at) {
            continue;
        }
        if sent.len() > REMEMBERED {
            sent.clear();
        }
        let field = record.object.field_path.clone().unwrap_or_default();
        let key = (uid, field, record.reason.clone(), record.message.clone());
        let namespace = record.object.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        if let Some(known) = sent.get_mut(&key) {
            known.count += 1;
            let patch = serde_json::json!({"count": known.count, "lastTimestamp": Time(record.at)});
            match api.patch(&known.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(_) => continue,
                // Expired meanwhile: begin anew.
                Err(error) => debug!(%error, "cannot count an event"),
            }
        }
        let event = event(&record, &namespace, &node_name);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => drop(sent.insert(key, Sent { name, count: 1 })),
            Err(error) => debug!(%error, reason = record.reason, "cannot record an event"),
        }
    }
}

fn event(record: &Record, namespace: &str, node_name: &str) -> Event {
    let object = record.object.name.as_deref().unwrap_or_default();
    let unique = record.at.as_nanosecond();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{unique:x}")),
            namespace: Some(namespace.to_owned()),
            ..Default::default()
        },
        involved_object: record.object.clone(),
        reason: Some(record.reason.clone()),
        message: Some(record.message.clone()),
        type_: Some(if record.warning { "Warning" } else { "Normal" }.into()),
        count: Some(1),
        first_timestamp: Some(Time(record.at)),
        last_timestamp: Some(Time(record.at)),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node_name.to_owned()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node_name.to_owned()),
        ..Default::default()
    }
}
