//! Who is asking: turns the credentials of a request into a [`UserInfo`].
//!
//! In this order: a client certificate (verified by rustls during the handshake), a bearer token of a service
//! account or of a bootstrapping node, nobody. A credential that is present but bad is 401: it never falls
//! back to anonymous.

pub mod bearer;
pub mod bootstrap;
pub mod impersonate;
pub mod request_header;
pub mod service_account;
pub mod user;
pub mod x509;

use std::sync::Arc;

use api::status::Status;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tracing::debug;

use crate::admission::objects::Objects;
use crate::config::Config;
use crate::request::RequestInfo;
use crate::token::Issuer;
use crate::token::jwt::{self, JwtError};
pub use user::UserInfo;

/// Where `extra` names the credential that a user came with, for audit.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Why a credential was not accepted. Logged and told to token reviewers; the client itself gets a bare 401.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthnError {
    #[error("client certificate not accepted: {reason}")]
    Certificate { reason: &'static str },
    #[error("[invalid bearer token, {0}]")]
    Jwt(#[from] JwtError),
    #[error(
        "[invalid bearer token, token audiences {audiences:?} is invalid for the target audiences {wanted:?}]"
    )]
    Audience { audiences: Vec<String>, wanted: Vec<String> },
    #[error("[invalid bearer token, service account token has expired]")]
    Expired,
    #[error("[invalid bearer token, service account token is not valid yet]")]
    NotYetValid,
    #[error("[invalid bearer token, service account token was issued by another issuer]")]
    Issuer,
    #[error("[invalid bearer token, service account token subject does not match its claims]")]
    Subject,
    #[error("[invalid bearer token, {kind} {name:?} that the token is bound to {problem}]")]
    Bound { kind: &'static str, name: String, problem: &'static str },
    #[error("bootstrap token not accepted: {reason}")]
    Bootstrap { reason: &'static str },
    #[error("the Authorization header or WebSocket protocol does not hold a bearer token")]
    MalformedHeader,
}

/// Knows every way in which a request can identify itself.
pub struct Authenticator {
    anonymous: bool,
    issuer: Arc<Issuer>,
    objects: Arc<dyn Objects>,
    certificates: x509::Users,
    verified: service_account::Verified,
}

/// A user and, for tokens, the audiences that were both asked for and in the token.
#[derive(Debug)]
pub struct TokenUser {
    pub user: UserInfo,
    pub audiences: Vec<String>,
}

impl Authenticator {
    pub fn new(config: &Config, issuer: Arc<Issuer>, objects: Arc<dyn Objects>) -> Self {
        Self {
            anonymous: config.anonymous_auth,
            issuer,
            objects,
            certificates: x509::Users::default(),
            verified: service_account::Verified::default(),
        }
    }

