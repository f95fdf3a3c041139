//! SubjectAccessReview and its kin, TokenReview, SelfSubjectReview: create-only kinds that answer a question.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::field::{FieldErrors, Path};
use api::status::Status;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::UserInfo;
use crate::admission::objects::{at, items, namespace};
use crate::authz::{Authorizer, Decision, selectors};
use crate::request::{Attributes, RequestInfo};
use crate::state::State;
use crate::write::meta;

/// Answers the review `object` of the resource that `request` names; the object comes back with its status.
pub async fn review(
    state: &Arc<State>,
    user: &UserInfo,
    request: &RequestInfo,
    mut object: Value,
) -> Result<Value, Status> {
    let spec = &object["spec"];
    let authorizer = &state.authorizer;
    let status = match request.resource.as_str() {
        "selfsubjectaccessreviews" => access(authorizer, user, &question(spec)?).await,
        "subjectaccessreviews" => access(authorizer, &subject(spec)?, &question(spec)?).await,
        "localsubjectaccessreviews" => {
            let question = question(spec)?;
            check_local(request, &object, &question)?;
            access(authorizer, &subject(spec)?, &question).await
        }
        "selfsubjectrulesreviews" => rules(authorizer, user, spec)?,
        "selfsubjectreviews" => json!({"userInfo": user_info(user)}),
        "tokenreviews" => token(state, spec).await?,
        resource => return Err(Status::not_found((request.group.as_str(), resource), "")),
    };
    *at(&mut object, &["status"]) = status;
    // There, if only empty.
    meta::of(&mut object);
    Ok(object)
}

async fn access(authorizer: &Authorizer, user: &UserInfo, request: &RequestInfo) -> Value {
    let mut status = Map::new();
    let decision = authorizer.authorize(&Attributes { user, request }).await;
    status.insert("allowed".to_owned(), json!(decision.is_allowed()));
    let reason = match decision {
        Decision::Allow { reason } => reason.to_string(),
        Decision::Deny { reason } => reason,
    };
    if !reason.is_empty() {
        status.insert("reason".to_owned(), json!(reason));
    }
    Value::Object(status)
}

/// The request that a review asks about.
fn question(spec: &Value) -> Result<RequestInfo, Status> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    match (resource.is_object(), other.is_object()) {
        (true, false) => {
            let mut errors = FieldErrors::new();
            let (fields, labels) = selectors::read(resource, &mut errors);
            if !errors.is_empty() {
                return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", &errors));
            }
            Ok(RequestInfo {
                is_resource: true,
                verb: text(&resource["verb"]),
                group: text(&resource["group"]),
                version: text(&resource["version"]),
                namespace: text(&resource["namespace"]),
                resource: text(&resource["resource"]),
                subresource: text(&resource["subresource"]),
                name: text(&resource["name"]),
                fields,
                labels,
                ..RequestInfo::default()
            })
        }
        (false, true) => Ok(RequestInfo {
            path: text(&other["path"]),
            verb: text(&other["verb"]),
            ..RequestInfo::default()
        }),
        _ => {
            let mut errors = FieldErrors::new();
            let path = Path::new("spec");
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid(&path.child("resourceAttributes"), resource.clone(), detail);
            Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", &errors))
        }
    }
}

/// A user as [`user_info`] shows it.
pub(crate) fn user(info: &Value) -> UserInfo {
    let strings = |value: &Value| -> Vec<String> {
        items(value).filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let extra: BTreeMap<String, Vec<String>> = info["extra"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.clone(), strings(values)))
        .collect();
    UserInfo {
        name: info["username"].as_str().unwrap_or_default().to_owned(),
        uid: info["uid"].as_str().unwrap_or_default().to_owned(),
        groups: strings(&info["groups"]),
        extra,
    }
}

/// The user that a review asks about.
fn subject(spec: &Value) -> Result<UserInfo, Status> {
    let mut user = user(spec);
    user.name = spec["user"].as_str().unwrap_or_default().to_owned();
    if user.name.is_empty() && user.groups.is_empty() {
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        let detail = "at least one of user or group must be specified";
        errors.invalid(&path.child("user"), "", detail);
        return Err(Status::invalid("authorization.k8s.io", "SubjectAccessReview", "", &errors));
    }
    Ok(user)
}

