//! Users by service account token: the signature has been checked, here follow time and the objects that the
//! token is bound to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use ring::digest;
use serde_json::Value;

use super::{AuthnError, CREDENTIAL_ID, UserInfo};
use crate::admission::objects::{self, NODES, Objects, PODS, SECRETS, SERVICE_ACCOUNTS};
use crate::token::claims::{Claims, Reference};
use crate::token::jwt::JwtError;

/// For so long a token still works after the deletion of its pod has begun, beyond the grace period.
const DELETION_LEEWAY_SECONDS: i64 = 60;

const INVALID: &str = "has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the 'kubernetes.io/legacy-token-invalid-since' label from the secret to temporarily allow use of this token";

/// Signatures are checked once per token; more than these at a time and checking starts over.
const MAX_VERIFIED: usize = 4096;

/// Tokens whose signature is known to be good, by their SHA-256.
#[derive(Default)]
pub struct Verified(Mutex<HashMap<[u8; 32], Arc<Claims>>>);

impl Verified {
    pub fn get_or_verify(
        &self,
        token: &str,
        verify: impl FnOnce() -> Result<Claims, JwtError>,
    ) -> Result<Arc<Claims>, JwtError> {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let Ok(key) = <[u8; 32]>::try_from(digest.as_ref()) else {
            return verify().map(Arc::new);
        };
        if let Some(claims) = self.0.lock().get(&key) {
            return Ok(claims.clone());
        }
        let claims = Arc::new(verify()?);
        let mut known = self.0.lock();
        if known.len() >= MAX_VERIFIED {
            known.clear();
        }
        known.insert(key, claims.clone());
        Ok(claims)
    }
}

/// The user of verified claims.
pub fn user(claims: &Claims, objects: &dyn Objects, now: Timestamp) -> Result<UserInfo, AuthnError> {
    let second = now.as_second();
    if second >= claims.exp {
        return Err(AuthnError::Expired);
    }
    if second < claims.nbf {
        return Err(AuthnError::NotYetValid);
    }
    let bound = &claims.kubernetes;
    let (namespace, account) = (&bound.namespace, &bound.serviceaccount);
    let mut user = UserInfo::service_account(namespace, &account.name);
    if claims.sub != user.name {
        return Err(AuthnError::Subject);
    }

    let current = objects.get(SERVICE_ACCOUNTS, namespace, &account.name);
    held("serviceaccount", account, current.as_deref(), second)?;
    if let Some(secret) = &bound.secret {
        let current = objects.get(SECRETS, namespace, &secret.name);
        held("secret", secret, current.as_deref(), second)?;
        if current.as_deref().is_some_and(super::legacy::is_invalid) {
            let (kind, name, problem) = ("secret", secret.name.clone(), INVALID);
            return Err(AuthnError::Bound { kind, name, problem });
        }
    }
    if let Some(pod) = &bound.pod {
        let current = objects.get(PODS, namespace, &pod.name);
        held("pod", pod, current.as_deref(), second)?;
    } else if let Some(node) = &bound.node {
        // The node of a token that is bound to a pod is information only.
        let current = objects.get(NODES, "", &node.name);
        held("node", node, current.as_deref(), second)?;
    }

    user.uid = account.uid.clone();
    user.extra = extra(claims);
    Ok(user)
}

fn extra(claims: &Claims) -> BTreeMap<String, Vec<String>> {
    let mut extra = BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(key.to_owned(), vec![value.to_owned()]);
        }
    };
    if let Some(pod) = &claims.kubernetes.pod {
        put("authentication.kubernetes.io/pod-name", &pod.name);
        put("authentication.kubernetes.io/pod-uid", &pod.uid);
    }
    if let Some(node) = &claims.kubernetes.node {
        put("authentication.kubernetes.io/node-name", &node.name);
        put("authentication.kubernetes.io/node-uid", &node.uid);
    }
    if !claims.jti.is_empty() {
        put(CREDENTIAL_ID, &format!("JTI={}", claims.jti));
    }
    extra
}

