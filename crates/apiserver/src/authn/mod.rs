//! Who is asking: turns the credentials of a request into a [`UserInfo`].
//!
//! In this order: a front proxy's headers, a client certificate, a bearer token (of a file, a bootstrapping node, a
//! service account, another issuer, or one that a webhook knows), nobody. A credential that is present but bad is
//! 401: it never falls back to anonymous.

pub mod bearer;
pub mod bootstrap;
pub mod impersonate;
pub mod jwt;
pub mod legacy;
pub mod remembered;
pub mod request_header;
pub mod service_account;
mod token_file;
pub mod user;
mod webhook;
pub mod x509;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::status::Status;
use arc_swap::ArcSwap;
use exposition::Page;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tracing::debug;

use crate::admission::objects::{Objects, SECRETS};
use crate::config::Config;
use crate::files::{self, Task};
use crate::outbound::client::ClientError;
use crate::request::RequestInfo;
use crate::token::Issuer;
use crate::token::jwt::{JwtError, unverified_issuer, verify};
use jwt::JwtIssuer;
use jwt::configuration::{Anonymous, Settings};
use request_header::RequestHeader;
use token_file::TokenFile;
pub use user::UserInfo;
use webhook::Webhook;

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
    #[error("[invalid bearer token, oidc: {0}]")]
    Foreign(String),
    #[error("[invalid bearer token, {0}]")]
    Webhook(String),
    #[error("bootstrap token not accepted: {reason}")]
    Bootstrap { reason: &'static str },
    #[error("the Authorization header or WebSocket protocol does not hold a bearer token")]
    MalformedHeader,
}

/// What identifies requests cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthnStartError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("{0}")]
    TokenFile(String),
    #[error("--oidc-* flags: {0}")]
    Oidc(String),
    #[error("token webhook: {0}")]
    Webhook(#[from] ClientError),
}

/// Knows every way in which a request can identify itself.
pub struct Authenticator {
    settings: Arc<ArcSwap<Settings>>,
    issuer: Arc<Issuer>,
    objects: Arc<dyn Objects>,
    clients: Option<Arc<x509::Users>>,
    front_proxies: Option<(Arc<x509::Users>, RequestHeader)>,
    tokens: TokenFile,
    webhook: Option<Webhook>,
    verified: service_account::Verified,
    uses: legacy::Uses,
    /// Follow the files.
    _following: Vec<Task>,
}

/// A user and, for tokens, the audiences that were both asked for and in the token.
#[derive(Debug)]
pub struct TokenUser {
    pub user: UserInfo,
    pub audiences: Vec<String>,
}

impl Authenticator {
    pub fn new(
        config: &Config,
        issuer: Arc<Issuer>,
        objects: Arc<dyn Objects>,
    ) -> Result<Self, AuthnStartError> {
        let mut following = Vec::new();
        let mut authority = |path: &Option<PathBuf>| -> Result<Option<Arc<x509::Users>>, AuthnStartError> {
            let Some(path) = path else { return Ok(None) };
            let pem = read(path)?;
            let users = Arc::new(x509::Users::new(&pem).map_err(unusable(path))?);
            let followed = users.clone();
            following.push(files::follow(path, None, pem, move |pem| followed.set_authority(pem)));
            Ok(Some(users))
        };
        let clients = authority(&config.client_ca)?;
        let front_proxies = authority(&config.front_proxy_ca)?;
        let anonymous = if config.anonymous_auth { Anonymous::All } else { Anonymous::None };
        let mut settings = Settings { anonymous, ..Settings::default() };
        if let Some(oidc) = &config.oidc {
            settings.issuers.push(Arc::new(JwtIssuer::read(oidc).map_err(AuthnStartError::Oidc)?));
        }
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        if let Some(path) = &config.authentication_config {
            let (content, anonymous, reserved) = (read(path)?, config.anonymous_auth, issuer.names());
            let first = jwt::configuration::parse(&content, anonymous, &reserved).map_err(unusable(path))?;
            settings.store(Arc::new(first));
            let followed = settings.clone();
            following.push(files::follow(
                path,
                Some(files::Configuration::Authentication),
                content,
                move |content| {
                    let next = jwt::configuration::parse(content, anonymous, &reserved)?;
                    followed.store(Arc::new(next));
                    Ok::<_, String>(())
                },
            ));
        }
        let tokens = config.token_auth_file.as_deref().map(TokenFile::load).transpose();
        Ok(Self {
            settings,
            issuer,
            objects,
            clients,
            front_proxies: front_proxies.map(|users| (users, config.request_header.clone())),
            tokens: tokens.map_err(AuthnStartError::TokenFile)?.unwrap_or_default(),
            webhook: config.token_webhook.as_ref().map(Webhook::new).transpose()?,
            verified: service_account::Verified::default(),
            uses: legacy::Uses::default(),
            _following: following,
        })
    }

    /// Of the certificates by which clients identify themselves.
    pub fn write_metrics(&self, page: &mut Page) {
        if let Some(clients) = &self.clients {
            clients.write_metrics(page);
        }
    }

