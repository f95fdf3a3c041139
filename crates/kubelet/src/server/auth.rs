//! Who may ask what of the node: paths are subresources of it, and the API server is asked about those.

use http::{HeaderMap, Method, StatusCode};
use serving::authority::{Act, Refusal, Rules};
use serving::{Authority, User};

use crate::Options;
use crate::config::{KubeletConfiguration, duration};

/// What the configuration says about who may ask.
fn rules(config: &KubeletConfiguration) -> Rules {
    use std::time::Duration;
    let (authentication, authorization) = (&config.authentication, &config.authorization);
    let seconds = |text: &str, default: u64| duration(text).unwrap_or(Duration::from_secs(default));
    Rules {
        tokens: authentication.webhook.enabled,
        anonymous: authentication.anonymous.enabled,
        everything_allowed: authorization.mode == "AlwaysAllow",
        token: seconds(&authentication.webhook.cache_ttl, 120),
        allowed: seconds(&authorization.webhook.cache_authorized_ttl, 300),
        denied: seconds(&authorization.webhook.cache_unauthorized_ttl, 30),
    }
}

/// Admits requests to the API of one node.
pub struct NodeAuthority {
    authority: Authority,
    node_name: String,
}

impl NodeAuthority {
    pub fn new(client: kube::Client, options: &Options) -> Self {
        let authority = Authority::new(client, rules(&options.config));
        Self { authority, node_name: options.node_name.clone() }
    }

    /// Says so when the request may not be made.
    pub async fn admit(
        &self,
        certificate: Option<User>,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<(), (StatusCode, String)> {
        let told = |refusal: Refusal| (refusal.status(), refusal.to_string());
        let user = self.authority.authenticate(certificate, headers).await.map_err(told)?;
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "get",
        };
        let subresources = subresources(path);
        for subresource in subresources {
            let act = Act::Node { verb, node: self.node_name.clone(), subresource };
            if self.authority.allows(&user, act).await.map_err(told)? {
                return Ok(());
            }
        }
        Err((
            StatusCode::FORBIDDEN,
            format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
                user.name,
                subresources.join(" ")
            ),
        ))
    }
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
        "statusz" => &["statusz", "proxy"],
        "flagz" => &["flagz", "proxy"],
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
}
