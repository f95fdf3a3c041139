//! Users by the tokens of other issuers: OpenID Connect, as an AuthenticationConfiguration describes it.

pub mod configuration;
mod keys;
mod mapping;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::UserInfo;
use super::remembered::{self, Remembered};
use crate::admission::objects::items;
use crate::outbound::client::{Client, ClientError};
use crate::token::jwt::{JwtError, Unverified};
use keys::Keys;
use mapping::Mapping;

/// Clocks differ: so much before its time a token is accepted already.
const LEEWAY_SECONDS: i64 = 300;
/// For so long a user is remembered; as long as upstream does.
const REMEMBERED: Duration = Duration::from_secs(10);

/// Why a token of an issuer was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum JwtAuthnError {
    #[error(transparent)]
    Token(#[from] JwtError),
    #[error("cannot get the issuer's keys from {url}: {reason}")]
    Discovery { url: String, reason: String },
    #[error("the token's signature does not match any key of its issuer")]
    Signature,
    #[error("the token is for {audiences:?}, not for this server")]
    Audience { audiences: Vec<String> },
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("{reason}")]
    Claims { reason: String },
}

/// One issuer that is trusted.
pub struct JwtIssuer {
    pub url: String,
    audiences: Vec<String>,
    keys: Keys,
    mapping: Mapping,
    users: Remembered<(UserInfo, i64)>,
}

impl JwtIssuer {
    /// From an entry of `jwt`. Errors name the field.
    pub fn read(config: &Value) -> Result<Self, String> {
        let issuer = &config["issuer"];
        let url = issuer["url"].as_str().unwrap_or_default().to_owned();
        if !url.starts_with("https://") || url.contains(['?', '#']) {
            return Err(format!("issuer.url: {url:?} is not an https URL without query and fragment"));
        }
        let audiences: Vec<String> =
            items(&issuer["audiences"]).filter_map(Value::as_str).map(str::to_owned).collect();
        if audiences.is_empty() || audiences.iter().any(String::is_empty) {
            return Err("issuer.audiences: at least one audience is required".to_owned());
        }
        if audiences.len() > 1 && issuer["audienceMatchPolicy"].as_str() != Some("MatchAny") {
            return Err("issuer.audienceMatchPolicy: must be MatchAny for multiple audiences".to_owned());
        }
        let discovery = match issuer["discoveryURL"].as_str().filter(|url| !url.is_empty()) {
            Some(discovery) if discovery == url => {
                return Err("issuer.discoveryURL: must not be the same as issuer.url".to_owned());
            }
            Some(discovery) if discovery.starts_with("https://") => discovery.to_owned(),
            Some(discovery) => return Err(format!("issuer.discoveryURL: {discovery:?} is not an https URL")),
            None => format!("{}/.well-known/openid-configuration", url.trim_end_matches('/')),
        };
        let authority = issuer["certificateAuthority"].as_str().filter(|pem| !pem.is_empty());
        let client = Client::anonymous(&url, authority.map(str::as_bytes))
            .map_err(|error: ClientError| format!("issuer: {error}"))?;
        Ok(Self {
            keys: Keys::new(client, url.clone(), discovery),
            mapping: Mapping::read(config)?,
            users: Remembered::default(),
            url,
            audiences,
        })
    }

    /// The user of a token that says it is of this issuer.
    pub async fn user(&self, token: &str, now: Timestamp) -> Result<UserInfo, JwtAuthnError> {
        let known = remembered::key(token.as_bytes());
        if let Some((user, expires)) = self.users.get(&known)
            && now.as_second() < expires
        {
            return Ok(user);
        }
        let parsed = Unverified::parse(token)?;
        self.keys
            .verify(&parsed.algorithm, parsed.key.as_deref(), parsed.message.as_bytes(), &parsed.signature)
            .await?;
        let claims: Value = serde_json::from_slice(&parsed.claims).map_err(|_| JwtError::Claims)?;
        let expires = self.check(&claims, now.as_second())?;
        let user = self.mapping.user(&claims)?;
        self.users.put(known, (user.clone(), expires), REMEMBERED);
        Ok(user)
    }

    /// Issuer, audience and time. Returns when it expires.
    fn check(&self, claims: &Value, now: i64) -> Result<i64, JwtAuthnError> {
        let missing = |claim: &str| JwtAuthnError::Claims { reason: format!("there is no claim {claim:?}") };
        if claims["iss"].as_str() != Some(&self.url) {
            return Err(JwtAuthnError::Claims { reason: "the token is of another issuer".to_owned() });
        }
        let audiences: Vec<String> = match &claims["aud"] {
            Value::String(one) => vec![one.clone()],
            many => items(many).filter_map(Value::as_str).map(str::to_owned).collect(),
        };
        if !audiences.iter().any(|audience| self.audiences.contains(audience)) {
            return Err(JwtAuthnError::Audience { audiences });
        }
        // Numbers of dates may have fractions.
        let second = |claim: &str| claims[claim].as_f64().map(|second| second as i64);
        let expires = second("exp").ok_or_else(|| missing("exp"))?;
        if now >= expires {
            return Err(JwtAuthnError::Expired);
        }
        if second("nbf").is_some_and(|begins| now.saturating_add(LEEWAY_SECONDS) < begins) {
            return Err(JwtAuthnError::NotYetValid);
        }
        Ok(expires)
    }
}
