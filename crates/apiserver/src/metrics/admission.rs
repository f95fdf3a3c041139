//! How long admission takes, and what webhooks are about it.

use std::time::Duration;

use exposition::{Kind, Meters, Page};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::admission::Operation;

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Step {
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugin {
    name: &'static str,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Webhook {
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    code: u16,
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejection {
    error_type: &'static str,
    name: String,
    operation: &'static str,
    rejection_code: u16,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Open {
    name: String,
    r#type: &'static str,
}

pub struct Admission {
    steps: Durations<Step>,
    plugins: Durations<Plugin>,
    webhooks: Durations<Webhook>,
    requests: Family<Request, Counter>,
    rejections: Family<Rejection, Gauge>,
    open: Family<Open, Gauge>,
    policies: Meters,
}

const CHECKS: &str = "apiserver_validating_admission_policy_check_total";
const CHECK_DURATIONS: &str = "apiserver_validating_admission_policy_check_duration_seconds";

/// Policies are few, but users name them: these meters are bounded.
const POLICIES: &[exposition::Family] = &[
    exposition::Family {
        name: CHECKS,
        kind: Kind::Counter,
        help: "Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
    },
    exposition::Family {
        name: CHECK_DURATIONS,
        kind: Kind::Histogram(&[0.0000005, 0.001, 0.01, 0.1, 1.0]),
        help: "Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
    },
];

/// What has come of calling a webhook.
#[derive(Clone, Copy, Debug)]
pub enum Called {
    Allowed,
    /// With this code.
    Refused(u16),
    Failed {
        ignored: bool,
    },
}

fn word(rejected: bool) -> &'static str {
    if rejected { "true" } else { "false" }
}

fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

impl Admission {
    /// A policy has been looked at by one of its bindings, and this was done about it.
    pub fn checked(&self, policy: &str, binding: &str, error: &str, action: &str, took: Duration) {
        let labels = [
            ("policy", policy),
            ("policy_binding", binding),
            ("error_type", error),
            ("enforcement_action", action),
        ];
        self.policies.count(CHECKS, &labels);
        self.policies.took(CHECK_DURATIONS, &labels, took);
    }

    /// What the registry does not have.
    pub fn write(&self, page: &mut Page) {
        self.policies.write(page);
    }

    pub fn new(registry: &mut Registry) -> Self {
        let steps: Durations<Step> =
            Family::new_with_constructor(|| Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5]));
        registry.register(
            "apiserver_admission_step_admission_duration_seconds",
            "Admission sub-step latency in seconds, broken out for each operation and API resource and step type (validate or admit)",
            steps.clone(),
        );
        let plugins: Durations<Plugin> =
            Family::new_with_constructor(|| Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5]));
        registry.register(
            "apiserver_admission_controller_admission_duration_seconds",
            "Admission controller latency in seconds, identified by name and broken out for each operation and API resource and type (validate or admit)",
            plugins.clone(),
        );
        let webhooks: Durations<Webhook> =
            Family::new_with_constructor(|| Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0]));
        registry.register(
            "apiserver_admission_webhook_admission_duration_seconds",
            "Admission webhook latency in seconds, identified by name and broken out for each operation and API resource and type (validate or admit)",
            webhooks.clone(),
        );
        let requests = Family::default();
        registry.register(
            "apiserver_admission_webhook_request",
            "Admission webhook request total, identified by name and broken out for each admission type (validating or mutating) and operation",
            requests.clone(),
        );
        let rejections = Family::default();
        registry.register(
            "apiserver_admission_webhook_rejection_count",
            "Admission webhook rejection count, identified by name and broken out for each admission type and operation",
            rejections.clone(),
        );
        let open = Family::default();
        registry.register(
            "apiserver_admission_webhook_fail_open_count",
            "Admission webhook fail open count, identified by name and broken out for each admission type",
            open.clone(),
        );
        Self { steps, plugins, webhooks, requests, rejections, open, policies: Meters::new(POLICIES) }
    }

    /// All plugins of a phase together: `admit` or `validate`.
    pub fn step(&self, phase: &'static str, operation: Operation, rejected: bool, took: Duration) {
        let step = Step { operation: verb(operation), rejected: word(rejected), r#type: phase };
        self.steps.get_or_create(&step).observe(took.as_secs_f64());
    }

    /// One plugin of a phase.
    pub fn plugin(
        &self,
        name: &'static str,
        phase: &'static str,
        operation: Operation,
        rejected: bool,
        took: Duration,
    ) {
        let labels = Plugin { name, operation: verb(operation), rejected: word(rejected), r#type: phase };
        self.plugins.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A webhook has been called.
    pub fn webhook(&self, name: &str, mutating: bool, operation: Operation, called: Called, took: Duration) {
        let kind = if mutating { "admit" } else { "validating" };
        let operation = verb(operation);
        let rejected = !matches!(called, Called::Allowed | Called::Failed { ignored: true });
        let labels = Webhook { name: name.to_owned(), operation, rejected: word(rejected), r#type: kind };
        self.webhooks.get_or_create(&labels).observe(took.as_secs_f64());
        let code = match called {
            Called::Allowed => 200,
            Called::Refused(code) => code,
            Called::Failed { .. } => 0,
        };
        let Webhook { name, rejected: word, .. } = labels;
        self.requests
            .get_or_create(&Request { code, name: name.clone(), operation, rejected: word, r#type: kind })
            .inc();
        let error_type = match called {
            Called::Allowed => return,
            Called::Refused(_) => "no_error",
            Called::Failed { ignored } => {
                if ignored {
                    self.open.get_or_create(&Open { name, r#type: kind }).inc();
                    return;
                }
                "calling_webhook_error"
            }
        };
        let rejection = Rejection { error_type, name, operation, rejection_code: code, r#type: kind };
        self.rejections.get_or_create(&rejection).inc();
    }
}
