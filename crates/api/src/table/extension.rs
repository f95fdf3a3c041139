//! What extends or steers the API server: webhooks, admission policies, API services, flow control.

use serde_json::Value;

use super::cells::{NONE, UNSET, age, condition, int, map, name, text, text_or};
use super::config::length;
use super::{AGE, NAME, Printer, column, number};

static WEBHOOKS: Printer = Printer {
    columns: &[
        NAME,
        number("Webhooks", "Webhooks indicates the number of webhooks registered in this configuration"),
        AGE,
    ],
    cells: |object, now| vec![name(object), length(object, "/webhooks"), age(object, now)],
};

static VALIDATING_POLICY: Printer = Printer {
    columns: &[
        NAME,
        number(
            "Validations",
            "Validations indicates the number of validation rules defined in this configuration",
        ),
        column("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"),
        AGE,
    ],
    cells: |object, now| {
        vec![name(object), length(object, "/spec/validations"), param_kind(object).into(), age(object, now)]
    },
};

static MUTATING_POLICY: Printer = Printer {
    columns: &[
        NAME,
        number("Mutations", "Mutation indicates the number of mutations rules defined in this configuration"),
        column("ParamKind", "ParamKind specifies the kind of resources used to parameterize this policy"),
        AGE,
    ],
    cells: |object, now| {
        vec![name(object), length(object, "/spec/mutations"), param_kind(object).into(), age(object, now)]
    },
};

static POLICY_BINDING: Printer = Printer {
    columns: &[
        NAME,
        column("PolicyName", "PolicyName indicates the policy definition which the policy binding binded to"),
        column("ParamRef", "ParamRef indicates the param resource which sets the configration param"),
        AGE,
    ],
    cells: |object, now| {
        let param = match object.pointer("/spec/paramRef") {
            None => UNSET.to_owned(),
            Some(reference) => match (text(reference, "/namespace"), text_or(reference, "/name", "*")) {
                ("", name) => name.to_owned(),
                (namespace, name) => format!("{namespace}/{name}"),
            },
        };
        vec![name(object), text(object, "/spec/policyName").into(), param.into(), age(object, now)]
    },
};

static API_SERVICE: Printer = Printer {
    columns: &[
        NAME,
        column("Service", "The reference to the service that hosts this API endpoint."),
        column("Available", "Whether this service is available."),
        AGE,
    ],
    cells: |object, now| {
        let service = match object.pointer("/spec/service") {
            None => "Local".to_owned(),
            Some(service) => format!("{}/{}", text(service, "/namespace"), text(service, "/name")),
        };
        let available = match condition(object, "Available") {
            None => "Unknown".to_owned(),
            Some(condition) => match (text(condition, "/status"), text(condition, "/reason")) {
                ("True", _) => "True".to_owned(),
                (status, reason) => format!("{status} ({reason})"),
            },
        };
        vec![name(object), service.into(), available.into(), age(object, now)]
    },
};

static FLOW_SCHEMA: Printer = Printer {
    columns: &[
        NAME,
        column("PriorityLevel", "The priority level that requests of this schema get."),
        number(
            "MatchingPrecedence",
            "Which of several matching schemas is chosen: the one with the lowest number.",
        ),
        column("DistinguisherMethod", "How flows within the schema are told apart."),
        AGE,
        column("MissingPL", "Whether the priority level does not exist."),
    ],
    cells: |object, now| {
        let missing = condition(object, "Dangling").map_or("?", |condition| text(condition, "/status"));
        vec![
            name(object),
            text(object, "/spec/priorityLevelConfiguration/name").into(),
            int(object, "/spec/matchingPrecedence").into(),
            text_or(object, "/spec/distinguisherMethod/type", NONE).into(),
            age(object, now),
            missing.into(),
        ]
    },
};

static PRIORITY_LEVEL: Printer = Printer {
    columns: &[
        NAME,
        column("Type", "Whether the level is limited or exempt."),
        column("NominalConcurrencyShares", "The share of the server's concurrency that this level gets."),
        column("Queues", "The number of queues of this level."),
        column("HandSize", "How many queues each flow is given."),
        column("QueueLengthLimit", "How many requests may wait in a queue."),
        AGE,
    ],
    cells: |object, now| {
        let limited = |path: &str| match object.pointer(&format!("/spec/limited/{path}")) {
            Some(value) => super::cells::plain(value),
            None => NONE.to_owned(),
        };
        vec![
            name(object),
            text(object, "/spec/type").into(),
            limited("nominalConcurrencyShares").into(),
            limited("limitResponse/queuing/queues").into(),
            limited("limitResponse/queuing/handSize").into(),
            limited("limitResponse/queuing/queueLengthLimit").into(),
            age(object, now),
        ]
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => Some(&WEBHOOKS),
        "ValidatingAdmissionPolicy" => Some(&VALIDATING_POLICY),
        "MutatingAdmissionPolicy" => Some(&MUTATING_POLICY),
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => Some(&POLICY_BINDING),
        "APIService" => Some(&API_SERVICE),
        "FlowSchema" => Some(&FLOW_SCHEMA),
        "PriorityLevelConfiguration" => Some(&PRIORITY_LEVEL),
        _ => None,
    }
}

fn param_kind(policy: &Value) -> String {
    match map(policy, "/spec/paramKind") {
        None => UNSET.to_owned(),
        Some(_) => {
            format!("{}/{}", text(policy, "/spec/paramKind/apiVersion"), text(policy, "/spec/paramKind/kind"))
        }
    }
}
