//! Who may ask: the API server is asked (TokenReview, SubjectAccessReview), its answers are kept for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Options;
use crate::config::{KubeletConfiguration, duration};

/// Answers kept at most; then all are forgotten.
const KEPT: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    /// The user that a (verified) certificate names: common name and organizations.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let mut groups: Vec<String> = subject
            .iter_organization()
            .filter_map(|organization| organization.as_str().ok().map(str::to_owned))
            .collect();
        groups.push("system:authenticated".into());
        Some(Self { name, groups })
    }
}

struct Kept<K, V> {
    answers: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K: Hash + Eq, V: Clone> Kept<K, V> {
    fn new() -> Self {
        Self { answers: Mutex::default() }
    }

    fn get(&self, key: &K) -> Option<V> {
        let answers = self.answers.lock();
        let (answer, until) = answers.get(key)?;
        (Instant::now() < *until).then(|| answer.clone())
    }

    fn put(&self, key: K, answer: V, keep: Duration) {
        let mut answers = self.answers.lock();
        if answers.len() >= KEPT {
            answers.clear();
        }
        answers.insert(key, (answer, Instant::now() + keep));
    }
}

type Asked = (User, String, String);

pub struct Authority {
    client: kube::Client,
    node_name: String,
    /// By the token's digest: tokens are not kept.
    tokens: Kept<[u8; 32], Option<User>>,
    access: Kept<Asked, bool>,
    rules: Rules,
}

/// What the configuration says about who may ask.
struct Rules {
    tokens: bool,
    anonymous: bool,
    everything_allowed: bool,
    /// How long answers are kept.
    token: Duration,
    allowed: Duration,
    denied: Duration,
}

impl Rules {
    fn of(config: &KubeletConfiguration) -> Self {
        let (authentication, authorization) = (&config.authentication, &config.authorization);
        let seconds = |text: &str, default: u64| duration(text).unwrap_or(Duration::from_secs(default));
        Self {
            tokens: authentication.webhook.enabled,
            anonymous: authentication.anonymous.enabled,
            everything_allowed: authorization.mode == "AlwaysAllow",
            token: seconds(&authentication.webhook.cache_ttl, 120),
            allowed: seconds(&authorization.webhook.cache_authorized_ttl, 300),
            denied: seconds(&authorization.webhook.cache_unauthorized_ttl, 30),
        }
    }
}

/// The answer to a request that may not be made.
pub type Refusal = (StatusCode, String);

impl Authority {
    pub fn new(client: kube::Client, options: &Options) -> Self {
        Self {
            client,
            node_name: options.node_name.clone(),
            tokens: Kept::new(),
            access: Kept::new(),
            rules: Rules::of(&options.config),
        }
    }

    /// Who asks without saying so, if that is allowed.
    pub fn anonymous(&self) -> Result<User, Refusal> {
        if !self.rules.anonymous {
            return Err((StatusCode::UNAUTHORIZED, "Unauthorized".into()));
        }
        Ok(User { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()] })
    }

    /// The user of a bearer token.
    pub async fn authenticate(&self, token: &str) -> Result<User, Refusal> {
        let unauthorized = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        if !self.rules.tokens {
            return Err(unauthorized());
        }
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.tokens.get(&key) {
            return known.ok_or_else(unauthorized);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..Default::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        let status = answer.status.unwrap_or_default();
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .and_then(|user| Some(User { name: user.username?, groups: user.groups.unwrap_or_default() }));
        self.tokens.put(key, user.clone(), if user.is_some() { self.rules.token } else { self.rules.denied });
        user.ok_or_else(unauthorized)
    }

    /// Whether the user may do this to the node.
    pub async fn authorize(&self, user: &User, method: &Method, path: &str) -> Result<(), Refusal> {
        if self.rules.everything_allowed {
            return Ok(());
        }
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        let mut asked = Vec::new();
        for subresource in subresources(path) {
            if self.allowed(user, verb, subresource).await? {
                return Ok(());
            }
            asked.push(*subresource);
        }
        Err((
            StatusCode::FORBIDDEN,
            format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
                user.name,
                asked.join(" ")
            ),
        ))
    }

    async fn allowed(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, Refusal> {
        let key = (user.clone(), verb.to_owned(), subresource.to_owned());
        if let Some(known) = self.access.get(&key) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(String::new()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node_name.clone()),
                    verb: Some(verb.to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(unavailable)?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.access.put(key, allowed, if allowed { self.rules.allowed } else { self.rules.denied });
        Ok(allowed)
    }
}

fn unavailable(error: kube::Error) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot ask the API server about the request: {error}"))
}

/// The subresources of the node any of which opens a path, the narrowest first.
fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources_of_the_node() {
        for (path, expected) in [
            ("/stats/summary", "stats"),
            ("/metrics/resource", "metrics"),
            ("/containerLogs/a/b/c", "proxy"),
            ("/exec/a/b/c", "proxy"),
            ("/pods", "pods"),
            ("/", "proxy"),
        ] {
            assert_eq!(subresources(path)[0], expected, "{path}");
        }
    }

    #[test]
    fn answers_are_kept_for_their_time() {
        let kept = Kept::new();
        kept.put("a", true, Duration::from_secs(60));
        kept.put("b", true, Duration::ZERO);
        assert_eq!((kept.get(&"a"), kept.get(&"b")), (Some(true), None));
    }
}
