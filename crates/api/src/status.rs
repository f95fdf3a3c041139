//! `metav1.Status`: how the API says that a request failed (and, for deletes, that it succeeded).
//!
//! Clients decide by `reason` and `code` and show `message`; all three are kube-apiserver's, word for word. The type is
//! kept small so that it can be the error of every handler without boxing at each call.

use crate::field::{FieldErrors, quote};
use crate::registry::Resource;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::{self, Display};

/// A resource as messages name it: `pods`, `deployments.apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupResource<'a> {
    pub group: &'a str,
    pub resource: &'a str,
}

impl<'a> GroupResource<'a> {
    pub const fn new(group: &'a str, resource: &'a str) -> Self {
        Self { group, resource }
    }
}

impl Display for GroupResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

impl<'a> From<(&'a str, &'a str)> for GroupResource<'a> {
    fn from((group, resource): (&'a str, &'a str)) -> Self {
        Self { group, resource }
    }
}

impl<'a> From<&'a Resource> for GroupResource<'a> {
    fn from(r: &'a Resource) -> Self {
        Self { group: &r.gvk.group, resource: &r.plural }
    }
}

/// One of the reasons why a request failed, in `details.causes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCause {
    #[serde(default, rename = "reason", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (`pods`) or, for validation errors, the kind (`Pod`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The outcome of a request. As an error, it displays as its message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{message}")]
#[serde(default, from = "Wire")]
pub struct Status {
    pub message: String,
    pub reason: Cow<'static, str>,
    pub details: Option<Box<StatusDetails>>,
    /// The HTTP status code.
    pub code: u16,
    pub success: bool,
    /// `metadata.continue` of an expired list, so that the client may go on from an inconsistent snapshot.
    pub continue_token: Option<Box<str>>,
}

impl Default for Status {
    fn default() -> Self {
        Self::failure(500, "", String::new())
    }
}

/// The JSON form, in upstream's field order.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    kind: Cow<'static, str>,
    api_version: Cow<'static, str>,
    metadata: WireMeta,
    #[serde(skip_serializing_if = "str::is_empty")]
    status: Cow<'static, str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<StatusDetails>,
    #[serde(skip_serializing_if = "code_is_zero")]
    code: u16,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct WireMeta {
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    continue_token: Option<Box<str>>,
}

fn code_is_zero(n: &u16) -> bool {
    *n == 0
}

impl From<Wire> for Status {
    fn from(w: Wire) -> Self {
        Self {
            message: w.message,
            reason: w.reason,
            details: w.details.map(Box::new),
            code: w.code,
            success: w.status == "Success",
            continue_token: w.metadata.continue_token,
        }
    }
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire {
            kind: "Status".into(),
            api_version: "v1".into(),
            metadata: WireMeta { continue_token: self.continue_token.clone() },
            status: if self.success { "Success" } else { "Failure" }.into(),
            message: self.message.clone(),
            reason: self.reason.clone(),
            details: self.details.as_deref().cloned(),
            code: self.code,
        }
        .serialize(serializer)
    }
}