/// Whether the object is still the one that the token was bound to, and is there to stay.
fn held(
    kind: &'static str,
    reference: &Reference,
    current: Option<&Value>,
    now: i64,
) -> Result<(), AuthnError> {
    let problem = |problem| Err(AuthnError::Bound { kind, name: reference.name.clone(), problem });
    let Some(current) = current else {
        return problem("does not exist");
    };
    if objects::uid(current) != reference.uid {
        return problem("has another uid: it was deleted and created again");
    }
    let deleted =
        current["metadata"]["deletionTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    if deleted.is_some_and(|time| now > time.as_second() + DELETION_LEEWAY_SECONDS) {
        return problem("has been deleted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::objects::tests::Fixture;
    use crate::token::claims::Kubernetes;

    const NOW: i64 = 1_800_000_000;

    fn object(namespace: &str, name: &str, uid: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}})
    }

    fn fixture() -> Fixture {
        let mut dying = object("ns", "dying", "d");
        dying["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
        let mut dead = object("ns", "dead", "d");
        dead["metadata"]["deletionTimestamp"] = json!("2027-01-15T07:58:00Z");
        Fixture::new()
            .add(SERVICE_ACCOUNTS, object("ns", "sa", "sa-uid"))
            .add(PODS, object("ns", "web", "pod-uid"))
            .add(PODS, dying)
            .add(PODS, dead)
            .add(SECRETS, object("ns", "s", "secret-uid"))
            .add(NODES, object("", "n1", "node-uid"))
    }

    fn claims() -> Claims {
        Claims {
            aud: vec!["api".into()],
            exp: NOW + 600,
            iat: NOW,
            iss: "issuer".into(),
            jti: "id".into(),
            kubernetes: Kubernetes {
                namespace: "ns".into(),
                serviceaccount: reference("sa", "sa-uid"),
                ..Kubernetes::default()
            },
            nbf: NOW,
            sub: "system:serviceaccount:ns:sa".into(),
        }
    }

    fn reference(name: &str, uid: &str) -> Reference {
        Reference { name: name.into(), uid: uid.into() }
    }

    #[test]
    fn accepted_and_refused() {
        let check = |change: &dyn Fn(&mut Claims), at: i64, expected: &str| {
            let mut claims = claims();
            change(&mut claims);
            let now = Timestamp::from_second(at).expect("a time");
            match user(&claims, &fixture(), now) {
                Ok(user) => assert_eq!(user.name, expected),
                Err(error) => assert!(
                    !expected.is_empty() && error.to_string().contains(expected),
                    "{error}, not {expected}"
                ),
            }
        };
        let good = "system:serviceaccount:ns:sa";
        check(&|_| {}, NOW, good);
        check(&|_| {}, NOW + 600, "expired");
        check(&|_| {}, NOW - 1, "not valid yet");
        check(&|c| c.sub = "system:serviceaccount:ns:admin".into(), NOW, "subject");
        check(&|c| c.kubernetes.serviceaccount.uid = "old".into(), NOW, "another uid");
        check(&|c| c.kubernetes.pod = Some(reference("web", "pod-uid")), NOW, good);
        check(&|c| c.kubernetes.pod = Some(reference("web", "old")), NOW, "another uid");
        check(&|c| c.kubernetes.pod = Some(reference("gone", "x")), NOW, "does not exist");
        check(&|c| c.kubernetes.pod = Some(reference("dying", "d")), NOW, good);
        check(&|c| c.kubernetes.pod = Some(reference("dead", "d")), NOW, "has been deleted");
        check(&|c| c.kubernetes.secret = Some(reference("s", "secret-uid")), NOW, good);
        check(&|c| c.kubernetes.secret = Some(reference("gone", "x")), NOW, "does not exist");
        check(&|c| c.kubernetes.node = Some(reference("n1", "node-uid")), NOW, good);
        check(&|c| c.kubernetes.node = Some(reference("n2", "x")), NOW, "does not exist");
    }

    #[test]
    fn the_user_carries_what_the_token_is_bound_to() {
        let mut claims = claims();
        claims.kubernetes.pod = Some(reference("web", "pod-uid"));
        claims.kubernetes.node = Some(reference("n1", "node-uid"));
        let now = Timestamp::from_second(NOW).expect("a time");
        let user = user(&claims, &fixture(), now).expect("accepted");
        assert_eq!(user.uid, "sa-uid");
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["web"]);
        assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
        assert_eq!(user.extra[CREDENTIAL_ID], ["JTI=id"]);
        assert!(user.in_group("system:serviceaccounts:ns"));
    }

    #[test]
    fn signatures_are_checked_once() {
        let verified = Verified::default();
        let first = verified.get_or_verify("a", || Ok(claims())).expect("verified");
        let second = verified.get_or_verify("a", || Err(JwtError::Signature)).expect("remembered");
        assert_eq!(first, second);
        assert!(verified.get_or_verify("b", || Err(JwtError::Signature)).is_err());
        // Failures are not remembered.
        assert!(verified.get_or_verify("b", || Ok(claims())).is_ok());
    }
}
