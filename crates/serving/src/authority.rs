//! Who may ask: the API server is asked (TokenReview, SubjectAccessReview), its answers are kept for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::user::{User, bearer_token};

/// Answers kept at most; then all are forgotten.
const KEPT: usize = 4096;

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

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// With a subresource of a node.
    Node { verb: &'static str, node: String, subresource: &'static str },
    /// With a path that is no resource's.
    Path { verb: String, path: String },
}

/// Whom to believe, and for how long.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The API server is asked about tokens.
    pub tokens: bool,
    /// Who does not say who they are is `system:anonymous`.
    pub anonymous: bool,
    /// Whoever is somebody may do anything.
    pub everything_allowed: bool,
    /// How long answers are kept.
    pub token: Duration,
    pub allowed: Duration,
    pub denied: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self {
            tokens: true,
            anonymous: true,
            everything_allowed: false,
            token: ten,
            allowed: ten,
            denied: ten,
        }
    }
}

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("forbidden: user {user:?}: {act:?}")]
    Forbidden { user: String, act: Act },
    #[error("cannot ask the API server about the request: {0}")]
    Unavailable(String),
}

impl Refusal {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The API server's judgement, as of late.
pub struct Authority {
    client: kube::Client,
    rules: Rules,
    /// By the token's digest: tokens are not kept.
    tokens: Kept<[u8; 32], Option<User>>,
    access: Kept<(User, Act), bool>,
}

impl Authority {
    pub fn new(client: kube::Client, rules: Rules) -> Self {
        Self { client, rules, tokens: Kept::new(), access: Kept::new() }
    }

    /// Who asks: whom the connection's certificate names, or a token, or nobody in particular.
    pub async fn authenticate(
        &self,
        certificate: Option<User>,
        headers: &HeaderMap,
    ) -> Result<User, Refusal> {
        if let Some(user) = certificate {
            return Ok(user);
        }
        match bearer_token(headers) {
            Some(token) => self.user_of(token).await,
            None if self.rules.anonymous => Ok(User::anonymous()),
            None => Err(Refusal::Unauthorized),
        }
    }

    async fn user_of(&self, token: &str) -> Result<User, Refusal> {
        if !self.rules.tokens {
            return Err(Refusal::Unauthorized);
        }
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.tokens.get(&key) {
            return known.ok_or(Refusal::Unauthorized);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..Default::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = api.create(&PostParams::default(), &review).await?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true)).and_then(|user| {
            Some(User {
                name: user.username?,
                uid: user.uid.unwrap_or_default(),
                groups: user.groups.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            })
        });
        self.tokens.put(key, user.clone(), if user.is_some() { self.rules.token } else { self.rules.denied });
        user.ok_or(Refusal::Unauthorized)
    }

    /// Whether the user may.
    pub async fn allows(&self, user: &User, act: Act) -> Result<bool, Refusal> {
        if self.rules.everything_allowed {
            return Ok(true);
        }
        let key = (user.clone(), act);
        if let Some(known) = self.access.get(&key) {
            return Ok(known);
        }
        let review = SubjectAccessReview { spec: question(user, &key.1), ..Default::default() };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.access.put(key, allowed, if allowed { self.rules.allowed } else { self.rules.denied });
        Ok(allowed)
    }
}

fn question(user: &User, act: &Act) -> SubjectAccessReviewSpec {
    let mut spec = SubjectAccessReviewSpec {
        user: Some(user.name.clone()),
        uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra| !extra.is_empty()),
        ..Default::default()
    };
    match act {
        Act::Node { verb, node, subresource } => {
            spec.resource_attributes = Some(ResourceAttributes {
                group: Some(String::new()),
                version: Some("v1".into()),
                resource: Some("nodes".into()),
                subresource: Some((*subresource).to_owned()),
                name: Some(node.clone()),
                verb: Some((*verb).to_owned()),
                ..Default::default()
            });
        }
        Act::Path { verb, path } => {
            spec.non_resource_attributes =
                Some(NonResourceAttributes { path: Some(path.clone()), verb: Some(verb.clone()) });
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_their_time() {
        let kept = Kept::new();
        kept.put("a", true, Duration::from_secs(60));
        kept.put("b", true, Duration::ZERO);
        assert_eq!((kept.get(&"a"), kept.get(&"b")), (Some(true), None));
    }

    #[test]
    fn tokens_are_found_whatever_the_scheme_is_written_like() {
        let check = |value: &str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer_token(&headers), expected, "{value}");
        };
        check("Bearer abc", Some("abc"));
        check("bearer  abc ", Some("abc"));
        check("Bearer ", None);
        check("Basic abc", None);
        check("abc", None);
    }
}
