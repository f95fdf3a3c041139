//! A webhook: an HTTPS server whose answers the test decides.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::https::Https;

/// What it answers to the `request` of a review.
type Decide = dyn Fn(&Value) -> Decision + Send + Sync;

pub enum Decision {
    /// The members of `response`, besides the uid.
    Answer(Value),
    /// Nothing, ever.
    Silence,
    Garbage,
}

pub fn allowed() -> Decision {
    Decision::Answer(json!({"allowed": true}))
}

pub fn refused(message: &str, code: u16) -> Decision {
    Decision::Answer(json!({"allowed": false, "status": {"message": message, "code": code}}))
}

pub fn patched(patch: &Value) -> Decision {
    let patch = STANDARD.encode(patch.to_string());
    Decision::Answer(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

/// Everything that it has been asked, and where it is.
pub struct Webhook {
    pub port: u16,
    bundle: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Webhook {
    pub async fn start(decide: impl Fn(&Value) -> Decision + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let decide: Arc<Decide> = Arc::new(decide);
        let seen = asked.clone();
        let https = Https::start(move |request| answer(request, decide.clone(), seen.clone())).await;
        let bundle = STANDARD.encode(&https.authority);
        Self { port: https.port, bundle, asked }
    }

    pub fn client_config(&self) -> Value {
        json!({"url": format!("https://127.0.0.1:{}/path", self.port), "caBundle": self.bundle})
    }

    pub fn service_config(&self) -> Value {
        json!({"service": {"namespace": "default", "name": "hook", "path": "/path"}, "caBundle": self.bundle})
    }

    /// The `request` of each review so far.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    decide: Arc<Decide>,
    asked: Arc<Mutex<Vec<Value>>>,
) -> Response<Full<Bytes>> {
    let path = request.uri().to_string();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    assert!(path.starts_with("/path?timeout="), "{path}");
    let known = [("AdmissionReview", "admission.k8s.io/v1"), ("ConversionReview", "apiextensions.k8s.io/v1")];
    assert!(known.iter().any(|(kind, version)| review["kind"] == *kind && review["apiVersion"] == *version));
    asked.lock().push(review["request"].clone());
    let body = match decide(&review["request"]) {
        Decision::Silence => return std::future::pending().await,
        Decision::Garbage => "no JSON".to_owned(),
        Decision::Answer(mut response) => {
            response["uid"] = review["request"]["uid"].clone();
            json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})
                .to_string()
        }
    };
    Response::new(Full::new(body.into()))
}
