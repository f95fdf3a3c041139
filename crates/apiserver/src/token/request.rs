//! The `serviceaccounts/token` subresource: makes a token for a `TokenRequest`.

use api::field::{FieldErrors, Path};
use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::claims::{Claims, Kubernetes, Reference};
use super::{Issuer, jwt};
use crate::admission::objects::{self, NODES, Objects, PODS, SECRETS, SERVICE_ACCOUNTS};

const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
const DEFAULT_SECONDS: i64 = 3600;
/// What the ServiceAccount admission plugin asks for in pods. Tokens of this life, bound to a pod and for the
/// API server, really live for a year: old client libraries read their token once and never again. They are
/// void with their pod in any case.
pub const PROJECTED_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

/// Answers the TokenRequest `body` for the service account `namespace/name`: the same object with its status.
pub fn create(
    issuer: &Issuer,
    objects: &dyn Objects,
    namespace: &str,
    name: &str,
    mut body: Value,
    now: Timestamp,
) -> Result<Value, Status> {
    check_metadata(&body, namespace, name)?;
    let account = objects
        .get(SERVICE_ACCOUNTS, namespace, name)
        .ok_or_else(|| Status::not_found(SERVICE_ACCOUNTS, name))?;
    let wish = Wish::read(&body, issuer.audiences())?;

    let mut bound = Kubernetes {
        namespace: namespace.to_owned(),
        serviceaccount: Reference { name: name.to_owned(), uid: objects::uid(&account).to_owned() },
        ..Kubernetes::default()
    };
    if let Some(reference) = &wish.bound {
        bind(&mut bound, reference, objects, namespace, name)?;
    }

    let issued = now.as_second();
    let for_us = wish.audiences.iter().all(|audience| issuer.audiences().contains(audience));
    let mut seconds = wish.seconds;
    if seconds == PROJECTED_SECONDS && bound.pod.is_some() && for_us {
        bound.warnafter = Some(issued + seconds);
        seconds = EXTENDED_SECONDS;
    }
    let claims = Claims {
        aud: wish.audiences.clone(),
        exp: issued + seconds,
        iat: issued,
        iss: issuer.name().to_owned(),
        jti: uuid::Uuid::new_v4().to_string(),
        kubernetes: bound,
        nbf: issued,
        sub: format!("system:serviceaccount:{namespace}:{name}"),
    };
    let token = jwt::sign(issuer.keys(), &claims).map_err(Status::internal)?;
    let expiration = Timestamp::from_second(issued + wish.seconds).map_err(Status::internal)?;

    let stamp = Timestamp::from_second(issued).map_err(Status::internal)?;
    let mut set = |path: &[&str], value: Value| *objects::at(&mut body, path) = value;
    set(&["apiVersion"], json!("authentication.k8s.io/v1"));
    set(&["kind"], json!("TokenRequest"));
    set(&["metadata"], json!({"name": name, "namespace": namespace, "creationTimestamp": stamp.to_string()}));
    set(&["spec", "audiences"], json!(wish.audiences));
    set(&["spec", "expirationSeconds"], json!(wish.seconds));
    set(&["status"], json!({"token": token, "expirationTimestamp": expiration.to_string()}));
    Ok(body)
}

fn check_metadata(body: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    if !body.is_object() {
        return Err(Status::bad_request("the body is not a TokenRequest"));
    }
    let given = objects::namespace(body);
    if !given.is_empty() && given != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let given = objects::name(body);
    if !given.is_empty() && given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}

struct BoundReference {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

/// The spec of a TokenRequest.
struct Wish {
    audiences: Vec<String>,
    seconds: i64,
    bound: Option<BoundReference>,
}

impl Wish {
    fn read(body: &Value, own_audiences: &[String]) -> Result<Self, Status> {
        let spec = &body["spec"];
        let mut errors = FieldErrors::new();
        let path = Path::new("spec");
        let mut audiences: Vec<String> = spec["audiences"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|audience| audience.as_str().map(str::to_owned))
            .collect();
        if audiences.is_empty() {
            audiences.extend(own_audiences.iter().cloned());
        }
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
        let field = path.child("expirationSeconds");
        if seconds < MIN_SECONDS {
            errors.invalid(&field, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > MAX_SECONDS {
            errors.invalid(&field, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        if !errors.is_empty() {
            let name = objects::name(body);
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, &errors));
        }
        let reference = &spec["boundObjectRef"];
        let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
        let bound = reference.is_object().then(|| BoundReference {
            kind: text("kind"),
            api_version: text("apiVersion"),
            name: text("name"),
            uid: text("uid"),
        });
        Ok(Self { audiences, seconds, bound })
    }
}

/// Puts the object that the token shall be bound to into the claims.
fn bind(
    bound: &mut Kubernetes,
    reference: &BoundReference,
    objects: &dyn Objects,
    namespace: &str,
    account: &str,
) -> Result<(), Status> {
    let name = reference.name.as_str();
    // The version says nothing, and neither has to be said: these kinds are of the core group.
    let (group, version) = reference.api_version.rsplit_once('/').unwrap_or(("", &reference.api_version));
    let (resource, scope) = match (group, reference.kind.as_str()) {
        ("", "Pod") => (PODS, namespace),
        ("", "Secret") => (SECRETS, namespace),
        ("", "Node") => (NODES, ""),
        (group, kind) => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let object = objects.get(resource, scope, name).ok_or_else(|| Status::not_found(resource, name))?;
    let uid = objects::uid(&object);
    if !reference.uid.is_empty() && reference.uid != uid {
        return Err(Status::conflict(
            resource,
            name,
            format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have \
                 been deleted and then recreated",
                reference.uid
            ),
        ));
    }
    let claim = Some(Reference { name: name.to_owned(), uid: uid.to_owned() });
    match reference.kind.as_str() {
        "Pod" => {
            if object["spec"]["serviceAccountName"].as_str() != Some(account) {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                )));
            }
            bound.pod = claim;
            if let Some(node_name) = object["spec"]["nodeName"].as_str() {
                let node = objects.get(NODES, "", node_name);
                bound.node = Some(Reference {
                    name: node_name.to_owned(),
                    uid: node.map(|node| objects::uid(&node).to_owned()).unwrap_or_default(),
                });
            }
        }
        "Secret" => bound.secret = claim,
        _ => bound.node = claim,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::objects::tests::Fixture;
    use crate::token::tests::test_issuer;