impl Status {
    /// Any failure; prefer the named constructors, which carry the right wording.
    pub fn failure(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            reason: reason.into(),
            details: None,
            code,
            success: false,
            continue_token: None,
        }
    }

    /// The answer to a delete that removed the object at once.
    pub fn deleted<'a>(resource: impl Into<GroupResource<'a>>, name: &str, uid: &str) -> Self {
        let mut s = Self::failure(200, "", "").on(resource, name);
        s.success = true;
        s.details_mut().uid = uid.to_owned();
        s
    }

    pub fn success() -> Self {
        Self { success: true, ..Self::failure(200, "", "") }
    }

    /// The JSON body.
    pub fn to_value(&self) -> Value {
        // Serialising plain strings and numbers into a Value cannot fail.
        serde_json::to_value(self).unwrap_or(Value::Null)
    }

    /// Reads a Status from a response body; `None` when the body is something else.
    pub fn from_value(body: &Value) -> Option<Self> {
        if body.get("kind")?.as_str()? != "Status" {
            return None;
        }
        Self::deserialize(body).ok()
    }

    pub fn details_mut(&mut self) -> &mut StatusDetails {
        self.details.get_or_insert_default()
    }

    /// Whether the failure is of this reason (`NotFound`, `Conflict`, ...).
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }

    fn on<'a>(mut self, resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let r = resource.into();
        let d = self.details_mut();
        d.group = r.group.to_owned();
        d.kind = r.resource.to_owned();
        d.name = name.to_owned();
        self
    }

    /// With `details.retryAfterSeconds`; the HTTP layer repeats it as a `Retry-After` header.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details_mut().retry_after_seconds = seconds;
        self
    }

    pub fn with_causes(mut self, causes: Vec<StatusCause>) -> Self {
        self.details_mut().causes = causes;
        self
    }

    pub fn not_found<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let r = resource.into();
        Self::failure(404, "NotFound", format!("{r} {} not found", quote(name))).on(r, name)
    }

    /// For a path or resource that the server does not serve.
    pub fn unknown_resource() -> Self {
        Self {
            details: Some(Box::default()),
            ..Self::failure(404, "NotFound", "the server could not find the requested resource")
        }
    }

    pub fn already_exists<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let r = resource.into();
        Self::failure(409, "AlreadyExists", format!("{r} {} already exists", quote(name))).on(r, name)
    }

    /// For a `generateName` that found no free name.
    pub fn generate_name_conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        let r = resource.into();
        let message = format!(
            "{r} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        Self::failure(409, "AlreadyExists", message).on(r, name).retry_after(1)
    }

    pub fn conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: impl Display) -> Self {
        let r = resource.into();
        Self::failure(409, "Conflict", format!("Operation cannot be fulfilled on {r} {}: {why}", quote(name)))
            .on(r, name)
    }

    /// A write based on an old resourceVersion.
    pub fn modified<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Self {
        Self::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// Server-side apply met fields owned by others.
    pub fn apply_conflict(message: impl Into<String>, causes: Vec<StatusCause>) -> Self {
        Self::failure(409, "Conflict", message).with_causes(causes)
    }

    /// `kind` is the object's kind, not its resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &FieldErrors) -> Self {
        let gk = GroupResource::new(group, kind);
        let mut message = format!("{gk} {} is invalid", quote(name));
        if !errors.is_empty() {
            message.push_str(&format!(": {errors}"));
        }
        let causes = errors
            .iter()
            .map(|e| StatusCause {
                kind: e.kind.cause().to_owned(),
                message: e.body(),
                field: e.field.clone(),
            })
            .collect();
        Self::failure(422, "Invalid", message).on(gk, name).with_causes(causes)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Self::failure(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: impl Display) -> Self {
        let r = resource.into();
        let message = match (r.resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{r} is forbidden: {why}"),
            _ => format!("{r} {} is forbidden: {why}", quote(name)),
        };
        Self::failure(403, "Forbidden", message).on(r, name)
    }

    /// A resourceVersion or continue token older than the server remembers.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, "Expired", message)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, "Gone", message)
    }

    pub fn too_large(why: impl Display) -> Self {
        Self::failure(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, "UnsupportedMediaType", message)
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::failure(406, "NotAcceptable", message)
    }

    pub fn method_not_allowed<'a>(resource: impl Into<GroupResource<'a>>, action: &str) -> Self {
        let r = resource.into();
        let message = format!("{action} is not supported on resources of kind {}", quote(&r.to_string()));
        Self::failure(405, "MethodNotAllowed", message).on(r, "")
    }

    /// For a path that is served, by other methods.
    pub fn wrong_method() -> Self {
        Self {
            details: Some(Box::default()),
            ..Self::failure(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )
        }
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(429, "TooManyRequests", message).retry_after(retry_after_seconds)
    }

    pub fn timeout(message: impl Display, retry_after_seconds: u32) -> Self {
        Self::failure(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_after_seconds)
    }

    pub fn server_timeout<'a>(
        resource: impl Into<GroupResource<'a>>,
        operation: &str,
        retry_after_seconds: u32,
    ) -> Self {
        let r = resource.into();
        let message = format!(
            "The {operation} operation against {r} could not be completed at this time, please try again."
        );
        Self::failure(500, "ServerTimeout", message).on(r, operation).retry_after(retry_after_seconds)
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, "ServiceUnavailable", message)
    }

    pub fn internal(why: impl Display) -> Self {
        let cause = StatusCause { message: why.to_string(), ..StatusCause::default() };
        Self::failure(500, "InternalError", format!("Internal error occurred: {why}"))
            .with_causes(vec![cause])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Path;
    use serde_json::json;

    const PODS: (&str, &str) = ("", "pods");
    const DEPLOYMENTS: (&str, &str) = ("apps", "deployments");

    #[test]
    fn wording_reasons_and_codes() {
        let mut required = FieldErrors::new();
        let spec = Path::new("spec");
        required.required(&spec.child("containers"), "");
        let table = [
            (Status::not_found(PODS, "x"), 404, "NotFound", r#"pods "x" not found"#),
            (
                Status::already_exists(DEPLOYMENTS, "x"),
                409,
                "AlreadyExists",
                r#"deployments.apps "x" already exists"#,
            ),
            (
                Status::modified(DEPLOYMENTS, "x"),
                409,
                "Conflict",
                r#"Operation cannot be fulfilled on deployments.apps "x": the object has been modified; please apply your changes to the latest version and try again"#,
            ),
            (
                Status::invalid("", "Pod", "x", &required),
                422,
                "Invalid",
                r#"Pod "x" is invalid: spec.containers: Required value"#,
            ),
            (
                Status::invalid("apps", "Deployment", "x", &FieldErrors::new()),
                422,
                "Invalid",
                r#"Deployment.apps "x" is invalid"#,
            ),
            (Status::forbidden(PODS, "", "no"), 403, "Forbidden", "pods is forbidden: no"),
            (Status::forbidden(PODS, "x", "no"), 403, "Forbidden", r#"pods "x" is forbidden: no"#),
            (Status::forbidden(("", ""), "", "no"), 403, "Forbidden", "forbidden: no"),
            (Status::internal("boom"), 500, "InternalError", "Internal error occurred: boom"),
            (
                Status::method_not_allowed(DEPLOYMENTS, "create"),
                405,
                "MethodNotAllowed",
                r#"create is not supported on resources of kind "deployments.apps""#,
            ),
        ];
        for (status, code, reason, message) in table {
            assert_eq!((status.code, &*status.reason, &*status.message), (code, reason, message));
        }
    }

    #[test]
    fn json_form_and_back() {
        let s = Status::not_found(DEPLOYMENTS, "x");
        assert_eq!(
            s.to_value(),
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "deployments.apps \"x\" not found",
                   "reason": "NotFound", "details": {"name": "x", "group": "apps", "kind": "deployments"}, "code": 404})
        );
        assert_eq!(Status::from_value(&s.to_value()), Some(s));
        assert_eq!(Status::from_value(&json!({"kind": "Pod"})), None);
        assert_eq!(Status::from_value(&json!({"kind": "Status", "code": "x"})), None);
    }

    #[test]
    fn causes_name_the_field() {
        let mut e = FieldErrors::new();
        e.invalid(&Path::new("spec"), 1, "must be 2");
        let body = Status::invalid("", "Pod", "x", &e).to_value();
        assert_eq!(
            body["details"]["causes"],
            json!([{"reason": "FieldValueInvalid", "message": "Invalid value: 1: must be 2", "field": "spec"}])
        );
    }

    #[test]
    fn stays_small_as_an_error() {
        assert!(std::mem::size_of::<Status>() <= 96);
    }
}
