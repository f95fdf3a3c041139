//! Identity tokens: what `docker login` leaves for registries that give refresh tokens in place of passwords.
//!
//! Such a token is exchanged, at the service that the registry names, for one that is good for a repository and a while.

use std::time::Duration;

use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use reqwest::header::WWW_AUTHENTICATE;
use serde::Deserialize;

use crate::Error;
use crate::hosts::Endpoint;
use crate::pull::Auth;

const PATIENCE: Duration = Duration::from_secs(30);
/// A longer answer is no token.
const LARGEST_ANSWER: usize = 1 << 20;

/// The service that gives tokens, as `WWW-Authenticate: Bearer realm="...",service="..."` names it.
#[derive(Debug, PartialEq)]
struct Challenge {
    realm: String,
    service: String,
}

#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token: Option<String>,
}

/// What is shown to the registry, with identity tokens exchanged.
pub async fn registry_auth(
    auth: &Auth,
    endpoint: &Endpoint,
    reference: &Reference,
    operation: RegistryOperation,
) -> Result<RegistryAuth, Error> {
    Ok(match auth {
        Auth::Anonymous => RegistryAuth::Anonymous,
        Auth::Basic { user, password } => RegistryAuth::Basic(user.clone(), password.clone()),
        Auth::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        Auth::Identity(token) => {
            let actions = match operation {
                RegistryOperation::Pull => "pull",
                RegistryOperation::Push => "pull,push",
            };
            let scope = format!("repository:{}:{actions}", reference.repository());
            let exchanged = exchange(endpoint, &scope, token).await;
            let failed = |reason| Error::Credentials { registry: endpoint.host.clone(), reason };
            RegistryAuth::Bearer(exchanged.map_err(failed)?)
        }
    })
}

async fn exchange(endpoint: &Endpoint, scope: &str, token: &str) -> Result<String, String> {
    let client = client(endpoint)?;
    let scheme = if endpoint.plain_http { "http" } else { "https" };
    let told = |what: &str, error: reqwest::Error| format!("{what}: {}", error.without_url());
    let answer = client.get(format!("{scheme}://{}/v2/", endpoint.host)).send().await;
    let answer = answer.map_err(|e| told("ask the registry who gives tokens", e))?;
    let header = answer.headers().get(WWW_AUTHENTICATE).and_then(|h| h.to_str().ok()).unwrap_or_default();
    let challenge = challenge(header).ok_or("the registry names no service that gives tokens")?;
    let form = [
        ("grant_type", "refresh_token"),
        ("service", &challenge.service),
        ("client_id", "corten"),
        ("scope", scope),
        ("refresh_token", token),
    ];
    let answer = client.post(&challenge.realm).form(&form).send().await;
    let answer = answer.map_err(|e| told("exchange the identity token", e))?;
    if !answer.status().is_success() {
        return Err(format!("the identity token is not taken: {}", answer.status()));
    }
    let text = answer.text().await.map_err(|e| told("read the token", e))?;
    if text.len() > LARGEST_ANSWER {
        return Err("the answer is too long for a token".to_owned());
    }
    let answer: Answer = serde_json::from_str(&text).map_err(|_| "the answer holds no token".to_owned())?;
    answer.access_token.or(answer.token).ok_or_else(|| "the answer holds no token".to_owned())
}

fn client(endpoint: &Endpoint) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder().timeout(PATIENCE);
    if endpoint.skip_verify {
        builder = builder.danger_accept_invalid_certs(true);
    }
    for certificate in endpoint.certificates().map_err(|e| e.to_string())? {
        let parsed = reqwest::Certificate::from_pem_bundle(&certificate.data).map_err(|e| e.to_string())?;
        for certificate in parsed {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|e| e.to_string())
}

fn challenge(header: &str) -> Option<Challenge> {
    let (scheme, fields) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let field = |name: &str| {
        let found =
            fields.split(',').find_map(|f| f.trim().strip_prefix(name)?.trim_start().strip_prefix('='));
        found.map(|value| value.trim().trim_matches('"').to_owned())
    };
    Some(Challenge { realm: field("realm")?, service: field("service").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let check = |header: &str, expected: Option<(&str, &str)>| {
            let found = challenge(header);
            let found = found.as_ref().map(|c| (c.realm.as_str(), c.service.as_str()));
            assert_eq!(found, expected, "{header}");
        };
        check(r#"Bearer realm="https://a/token",service="reg""#, Some(("https://a/token", "reg")));
        check(r#"bearer service="reg", realm="https://a/t""#, Some(("https://a/t", "reg")));
        check(r#"Bearer realm="https://a/t""#, Some(("https://a/t", "")));
        check("Basic realm=\"x\"", None);
        check("Bearer service=\"x\"", None);
        check("", None);
    }
}
