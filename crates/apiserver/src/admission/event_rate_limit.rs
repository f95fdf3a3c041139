//! EventRateLimit: so many events a second, of the whole server, of a namespace, of a user, or of a source about an
//! object.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use api::status::Status;
use parking_lot::Mutex;
use serde_json::Value;

use super::objects::items;
use super::{AdmissionRequest, Operation};

/// Keys that a limit remembers without a `cacheSize`.
const CACHE: usize = 4096;
/// More are not remembered, whatever is asked for.
const MOST: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

const SCOPES: [(&str, Scope); 4] = [
    ("Server", Scope::Server),
    ("Namespace", Scope::Namespace),
    ("User", Scope::User),
    ("SourceAndObject", Scope::SourceAndObject),
];

/// Tokens that are left, and when they were counted.
struct Bucket {
    tokens: f64,
    at: Instant,
}

struct Limit {
    name: &'static str,
    scope: Scope,
    per_second: f64,
    burst: f64,
    cache: usize,
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// All limits; none limits nothing.
#[derive(Default)]
pub struct EventRateLimit(Vec<Limit>);

impl EventRateLimit {
    pub fn read(config: &Value) -> Result<Self, String> {
        let limits: Vec<Limit> = items(&config["limits"])
            .enumerate()
            .map(|(index, limit)| Limit::read(limit).map_err(|why| format!("limits[{index}].{why}")))
            .collect::<Result<_, _>>()?;
        if limits.is_empty() {
            return Err("limits must not be empty".to_owned());
        }
        Ok(Self(limits))
    }

    pub fn validate(&self, request: &AdmissionRequest<'_>, now: Instant) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        let events = request.is("", "events") || request.is("events.k8s.io", "events");
        if !writes || !events || request.dry_run {
            return Ok(());
        }
        // Each counts what comes, also what another one refuses.
        let mut refused = Vec::new();
        for limit in &self.0 {
            let key = limit.scope.key(request);
            if !limit.take(&key, now) {
                refused.push(format!("limit reached on type {} for key {key}", limit.name));
            }
        }
        match refused.as_slice() {
            [] => Ok(()),
            [one] => Err(Status::too_many_requests(one, 1)),
            many => Err(Status::too_many_requests(format!("[{}]", many.join(", ")), 1)),
        }
    }
}

impl Scope {
    fn key(self, request: &AdmissionRequest<'_>) -> String {
        match self {
            Self::Server => String::new(),
            Self::Namespace => request.namespace.to_owned(),
            Self::User => request.user.name.clone(),
            Self::SourceAndObject => {
                let event = &request.object;
                let either = |a: &str, b: &str| {
                    let text = |field: &str| event.pointer(field).and_then(Value::as_str).unwrap_or_default();
                    if text(a).is_empty() { text(b).to_owned() } else { text(a).to_owned() }
                };
                let source = ["component", "host"]
                    .map(|field| either(&format!("/source/{field}"), &format!("/deprecatedSource/{field}")));
                let object = ["kind", "namespace", "name", "uid", "apiVersion"]
                    .map(|field| either(&format!("/involvedObject/{field}"), &format!("/regarding/{field}")));
                source.concat() + &object.concat()
            }
        }
    }
}

impl Limit {
    fn read(limit: &Value) -> Result<Self, String> {
        let kind = limit["type"].as_str().unwrap_or_default();
        let Some((name, scope)) = SCOPES.into_iter().find(|(name, _)| *name == kind) else {
            let known = SCOPES.map(|(name, _)| name).join(", ");
            return Err(format!("type: {kind:?} is none of {known}"));
        };
        let positive = |field: &str| match limit[field].as_u64() {
            Some(number) if number > 0 => Ok(number),
            _ => Err(format!("{field}: must be positive")),
        };
        let cache = limit["cacheSize"].as_u64().filter(|size| *size > 0);
        Ok(Self {
            name,
            scope,
            per_second: positive("qps")? as f64,
            burst: positive("burst")? as f64,
            cache: cache.and_then(|size| usize::try_from(size).ok()).unwrap_or(CACHE).min(MOST),
            buckets: Mutex::default(),
        })
    }

    /// Whether there is a token left for this key.
    fn take(&self, key: &str, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        if !buckets.contains_key(key) && buckets.len() >= self.cache {
            // What has had no event for long enough is as good as new; else the one that is nearest to it goes.
            let full = Duration::from_secs_f64(self.burst / self.per_second);
            buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < full);
            if buckets.len() >= self.cache {
                let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
                oldest.map(|key| buckets.remove(&key));
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket { tokens: self.burst, at: now });
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        bucket.tokens = (bucket.tokens + gained).min(self.burst);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Case;
    use super::*;

    fn event(namespace: &str, about: &str) -> Case {
        let metadata = json!({"name": "e", "namespace": namespace});
        Case::create("", "events", json!({"metadata": metadata, "involvedObject": {"name": about}}))
    }

    #[test]
    fn each_limit_counts_by_its_own_key() {
        let limits = json!({"limits": [
            {"type": "Namespace", "qps": 1, "burst": 2, "cacheSize": 2},
            {"type": "SourceAndObject", "qps": 1, "burst": 1},
        ]});
        let plugin = EventRateLimit::read(&limits).unwrap();
        let start = Instant::now();
        let at = |seconds: u64, case: Case| {
            case.refusal(|request| plugin.validate(request, start + Duration::from_secs(seconds)))
        };
        assert_eq!(at(0, event("a", "one")), "");
        assert_eq!(at(0, event("a", "one")), "limit reached on type SourceAndObject for key one");
        assert_eq!(at(0, event("b", "two")), "");
        assert_eq!(at(0, event("a", "three")), "limit reached on type Namespace for key a");
        // Tokens come back with time.
        assert_eq!(at(1, event("a", "one")), "");
        // A third namespace: the one that has waited longest is forgotten.
        assert_eq!(at(1, event("c", "four")), "");
        assert_eq!(plugin.0[0].buckets.lock().len(), 2);
        let other = Case::create("", "pods", json!({"metadata": {"name": "p", "namespace": "a"}}));
        assert_eq!(at(1, other), "");
        let mut newer = event("a", "five");
        newer.resource.group = "events.k8s.io".to_owned();
        newer.object = json!({"regarding": {"name": "five"}});
        assert_eq!(at(1, newer), "limit reached on type Namespace for key a");
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        let read = |limit: Value| EventRateLimit::read(&json!({"limits": [limit]})).map(drop);
        assert_eq!(
            read(json!({"type": "User", "qps": 0, "burst": 1})),
            Err("limits[0].qps: must be positive".into())
        );
        assert_eq!(read(json!({"type": "User", "qps": 1})), Err("limits[0].burst: must be positive".into()));
    }
}
