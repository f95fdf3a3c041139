//! Audit: who did what, when, with which outcome; by policy, to a file and to a webhook.
//!
//! The pipeline opens a [`Trail`] for each request that the policy wants recorded. Handlers and admission add what
//! they know through [`annotate`] and [`requested`], which find the trail of the task they run in. Events go to the
//! backends through bounded queues ([`sink`]): no request waits for them but in the blocking modes.

mod body;
mod log;
pub mod options;
pub mod policy;
mod sink;
mod trail;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use api::status::Status;
use bytes::Bytes;
use exposition::{Page, float};
use http::header::CONTENT_TYPE;
use http_body_util::BodyDataStream;
use tracing::error;

use crate::UserInfo;
use crate::outbound::client::Client;
use crate::request::RequestInfo;
use crate::server::body::ResponseBody;
use crate::server::respond::Answer;
use options::AuditOptions;
use policy::{Level, Policy, Stage};
use sink::Sink;
pub use trail::{Ending, Origin, Trail, annotate, following, impersonated, requested};

/// Auditing was asked for and is not possible.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Policy(#[from] policy::PolicyError),
    #[error("cannot write the audit log {path}: {source}")]
    Log { path: String, source: std::io::Error },
    #[error("audit webhook: {0}")]
    Webhook(#[from] crate::outbound::client::ClientError),
}

/// The auditing of one server.
pub struct Audit {
    policy: Policy,
    sinks: Vec<Sink>,
    events: AtomicU64,
    rejected: AtomicU64,
    levels: [AtomicU64; 4],
}

impl Audit {
    /// None where no policy or no backend is given: then nothing is recorded.
    pub fn start(options: &AuditOptions) -> Result<Option<Arc<Self>>, AuditError> {
        let Some(path) = &options.policy_file else {
            return Ok(None);
        };
        let policy = Policy::load(path)?;
        let mut sinks = Vec::new();
        if let Some(options) = &options.log {
            let (sink, queue) = Sink::new("log", options.mode, options.batching.buffer);
            log::start(options, queue)
                .map_err(|source| AuditError::Log { path: options.path.display().to_string(), source })?;
            sinks.push(sink);
        }
        if let Some(options) = &options.webhook {
            let client = Client::from_kubeconfig(&options.kubeconfig)?;
            let (sink, queue) = Sink::new("webhook", options.mode, options.batching.buffer);
            tokio::spawn(webhook::run(client, options.clone(), queue, sink.lost.clone()));
            sinks.push(sink);
        }
        if sinks.is_empty() {
            return Ok(None);
        }
        let (events, rejected) = Default::default();
        Ok(Some(Arc::new(Self { policy, sinks, events, rejected, levels: Default::default() })))
    }

    /// Begins to record a request, if the policy says so.
    pub fn open(
        self: &Arc<Self>,
        info: &RequestInfo,
        user: Option<&UserInfo>,
        origin: &Origin<'_>,
    ) -> Option<Arc<Trail>> {
        let verdict = self.policy.judge(info, user);
        if let Some(count) = self.levels.get(verdict.level as usize) {
            count.fetch_add(1, Relaxed);
        }
        (verdict.level > Level::None).then(|| Trail::new(self.clone(), verdict, info, user, origin))
    }

    /// Hands an event to every backend.
    async fn send(&self, event: Bytes) -> Result<(), Status> {
        self.events.fetch_add(1, Relaxed);
        let mut good = true;
        for sink in &self.sinks {
            good &= sink.send(event.clone()).await || !sink.is_strict();
        }
        match good {
            true => Ok(()),
            false => {
                self.rejected.fetch_add(1, Relaxed);
                Err(Status::internal(
                    "audit of the request could not be written, which blocking-strict mode demands",
                ))
            }
        }
    }

    fn send_without_waiting(&self, event: Bytes) {
        self.events.fetch_add(1, Relaxed);
        for sink in &self.sinks {
            sink.send_without_waiting(event.clone());
        }
    }

    pub fn write_metrics(&self, page: &mut Page) {
        let name = "apiserver_audit_event_total";
        page.family(name, "counter", "Counter of audit events generated and sent to the audit backend.");
        page.sample(name, &[], float(self.events.load(Relaxed)));
        let name = "apiserver_audit_requests_rejected_total";
        let help = "Counter of apiserver requests rejected due to an error in audit logging backend.";
        page.family(name, "counter", help);
        page.sample(name, &[], float(self.rejected.load(Relaxed)));
        let name = "apiserver_audit_error_total";
        page.family(name, "counter", "Counter of audit events that failed to be audited properly.");
        for sink in &self.sinks {
            page.sample(name, &[("plugin", sink.name)], float(sink.lost.load(Relaxed)));
        }
        let name = "apiserver_audit_level_total";
        page.family(name, "counter", "Counter of policy levels for audit events (1 per request).");
        let levels = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];
        for (level, count) in levels.into_iter().zip(&self.levels) {
            page.sample(name, &[("level", level.as_str())], float(count.load(Relaxed)));
        }
    }
}

impl Trail {
    /// The request has arrived. An error is to be answered instead of it.
    pub async fn received(&self) -> Result<(), Status> {
        match self.event(Stage::RequestReceived, None) {
            Some(event) => self.audit.send(event.into()).await,
            None => Ok(()),
        }
    }

    /// The request is about to be answered; `failure` is the Status of one that failed.
    pub async fn answered(
        self: &Arc<Self>,
        mut answer: Answer,
        failure: Option<&Status>,
        long_running: bool,
    ) -> Answer {
        let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let mut ending = Ending {
            status: failure.map(|status| {
                let mut value = status.to_value();
                // As upstream shows it: neither what it is nor what is in it.
                if let Some(fields) = value.as_object_mut() {
                    fields.retain(|key, _| key != "kind" && key != "apiVersion");
                }
                value
            }),
            code: answer.status().as_u16(),
            object: None,
        };
        if long_running && let Some(event) = self.event(Stage::ResponseStarted, Some(&ending)) {
            self.sent(event).await;
        }
        if let ResponseBody::Pieces(pieces) = answer.body() {
            if self.level() >= Level::RequestResponse {
                let whole: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
                ending.object = body::object(&content_type, &whole);
            }
            if let Some(event) = self.event(Stage::ResponseComplete, Some(&ending)) {
                self.sent(event).await;
            }
            return answer;
        }
        let inner = std::mem::replace(answer.body_mut(), ResponseBody::empty());
        let length = match &inner {
            ResponseBody::Stream(_, length) => Some(*length),
            _ => None,
        };
        let recorded = body::Recorded::new(inner, self.clone(), ending, content_type, !long_running);
        *answer.body_mut() = match length {
            Some(length) => ResponseBody::Stream(Box::pin(BodyDataStream::new(recorded)), length),
            None => ResponseBody::relayed(recorded),
        };
        answer
    }

    /// The handler has panicked.
    pub async fn panicked(&self, code: u16) {
        let ending = Ending { code, ..Ending::default() };
        if let Some(event) = self.event(Stage::Panic, Some(&ending)) {
            self.sent(event).await;
        }
    }

    async fn sent(&self, event: Vec<u8>) {
        // The request has been worked on: strict or not, there is nothing to be refused any more.
        if self.audit.send(event.into()).await.is_err() {
            error!("the audit event of a request's end was lost");
        }
    }
}
