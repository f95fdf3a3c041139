//! What is recorded of one request while it is worked on, and the events that come of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use http::header::USER_AGENT;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::Audit;
use super::policy::{Level, Stage, Verdict};
use crate::UserInfo;
use crate::access_review::user_info;
use crate::request::RequestInfo;

tokio::task_local! {
    /// The trail of the request that this task works on, if it is recorded.
    static CURRENT: Arc<Trail>;
}

/// Runs the handling of a request so that [`annotate`] and its kin find its trail.
pub async fn following<F: Future>(trail: Option<Arc<Trail>>, work: F) -> F::Output {
    match trail {
        Some(trail) => CURRENT.scope(trail, work).await,
        None => work.await,
    }
}

/// Adds an annotation to the audit events of the current request. The first of a key stays, as upstream's.
///
/// For admission: keys are qualified with the plugin's name, such as `pod-security.kubernetes.io/enforce-policy`.
pub fn annotate(key: &str, value: impl Into<String>) {
    with(|trail| {
        trail.recorded.lock().annotations.entry(key.to_owned()).or_insert_with(|| value.into());
    });
}

/// The object, or the patch, that the current request has sent.
pub fn requested(object: &Value) {
    with(|trail| {
        let recorded = &mut *trail.recorded.lock();
        let metadata = &object["metadata"];
        for (field, place) in [
            ("name", &mut recorded.name),
            ("namespace", &mut recorded.namespace),
            ("uid", &mut recorded.uid),
            ("resourceVersion", &mut recorded.version),
        ] {
            if place.is_empty() {
                *place = metadata[field].as_str().unwrap_or_default().to_owned();
            }
        }
        if trail.verdict.level >= Level::Request {
            recorded.request = Some(trail.shown(object));
        }
    });
}

/// That the current request is made in the name of somebody else.
pub fn impersonated(user: &UserInfo) {
    with(|trail| trail.recorded.lock().impersonated = Some(user_info(user)));
}

fn with(change: impl FnOnce(&Trail)) {
    // Outside of any request, and for those that are not recorded, there is nothing to do.
    let _ = CURRENT.try_with(|trail| change(trail));
}

/// One request on its way.
pub struct Trail {
    pub audit: Arc<Audit>,
    verdict: Verdict,
    /// What every event of it says.
    common: Map<String, Value>,
    object: Option<Map<String, Value>>,
    recorded: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    annotations: BTreeMap<String, String>,
    impersonated: Option<Value>,
    request: Option<Value>,
    name: String,
    namespace: String,
    uid: String,
    version: String,
}

/// Where a request came from.
pub struct Origin<'a> {
    pub audit_id: &'a str,
    pub uri: String,
    pub headers: &'a HeaderMap,
    pub peer: Option<IpAddr>,
    pub received: Timestamp,
}

/// How a request ended.
#[derive(Default)]
pub struct Ending {
    /// The Status, where it failed.
    pub status: Option<Value>,
    pub code: u16,
    pub object: Option<Value>,
}

impl Trail {
    pub fn new(
        audit: Arc<Audit>,
        verdict: Verdict,
        info: &RequestInfo,
        user: Option<&UserInfo>,
        origin: &Origin<'_>,
    ) -> Arc<Self> {
        let mut common = Map::new();
        let mut put = |key: &str, value: Value| {
            common.insert(key.to_owned(), value);
        };
        put("kind", json!("Event"));
        put("apiVersion", json!("audit.k8s.io/v1"));
        put("level", json!(verdict.level.as_str()));
        put("auditID", json!(origin.audit_id));
        put("requestURI", json!(origin.uri));
        put("verb", json!(info.verb));
        put("user", user.map_or_else(|| json!({}), user_info));
        put("sourceIPs", json!(sources(origin)));
        if let Some(agent) = origin.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()) {
            // As upstream: more than that helps nobody.
            put("userAgent", json!(agent.chars().take(1024).collect::<String>()));
        }
        put("requestReceivedTimestamp", json!(micros(origin.received)));
        let object = info.is_resource.then(|| {
            let fields = [
                ("resource", &info.resource),
                ("namespace", &info.namespace),
                ("name", &info.name),
                ("apiGroup", &info.group),
                ("apiVersion", &info.version),
                ("subresource", &info.subresource),
            ];
            let given = fields.into_iter().filter(|(_, value)| !value.is_empty());
            given.map(|(key, value)| (key.to_owned(), json!(value))).collect()
        });
        Arc::new(Self { audit, verdict, common, object, recorded: Mutex::default() })
    }

    pub fn level(&self) -> Level {
        self.verdict.level
    }

    /// The event of a stage as a line of JSON, unless the policy leaves that stage out.
    pub fn event(&self, stage: Stage, ending: Option<&Ending>) -> Option<Vec<u8>> {
        if self.verdict.omit_stages.contains(&stage) {
            return None;
        }
        let mut event = self.common.clone();
        let mut put = |key: &str, value: Value| {
            event.insert(key.to_owned(), value);
        };
        put("stage", json!(stage.as_str()));
        put("stageTimestamp", json!(micros(Timestamp::now())));
        let recorded = self.recorded.lock();
        if let Some(object) = &self.object {
            let mut object = object.clone();
            for (key, value) in [
                ("name", &recorded.name),
                ("namespace", &recorded.namespace),
                ("uid", &recorded.uid),
                ("resourceVersion", &recorded.version),
            ] {
                if !value.is_empty() {
                    object.entry(key).or_insert_with(|| json!(value));
                }
            }
            put("objectRef", Value::Object(object));
        }
        if let Some(user) = &recorded.impersonated {
            put("impersonatedUser", user.clone());
        }
        if let Some(request) = &recorded.request {
            put("requestObject", request.clone());
        }
        if !recorded.annotations.is_empty() {
            put("annotations", json!(recorded.annotations));
        }
        drop(recorded);
        if let Some(ending) = ending {
            put(
                "responseStatus",
                ending.status.clone().unwrap_or_else(|| json!({"metadata": {}, "code": ending.code})),
            );
            if let Some(object) =
                ending.object.as_ref().filter(|_| self.verdict.level >= Level::RequestResponse)
            {
                put("responseObject", self.shown(object));
            }
        }
        // Maps with string keys: cannot fail.
        serde_json::to_vec(&event).ok()
    }

    /// The object as the policy wants it shown.
    fn shown(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if self.verdict.omit_managed_fields {
            strip(&mut object);
            for item in object["items"].as_array_mut().into_iter().flatten() {
                strip(item);
            }
        }
        object
    }
}

fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// The addresses on the way here, the client's own first. Headers can say anything.
fn sources(origin: &Origin<'_>) -> Vec<String> {
    let header =
        |name: &str| origin.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let forwarded = header("x-forwarded-for").split(',').chain([header("x-real-ip")]);
    let mut sources: Vec<IpAddr> =
        forwarded.filter_map(|address| address.trim().parse().ok()).take(16).collect();
    // Callers in this process have no address of their own.
    let peer = origin.peer.unwrap_or(IpAddr::from([127, 0, 0, 1])).to_canonical();
    if sources.last() != Some(&peer) {
        sources.push(peer);
    }
    sources.iter().map(IpAddr::to_string).collect()
}

fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