    /// 401 as a Status unless the request identifies itself or may be anonymous.
    pub async fn authenticate(
        &self,
        request: &http::request::Parts,
        info: &RequestInfo,
        peer_certificates: &[CertificateDer<'static>],
    ) -> Result<UserInfo, Status> {
        match self.identify(request, peer_certificates).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) if self.settings.load().anonymous.allows(&info.path) => Ok(UserInfo::anonymous()),
            Ok(None) => Err(Status::unauthorized()),
            Err(error) => {
                debug!(%error, path = request.uri.path(), "unable to authenticate the request");
                Err(Status::unauthorized())
            }
        }
    }

    async fn identify(
        &self,
        request: &http::request::Parts,
        peer_certificates: &[CertificateDer<'static>],
    ) -> Result<Option<UserInfo>, AuthnError> {
        let now = Timestamp::now();
        let mut failure = None;
        if !peer_certificates.is_empty() {
            if let Some((proxies, names)) = &self.front_proxies
                && let Ok(proxy) = proxies.user(peer_certificates, now)
                && names.allows(&proxy.name)
                && let Some(user) = names.user(&request.headers)
            {
                return Ok(Some(user));
            }
            if let Some(clients) = &self.clients {
                match clients.user(peer_certificates, now) {
                    Ok(user) => return Ok(Some(user)),
                    // A token may still identify the request.
                    Err(error) => failure = Some(error),
                }
            }
        }
        let found = match bearer::token(&request.headers)? {
            Some(token) => Some(self.token(&token, &[], now).await?.user),
            None => None,
        };
        match (found, failure) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    /// The user of a bearer token that is meant for one of `audiences` (none: for this server).
    pub async fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<TokenUser, AuthnError> {
        let own = self.issuer.audiences();
        let wanted = if audiences.is_empty() { own } else { audiences };
        if let Some(user) = self.tokens.user(token) {
            return for_us(user, own, wanted);
        }
        if let Some(bootstrap) = bootstrap::Token::parse(token) {
            return for_us(bootstrap.user(&*self.objects, now)?, own, wanted);
        }
        let issuer = unverified_issuer(token);
        if let Some(issuer) = &issuer
            && !self.issuer.issues(issuer)
        {
            let settings = self.settings.load_full();
            if let Some(foreign) = settings.issuers.iter().find(|known| known.url == *issuer) {
                match foreign.user(token, now).await {
                    Ok(user) => return for_us(user, own, wanted),
                    Err(error) if self.webhook.is_none() => {
                        return Err(AuthnError::Foreign(error.to_string()));
                    }
                    Err(_) => {}
                }
            }
        }
        let ours = issuer.is_some_and(|issuer| self.issuer.issues(&issuer));
        match &self.webhook {
            Some(webhook) if !ours => webhook.user(token, wanted).await.map_err(AuthnError::Webhook),
            _ => self.service_account(token, wanted, now),
        }
    }

    fn service_account(
        &self,
        token: &str,
        wanted: &[String],
        now: Timestamp,
    ) -> Result<TokenUser, AuthnError> {
        let claims = self.verified.get_or_verify(token, || verify(self.issuer.keys(), token))?;
        if !self.issuer.issues(&claims.iss) {
            return Err(AuthnError::Issuer);
        }
        let audiences: Vec<String> =
            wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if audiences.is_empty() {
            return Err(AuthnError::Audience { audiences: claims.aud.clone(), wanted: wanted.to_vec() });
        }
        let user = service_account::user(&claims, &*self.objects, now)?;
        let bound = &claims.kubernetes;
        if let Some(secret) = &bound.secret
            && let Some(secret) = self.objects.get(SECRETS, &bound.namespace, &secret.name)
        {
            self.uses.note(&secret, now);
        }
        Ok(TokenUser { user, audiences })
    }
}

/// The user of a token that names no audience: it is for this server, and for nobody else.
fn for_us(user: UserInfo, own: &[String], wanted: &[String]) -> Result<TokenUser, AuthnError> {
    let audiences: Vec<String> = wanted.iter().filter(|audience| own.contains(audience)).cloned().collect();
    match audiences.is_empty() {
        true => Err(AuthnError::Audience { audiences: own.to_vec(), wanted: wanted.to_vec() }),
        false => Ok(TokenUser { user, audiences }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AuthnStartError> {
    std::fs::read(path).map_err(|source| AuthnStartError::Read { path: path.to_owned(), source })
}

fn unusable(path: &Path) -> impl Fn(String) -> AuthnStartError {
    move |reason| AuthnStartError::Unusable { path: path.to_owned(), reason }
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
        let config = Config {
            client_ca: None,
            front_proxy_ca: None,
            anonymous_auth: anonymous,
            ..Config::local(Path::new("/nonexistent"), 0)
        };
        let objects = Fixture::new().add(SERVICE_ACCOUNTS, account);
        Authenticator::new(&config, Arc::new(test_issuer()), Arc::new(objects)).expect("an authenticator")
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
            let got =
                runtime().block_on(authenticator.authenticate(&parts(header), &RequestInfo::default(), &[]));
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
        let found =
            runtime().block_on(authenticator.token(&token, &wanted, Timestamp::now())).expect("accepted");
        assert_eq!(found.audiences, ["b"]);
        let error =
            runtime().block_on(authenticator.token(&token, &[], Timestamp::now())).expect_err("not for us");
        assert!(matches!(error, AuthnError::Audience { .. }), "{error}");
    }
}