    fn fixture() -> Fixture {
        Fixture::new()
            .add(SERVICE_ACCOUNTS, json!({"metadata": {"namespace": "ns", "name": "sa", "uid": "sa-uid"}}))
            .add(
                PODS,
                json!({"metadata": {"namespace": "ns", "name": "web", "uid": "pod-uid"},
                       "spec": {"serviceAccountName": "sa", "nodeName": "n1"}}),
            )
            .add(
                PODS,
                json!({"metadata": {"namespace": "ns", "name": "other", "uid": "u"},
                       "spec": {"serviceAccountName": "default"}}),
            )
            .add(SECRETS, json!({"metadata": {"namespace": "ns", "name": "s", "uid": "secret-uid"}}))
            .add(NODES, json!({"metadata": {"name": "n1", "uid": "node-uid"}}))
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }

    fn ask(spec: Value) -> Result<(Value, Claims), Status> {
        let issuer = test_issuer();
        let answer = create(&issuer, &fixture(), "ns", "sa", json!({"spec": spec}), now())?;
        let token = answer["status"]["token"].as_str().expect("a token").to_owned();
        let claims = jwt::verify(issuer.keys(), &token).expect("our own token");
        Ok((answer, claims))
    }

    #[test]
    fn plain() {
        let (answer, claims) = ask(json!({})).expect("granted");
        assert_eq!(claims.sub, "system:serviceaccount:ns:sa");
        assert_eq!(claims.aud, [test_issuer().name()]);
        assert_eq!((claims.iat, claims.exp), (1_800_000_000, 1_800_003_600));
        assert_eq!(claims.kubernetes.serviceaccount.uid, "sa-uid");
        assert_eq!(answer["status"]["expirationTimestamp"], "2027-01-15T09:00:00Z");
        assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    }

    #[test]
    fn bound_objects() {
        let reference = |kind: &str, name: &str| json!({"kind": kind, "apiVersion": "v1", "name": name});
        let (_, claims) = ask(json!({"boundObjectRef": reference("Pod", "web")})).expect("granted");
        let uid = |reference: &Option<Reference>| reference.as_ref().map(|r| r.uid.clone());
        assert_eq!(uid(&claims.kubernetes.pod).as_deref(), Some("pod-uid"));
        assert_eq!(uid(&claims.kubernetes.node).as_deref(), Some("node-uid"));
        let (_, claims) = ask(json!({"boundObjectRef": reference("Secret", "s")})).expect("granted");
        assert_eq!(uid(&claims.kubernetes.secret).as_deref(), Some("secret-uid"));
        let (_, claims) = ask(json!({"boundObjectRef": reference("Node", "n1")})).expect("granted");
        assert_eq!(uid(&claims.kubernetes.node).as_deref(), Some("node-uid"));
    }

    #[test]
    fn refusals() {
        let check = |spec: Value, code: u16, part: &str| {
            let status = ask(spec.clone()).expect_err("refused");
            assert_eq!(status.code, code, "{spec}: {status}");
            assert!(status.message.contains(part), "{spec}: {status}");
        };
        check(json!({"expirationSeconds": 10}), 422, "less than 10 minutes");
        check(json!({"expirationSeconds": (1_i64 << 32) + 1}), 422, "larger than 2^32");
        let bind = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
        check(bind("Pod", "gone", ""), 404, "not found");
        check(bind("Pod", "web", "older"), 409, "recreated");
        check(bind("Pod", "other", ""), 400, "different serviceaccount");
        check(bind("ConfigMap", "x", ""), 400, "cannot bind");
    }

    #[test]
    fn tokens_of_pods_outlive_their_refresh_time() {
        let spec = json!({"expirationSeconds": PROJECTED_SECONDS,
                          "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "web"}});
        let (answer, claims) = ask(spec.clone()).expect("granted");
        assert_eq!(claims.exp - claims.iat, EXTENDED_SECONDS);
        assert_eq!(claims.kubernetes.warnafter, Some(claims.iat + PROJECTED_SECONDS));
        assert_eq!(answer["status"]["expirationTimestamp"], "2027-01-15T09:00:07Z");
        let mut elsewhere = spec;
        elsewhere["audiences"] = json!(["vault"]);
        let (_, claims) = ask(elsewhere).expect("granted");
        assert_eq!(claims.exp - claims.iat, PROJECTED_SECONDS);
    }
}