    /// 401 as a Status unless the request identifies itself or may be anonymous.
    pub async fn authenticate(
        &self,
        request: &http::request::Parts,
        _info: &RequestInfo,
        peer_certificates: &[CertificateDer<'static>],
    ) -> Result<UserInfo, Status> {
        match self.identify(request, peer_certificates) {
            Ok(Some(user)) => Ok(user),
            Ok(None) if self.anonymous => Ok(UserInfo::anonymous()),
            Ok(None) => Err(Status::unauthorized()),
            Err(error) => {
                debug!(%error, path = request.uri.path(), "unable to authenticate the request");
                Err(Status::unauthorized())
            }
        }
    }

    fn identify(
        &self,
        request: &http::request::Parts,
        peer_certificates: &[CertificateDer<'static>],
    ) -> Result<Option<UserInfo>, AuthnError> {
        let now = Timestamp::now();
        if let Some(certificate) = peer_certificates.first() {
            return self.certificates.user(certificate, now).map(Some);
        }
        let Some(token) = bearer::token(&request.headers)? else {
            return Ok(None);
        };
        self.token(&token, &[], now).map(|found| Some(found.user))
    }

    /// The user of a bearer token that is meant for one of `audiences` (none: for this server).
    pub fn token(&self, token: &str, audiences: &[String], now: Timestamp) -> Result<TokenUser, AuthnError> {
        let own = [self.issuer.name().to_owned()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        if let Some(bootstrap) = bootstrap::Token::parse(token) {
            // Such tokens name no audience: they are for this server, and for nobody else.
            if !wanted.contains(&own[0]) {
                return Err(AuthnError::Audience { audiences: own.to_vec(), wanted: wanted.to_vec() });
            }
            let user = bootstrap.user(&*self.objects, now)?;
            return Ok(TokenUser { user, audiences: own.to_vec() });
        }
        let claims = self.verified.get_or_verify(token, || jwt::verify(self.issuer.keys(), token))?;
        if claims.iss != self.issuer.name() {
            return Err(AuthnError::Issuer);
        }
        let audiences: Vec<String> =
            wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if audiences.is_empty() {
            return Err(AuthnError::Audience { audiences: claims.aud.clone(), wanted: wanted.to_vec() });
        }
        let user = service_account::user(&claims, &*self.objects, now)?;
        Ok(TokenUser { user, audiences })
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::objects::SERVICE_ACCOUNTS;
    use crate::admission::objects::tests::Fixture;
    use crate::token::{self, tests::test_issuer};

    fn authenticator(anonymous: bool) -> Authenticator {
        let account = json!({"metadata": {"namespace": "ns", "name": "sa", "uid": "u"}});
        Authenticator {
            anonymous,
            issuer: Arc::new(test_issuer()),
            objects: Arc::new(Fixture::new().add(SERVICE_ACCOUNTS, account)),
            certificates: x509::Users::default(),
            verified: service_account::Verified::default(),
        }
    }

    fn issue(authenticator: &Authenticator, spec: serde_json::Value) -> String {
        let (issuer, objects) = (&authenticator.issuer, &*authenticator.objects);
        let body = json!({"spec": spec});
        let answer =
            token::request::create(issuer, objects, "ns", "sa", body, Timestamp::now()).expect("granted");
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }

    fn parts(authorization: Option<&str>) -> http::request::Parts {
        let mut request = http::Request::builder().uri("/api");
        if let Some(value) = authorization {
            request = request.header("Authorization", value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
    }

    #[test]
    fn who_gets_in() {
        let open = authenticator(true);
        let closed = authenticator(false);
        let token = issue(&open, json!({}));
        let foreign = issue(&open, json!({"audiences": ["vault"]}));
        let check = |authenticator: &Authenticator, header: Option<&str>, expected: Option<&str>| {
            let got = runtime().block_on(authenticator.authenticate(&parts(header), &RequestInfo::default(), &[]));
            match (got, expected) {
                (Ok(user), Some(name)) => assert_eq!(user.name, name, "{header:?}"),
                (Err(status), None) => {
                    assert_eq!((status.code, &*status.message), (401, "Unauthorized"));
                }
                (got, expected) => panic!("{header:?}: {got:?}, not {expected:?}"),
            }
        };
        let bearer = format!("Bearer {token}");
        check(&open, Some(&bearer), Some("system:serviceaccount:ns:sa"));
        check(&open, Some(&bearer.replace("Bearer", "bearer")), Some("system:serviceaccount:ns:sa"));
        // Signed by another server's key.
        check(&closed, Some(&bearer), None);
        check(&open, Some(&format!("Bearer {foreign}")), None);
        check(&open, Some("Bearer junk"), None);
        check(&open, Some("Bearer "), None);
        check(&open, Some("Basic YTpi"), Some("system:anonymous"));
        check(&open, None, Some("system:anonymous"));
        check(&closed, None, None);
    }

    #[test]
    fn reviews_name_the_audiences() {
        let authenticator = authenticator(true);
        let token = issue(&authenticator, json!({"audiences": ["a", "b"]}));
        let wanted = ["b".to_owned(), "c".to_owned()];
        let found = authenticator.token(&token, &wanted, Timestamp::now()).expect("accepted");
        assert_eq!(found.audiences, ["b"]);
        let error = authenticator.token(&token, &[], Timestamp::now()).expect_err("not for us");
        assert!(matches!(error, AuthnError::Audience { .. }), "{error}");
    }
}
