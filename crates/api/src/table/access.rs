//! Role bindings and certificate signing requests. Roles themselves show name and creation time only.

use serde_json::Value;

use super::cells::{NONE, age, int, list, name, text};
use super::duration::human_duration;
use super::{AGE, NAME, Printer, column, wide};

static BINDING: Printer = Printer {
    columns: &[
        NAME,
        column("Role", "The role whose rules the subjects get."),
        AGE,
        wide("Users", "Users in the roleBinding"),
        wide("Groups", "Groups in the roleBinding"),
        wide("ServiceAccounts", "ServiceAccounts in the roleBinding"),
    ],
    cells: |object, now| {
        let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
        vec![
            name(object),
            role.into(),
            age(object, now),
            subjects(object, "User").into(),
            subjects(object, "Group").into(),
            subjects(object, "ServiceAccount").into(),
        ]
    },
};

static SIGNING_REQUEST: Printer = Printer {
    columns: &[
        NAME,
        AGE,
        column("SignerName", "signerName indicates the requested signer."),
        column("Requestor", "The user who asked for the certificate."),
        column(
            "RequestedDuration",
            "expirationSeconds is the requested duration of validity of the issued certificate.",
        ),
        column("Condition", "Whether the request is pending, approved, denied, or has failed."),
    ],
    cells: |object, now| {
        let duration = match int(object, "/spec/expirationSeconds") {
            0 => NONE.to_owned(),
            seconds => human_duration(seconds),
        };
        vec![
            name(object),
            age(object, now),
            super::cells::text_or(object, "/spec/signerName", NONE).into(),
            text(object, "/spec/username").into(),
            duration.into(),
            signing_condition(object).into(),
        ]
    },
};

pub(super) fn printer(kind: &str) -> Option<&'static Printer> {
    match kind {
        "RoleBinding" | "ClusterRoleBinding" => Some(&BINDING),
        "CertificateSigningRequest" => Some(&SIGNING_REQUEST),
        _ => None,
    }
}

fn subjects(object: &Value, kind: &str) -> String {
    let of_kind = list(object, "/subjects").iter().filter(|subject| text(subject, "/kind") == kind);
    let names: Vec<String> = of_kind
        .map(|subject| match kind {
            "ServiceAccount" => format!("{}/{}", text(subject, "/namespace"), text(subject, "/name")),
            _ => text(subject, "/name").to_owned(),
        })
        .collect();
    names.join(", ")
}

fn signing_condition(object: &Value) -> String {
    let has = |kind: &str| super::cells::condition(object, kind).is_some();
    let mut states = Vec::new();
    match () {
        () if has("Denied") => states.push("Denied"),
        () if has("Approved") => states.push("Approved"),
        () => {}
    }
    if has("Failed") {
        states.push("Failed");
    }
    if states.is_empty() {
        states.push("Pending");
    }
    if !text(object, "/status/certificate").is_empty() {
        states.push("Issued");
    }
    states.join(",")
}
