//! An authorizer outside: asked with a SubjectAccessReview, and remembered.

use std::time::Duration;

use expressions::{Bindings, Budget, Environment, Program, Type, Value as Cel, budget};
use serde_json::{Value, json};

use crate::authn::remembered::{self, Remembered};
use crate::outbound::client::{Client, ClientError};
use crate::request::Attributes;

const ATTEMPTS: u32 = 4;

/// What a webhook says.
#[derive(Clone, Debug)]
pub enum Opinion {
    Allow(String),
    Deny(String),
    None(String),
}

/// How to ask, and what to do when there is no answer.
pub struct Options {
    pub name: String,
    pub version: String,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    pub timeout: Duration,
    /// Whether failing to ask is a refusal; else others decide.
    pub fails_closed: bool,
    /// CEL: it is asked only about requests for which all hold.
    pub conditions: Vec<String>,
}

pub struct Webhook {
    client: Client,
    options: Options,
    conditions: Vec<Program>,
    known: Remembered<Opinion>,
}

/// A webhook cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("matchConditions[{index}].expression: {reason}")]
    Condition { index: usize, reason: String },
}

impl Webhook {
    pub fn new(kubeconfig: &std::path::Path, options: Options) -> Result<Self, WebhookError> {
        let environment = Environment::kubernetes().with("request", Type::Dyn);
        let conditions = options
            .conditions
            .iter()
            .enumerate()
            .map(|(index, source)| {
                Program::compile_as(source, &environment, &[Type::Bool])
                    .map_err(|error| WebhookError::Condition { index, reason: error.to_string() })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            client: Client::from_kubeconfig(kubeconfig)?,
            options,
            conditions,
            known: Remembered::default(),
        })
    }

    /// Its opinion of a request; failures are turned into what the configuration wants.
    pub async fn decide(&self, attributes: &Attributes<'_>) -> Opinion {
        let spec = spec(attributes);
        match self.concerns(&spec) {
            Ok(true) => {}
            Ok(false) => return Opinion::None(String::new()),
            Err(error) => return self.failed(&error),
        }
        let key = remembered::key(spec.to_string().as_bytes());
        if let Some(known) = self.known.get(&key) {
            return known;
        }
        let review = json!({
            "apiVersion": format!("authorization.k8s.io/{}", self.options.version),
            "kind": "SubjectAccessReview", "metadata": {}, "spec": spec,
        });
        let asking = self.client.post_repeatedly(&review, self.options.timeout, ATTEMPTS);
        let answer = match tokio::time::timeout(self.options.timeout, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return self.failed(&error.to_string()),
            Err(_) => return self.failed("no answer in time"),
        };
        let opinion = match read(&answer) {
            Ok(opinion) => opinion,
            Err(error) => return self.failed(error),
        };
        let ttl = match opinion {
            Opinion::Allow(_) => self.options.authorized_ttl,
            _ => self.options.unauthorized_ttl,
        };
        self.known.put(key, opinion.clone(), ttl);
        opinion
    }

    fn concerns(&self, spec: &Value) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let mut budget = Budget::new(budget::PER_EXPRESSION, budget::MATCH_CONDITIONS);
        let mut bindings = Bindings::new();
        bindings.set("request", Cel::from_json(spec));
        let mut failure = None;
        for condition in &self.conditions {
            match condition.evaluate(&bindings, &mut budget) {
                Ok(value) if value.as_bool() == Some(true) => {}
                // One that does not hold outweighs others that cannot be evaluated.
                Ok(_) => return Ok(false),
                Err(error) => failure = Some(format!("{}: {error}", condition.source())),
            }
        }
        failure.map_or(Ok(true), Err)
    }

    fn failed(&self, why: &str) -> Opinion {
        tracing::warn!(webhook = self.options.name, why, "authorization webhook failed");
        let reason = format!("authorization webhook {:?} failed", self.options.name);
        if self.options.fails_closed { Opinion::Deny(reason) } else { Opinion::None(reason) }
    }
}

fn read(review: &Value) -> Result<Opinion, &'static str> {
    let status = &review["status"];
    let reason: String = status["reason"].as_str().unwrap_or_default().chars().take(1024).collect();
    let said = |field: &str| status[field].as_bool().unwrap_or(false);
    match (said("allowed"), said("denied")) {
        (true, true) => Err("it both allows and denies"),
        (true, false) => Ok(Opinion::Allow(reason)),
        (false, true) => Ok(Opinion::Deny(reason)),
        (false, false) if status.is_object() => Ok(Opinion::None(reason)),
        (false, false) => Err("its answer has no status"),
    }
}

/// The spec of a SubjectAccessReview for a request.
fn spec(attributes: &Attributes<'_>) -> Value {
    let Attributes { user, request } = attributes;
    let mut spec = json!({"user": user.name, "groups": user.groups, "uid": user.uid, "extra": user.extra});
    if !request.is_resource {
        spec["nonResourceAttributes"] = json!({"path": request.path, "verb": request.verb});
        return spec;
    }
    let mut resource = json!({
        "namespace": request.namespace, "verb": request.verb, "group": request.group, "version": request.version,
        "resource": request.resource, "subresource": request.subresource, "name": request.name,
    });
    super::selectors::write(request, &mut resource);
    spec["resourceAttributes"] = resource;
    spec
}