fn check_local(request: &RequestInfo, object: &Value, question: &RequestInfo) -> Result<(), Status> {
    let given = namespace(object);
    if !given.is_empty() && given != request.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !question.is_resource || question.namespace != request.namespace {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            request.namespace
        )));
    }
    Ok(())
}

fn rules(authorizer: &Authorizer, user: &UserInfo, spec: &Value) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (rules, missing) = authorizer.rules(user, namespace);
    let (mut of_resources, mut of_urls) = (Vec::new(), Vec::new());
    for rule in rules {
        if !rule.resources.is_empty() {
            let mut shown =
                json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources});
            if !rule.names.is_empty() {
                *at(&mut shown, &["resourceNames"]) = json!(rule.names);
            }
            of_resources.push(shown);
        }
        if !rule.urls.is_empty() {
            of_urls.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls}));
        }
    }
    // What the Node authorizer grants cannot be written as rules.
    let incomplete = !missing.is_empty() || user.node_name().is_some() || authorizer.has_webhooks();
    let mut status = json!({
        "resourceRules": of_resources, "nonResourceRules": of_urls, "incomplete": incomplete,
    });
    if !missing.is_empty() {
        *at(&mut status, &["evaluationError"]) = json!(missing.join(", "));
    }
    Ok(status)
}

async fn token(state: &State, spec: &Value) -> Result<Value, Status> {
    let token = spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> =
        items(&spec["audiences"]).filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
    match state.authenticator.token(token, &audiences, Timestamp::now()).await {
        Ok(found) => {
            let mut status = json!({"authenticated": true, "user": user_info(&found.user)});
            if !found.audiences.is_empty() {
                *at(&mut status, &["audiences"]) = json!(found.audiences);
            }
            Ok(status)
        }
        Err(error) => Ok(json!({"user": {}, "error": error.to_string()})),
    }
}

/// As reviews and audit events show a user.
pub(crate) fn user_info(user: &UserInfo) -> Value {
    let mut info = Map::new();
    info.insert("username".to_owned(), json!(user.name));
    if !user.uid.is_empty() {
        info.insert("uid".to_owned(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        info.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    Value::Object(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions() {
        let asked = question(&json!({"resourceAttributes": {
            "namespace": "a", "verb": "list", "group": "apps", "resource": "deployments", "subresource": "scale",
            "name": "d", "fieldSelector": {"requirements": [
                {"key": "spec.nodeName", "operator": "In", "values": ["n"]},
                {"key": "other", "operator": "In", "values": ["x", "y"]},
            ]},
        }}))
        .expect("a question");
        assert!(asked.is_resource);
        assert_eq!((asked.verb.as_str(), asked.name.as_str()), ("list", "d"));
        assert_eq!((asked.field("spec.nodeName"), asked.field("other")), (Some("n"), None));
        let asked =
            question(&json!({"nonResourceAttributes": {"path": "/x", "verb": "get"}})).expect("a question");
        assert!(!asked.is_resource && asked.path == "/x");
        for spec in [json!({}), json!(null), json!({"resourceAttributes": {}, "nonResourceAttributes": {}})] {
            let status = question(&spec).expect_err("no question");
            assert!(status.message.contains("exactly one of"), "{status}");
        }
    }

    #[test]
    fn subjects() {
        let user = subject(&json!({"user": "a", "groups": ["g"], "extra": {"k": ["v"]}})).expect("a subject");
        assert_eq!((user.name.as_str(), user.groups.len(), user.extra.len()), ("a", 1, 1));
        assert_eq!(subject(&json!({})).expect_err("nobody").code, 422);
    }

    #[test]
    fn local_reviews_stay_in_their_namespace() {
        let request = RequestInfo { namespace: "a".into(), ..RequestInfo::default() };
        let question = |namespace: &str| RequestInfo {
            is_resource: true,
            namespace: namespace.into(),
            ..RequestInfo::default()
        };
        assert!(check_local(&request, &json!({}), &question("a")).is_ok());
        assert!(check_local(&request, &json!({}), &question("b")).is_err());
        assert!(check_local(&request, &json!({"metadata": {"namespace": "b"}}), &question("a")).is_err());
    }

    #[test]
    fn users() {
        let user = UserInfo::authenticated("a", &["g"]);
        assert_eq!(user_info(&user), json!({"username": "a", "groups": ["g", "system:authenticated"]}));
    }
}
