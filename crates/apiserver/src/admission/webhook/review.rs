//! AdmissionReview: the question and the answer.

use api::status::{Status, StatusCause};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Hook;

/// The question. The objects are referred to: they may be large.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Question<'a> {
    kind: &'static str,
    api_version: String,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    #[serde(flatten)]
    described: &'a Map<String, Value>,
    object: &'a Value,
    old_object: &'a Value,
}

/// What a webhook has answered.
#[derive(Debug, Default)]
pub struct Answer {
    pub allowed: bool,
    pub status: Option<Status>,
    /// A JSON patch.
    pub patch: Option<Value>,
    pub warnings: Vec<String>,
    pub annotations: Vec<(String, String)>,
}

impl<'a> Question<'a> {
    pub fn new(
        hook: &Hook,
        uid: &'a str,
        described: &'a Map<String, Value>,
        object: &'a Value,
        old_object: &'a Value,
    ) -> Self {
        let api_version = format!("admission.k8s.io/{}", hook.version);
        let request = Request { uid, described, object, old_object };
        Self { kind: "AdmissionReview", api_version, request }
    }
}

/// Reads the answer to the question of this uid; what is wrong with it is told in upstream's words.
pub fn read(bytes: &[u8], version: &str, uid: &str, mutating: bool) -> Result<Answer, String> {
    let review: Value = serde_json::from_slice(bytes)
        .map_err(|error| format!("received invalid webhook response: couldn't decode the body: {error}"))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let expected = format!("admission.k8s.io/{version}");
    let (api_version, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
    // The older version never demanded to be named.
    let unnamed = version == "v1beta1" && api_version.is_empty() && kind.is_empty();
    if !unnamed && (api_version != expected || kind != "AdmissionReview") {
        return Err(format!(
            "received invalid webhook response: expected webhook response of {expected}, Kind=AdmissionReview, got {api_version}, Kind={kind}"
        ));
    }
    let response = &review["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    let answered = text(&response["uid"]);
    if version == "v1" && answered != uid {
        return Err(format!(
            "received invalid webhook response: expected response.uid={uid:?}, got {answered:?}"
        ));
    }
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Answer {
        allowed: response["allowed"].as_bool().unwrap_or(false),
        status: response["status"].is_object().then(|| status(&response["status"])),
        patch: if mutating { patch(response, version)? } else { None },
        warnings: texts(&response["warnings"]),
        annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
    })
}

fn patch(response: &Value, version: &str) -> Result<Option<Value>, String> {
    let Some(encoded) = response["patch"].as_str().filter(|patch| !patch.is_empty()) else { return Ok(None) };
    match response["patchType"].as_str() {
        Some("JSONPatch") => {}
        None | Some("") if version == "v1beta1" => {}
        None | Some("") => {
            return Err(
                "received invalid webhook response: webhook returned response.patch but not response.patchType"
                    .to_owned(),
            );
        }
        Some(other) => {
            return Err(format!(
                "received invalid webhook response: webhook returned invalid response.patchType of {other:?}"
            ));
        }
    }
    let wrong = |error: &dyn std::fmt::Display| format!("received invalid webhook response: patch: {error}");
    let bytes = STANDARD.decode(encoded).map_err(|error| wrong(&error))?;
    let patch: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    Ok(Some(patch))
}

fn status(from: &Value) -> Status {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut status = Status::failure(0, "", text(&from["message"]));
    status.code = from["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    status.reason = text(&from["reason"]).into();
    let details = &from["details"];
    if details.is_object() {
        let causes = details["causes"].as_array().into_iter().flatten().map(|cause| StatusCause {
            kind: text(&cause["reason"]),
            message: text(&cause["message"]),
            field: text(&cause["field"]),
        });
        let causes = causes.collect();
        let place = status.details_mut();
        place.name = text(&details["name"]);
        place.group = text(&details["group"]);
        place.kind = text(&details["kind"]);
        place.causes = causes;
    }
    status
}

/// The refusal that the client is told.
pub fn refusal(hook: &Hook, status: Option<Status>) -> Status {
    let mut status = status.unwrap_or_else(|| Status::failure(0, "", ""));
    let denied = format!("admission webhook {:?} denied the request", hook.name);
    // A refusal is a failure, whatever the webhook says.
    if !(400..600).contains(&status.code) {
        status.code = 400;
    }
    status.success = false;
    status.message = match (status.message.is_empty(), status.reason.is_empty()) {
        (false, _) => format!("{denied}: {}", status.message),
        (true, false) => format!("{denied}: {}", status.reason),
        (true, true) => format!("{denied} without explanation"),
    };
    status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(review: Value, expected: Result<bool, &str>) {
        match (read(review.to_string().as_bytes(), "v1", "u", true), expected) {
            (Ok(answer), Ok(allowed)) => assert_eq!(answer.allowed, allowed, "{review}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{review}: {why}"),
            (got, expected) => panic!("{review}: {got:?}, not {expected:?}"),
        }
    }

    fn review(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn answers() {
        check(review(json!({"uid": "u", "allowed": true})), Ok(true));
        check(review(json!({"uid": "u"})), Ok(false));
        check(
            review(json!({"uid": "other", "allowed": true})),
            Err("expected response.uid=\"u\", got \"other\""),
        );
        check(review(Value::Null), Err("webhook response was absent"));
        check(json!({"kind": "Pod", "response": {}}), Err("Kind=AdmissionReview, got , Kind=Pod"));
        check(json!("x"), Err("Kind=AdmissionReview"));
        let patched = |patch: &str, kind: Value| {
            review(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": kind}))
        };
        check(patched("W10=", json!("JSONPatch")), Ok(true));
        check(patched("W10=", Value::Null), Err("but not response.patchType"));
        check(patched("W10=", json!("Merge")), Err("invalid response.patchType of \"Merge\""));
        check(patched("*", json!("JSONPatch")), Err("patch: "));
    }

    #[test]
    fn refusals() {
        let hook = |name: &str| {
            let mut hooks = super::super::Hooks::default();
            let object = json!({"webhooks": [{"name": name}]});
            crate::authz::follow::Derived::apply(
                &mut hooks,
                super::super::VALIDATING,
                "",
                "c",
                Some(&object),
            );
            hooks.all()[0].clone()
        };
        let check = |status: Option<Value>, message: &str, code: u16| {
            let told = refusal(&hook("a.b.c"), status.as_ref().map(status_of));
            assert_eq!((told.message.as_str(), told.code), (message, code));
        };
        fn status_of(value: &Value) -> Status {
            status(value)
        }
        const DENIED: &str = "admission webhook \"a.b.c\" denied the request";
        check(None, &format!("{DENIED} without explanation"), 400);
        check(Some(json!({"message": "no", "code": 403})), &format!("{DENIED}: no"), 403);
        check(Some(json!({"reason": "Forbidden", "code": 200})), &format!("{DENIED}: Forbidden"), 400);
    }
}
