//! The policy: how much of which requests is recorded. The first rule that matches a request decides.

use std::path::Path;

use serde::Deserialize;

use crate::UserInfo;
use crate::request::RequestInfo;

/// A policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("audit policy {path}: {reason}")]
pub struct PolicyError {
    path: String,
    reason: String,
}

/// How much is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    #[default]
    None,
    /// Who did what, but no objects.
    Metadata,
    /// And the object of the request.
    Request,
    /// And that of the response.
    RequestResponse,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// A point in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    /// Of requests that go on after the headers of the response: watches and streams.
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What the policy says of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let failed = |reason: String| PolicyError { path: path.display().to_string(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(format!(
                "{:?} {:?} is not a Policy of audit.k8s.io/v1",
                policy.api_version, policy.kind
            ));
        }
        if policy.rules.is_empty() {
            return Err("there are no rules: at least one is needed".to_owned());
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|reason| format!("rules[{index}]: {reason}"))?;
        }
        Ok(policy)
    }

    /// Requests that no rule matches are not recorded. Without a user: one that could not be identified.
    pub fn judge(&self, info: &RequestInfo, user: Option<&UserInfo>) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(info, user)) else {
            return Verdict::default();
        };
        Verdict {
            level: rule.level,
            omit_stages: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), &'static str> {
        if !self.urls.is_empty() && (!self.resources.is_empty() || !self.namespaces.is_empty()) {
            return Err("rules cannot apply to both regular resources and non-resource URLs");
        }
        for url in &self.urls {
            if url != "*" && !url.starts_with('/') {
                return Err("non-resource URL rules must begin with a '/' character");
            }
            if url.trim_end_matches('*').contains('*') || url.ends_with("**") {
                return Err("non-resource URL wildcards '*' must be the final character of the rule");
            }
        }
        for resources in &self.resources {
            if !resources.resource_names.is_empty() && resources.resources.is_empty() {
                return Err("using resourceNames requires at least one resource");
            }
            if resources.group.contains('/') {
                return Err("a group is named without its version");
            }
        }
        Ok(())
    }

    fn matches(&self, info: &RequestInfo, user: Option<&UserInfo>) -> bool {
        let (name, groups) = user.map_or(("", &[][..]), |user| (&user.name, &user.groups));
        let fits = |wanted: &[String], have: &str| wanted.is_empty() || wanted.iter().any(|one| one == have);
        if !fits(&self.users, name) || !fits(&self.verbs, &info.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !groups.iter().any(|group| self.user_groups.contains(group)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return info.is_resource
                && fits(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.match_request(info)));
        }
        if !self.urls.is_empty() {
            return !info.is_resource && self.urls.iter().any(|url| url_matches(url, &info.path));
        }
        true
    }
}

impl Resources {
    fn match_request(&self, info: &RequestInfo) -> bool {
        if self.group != info.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&info.name);
        named && self.resources.iter().any(|resource| resource_matches(resource, info))
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`.
fn resource_matches(wanted: &str, info: &RequestInfo) -> bool {
    if wanted == "*" {
        return true;
    }
    let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
    let subresource_fits =
        subresource == info.subresource || (subresource == "*" && !info.subresource.is_empty());
    (resource == "*" || resource == info.resource) && subresource_fits
}

fn url_matches(wanted: &str, path: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => wanted == path,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/version"]
- level: Metadata
  resources: [{group: "", resources: ["secrets", "configmaps", "serviceaccounts/token"]}]
- level: RequestResponse
  users: ["alice"]
  namespaces: ["a"]
  omitStages: [ResponseStarted]
  omitManagedFields: false
- level: Request
  userGroups: ["dev"]
  verbs: ["create"]
  resources: [{group: "apps", resources: ["*/scale", "deployments"], resourceNames: ["d"]}, {group: batch}]
- level: Metadata
  namespaces: [""]
"#;

    #[test]
    fn the_first_rule_that_fits() {
        let policy = Policy::parse(POLICY).expect("a policy");
        let check = |name: &str, groups: &[&str], method: Method, path: &str, expected: Level| {
            let (info, user) = (RequestInfo::parse(&method, path, ""), UserInfo::authenticated(name, groups));
            assert_eq!(policy.judge(&info, Some(&user)).level, expected, "{name} {method} {path}");
        };
        let (get, post) = (Method::GET, Method::POST);
        check("bob", &[], get.clone(), "/healthz/etcd", Level::None);
        check("bob", &[], get.clone(), "/api/v1/namespaces/a/secrets/x", Level::Metadata);
        check("alice", &[], get.clone(), "/api/v1/namespaces/a/secrets/x", Level::Metadata);
        check("alice", &[], get.clone(), "/api/v1/namespaces/a/pods/x", Level::RequestResponse);
        check("alice", &[], get.clone(), "/api/v1/namespaces/b/pods/x", Level::None);
        check("bob", &[], post.clone(), "/api/v1/namespaces/b/serviceaccounts/x/token", Level::Metadata);
        check("bob", &["dev"], post.clone(), "/apis/apps/v1/namespaces/b/deployments/d", Level::Request);
        check(
            "bob",
            &["dev"],
            post.clone(),
            "/apis/apps/v1/namespaces/b/deployments/d/scale",
            Level::Request,
        );
        check("bob", &["dev"], post.clone(), "/apis/apps/v1/namespaces/b/deployments/x", Level::None);
        check("bob", &["dev"], post.clone(), "/apis/batch/v1/namespaces/b/jobs", Level::Request);
        check("bob", &[], post, "/apis/batch/v1/namespaces/b/jobs", Level::None);
        check("bob", &[], get.clone(), "/api/v1/nodes/n", Level::Metadata);
        let info = RequestInfo::parse(&get, "/api/v1/namespaces/a/pods/x", "");
        let alice = UserInfo::authenticated("alice", &[]);
        let verdict = policy.judge(&info, Some(&alice));
        assert_eq!(verdict.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
        assert!(!verdict.omit_managed_fields);
        assert_eq!(policy.judge(&info, None).level, Level::None);
    }

    #[test]
    fn bad_policies() {
        let check = |rules: &str, part: &str| {
            let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
            let error = Policy::parse(&text).expect_err("refused");
            assert!(error.contains(part), "{error}, not {part}");
        };
        check("- {level: All}", "level");
        check("- {level: None, verb: [get]}", "verb");
        check("- {level: None, namespaces: [a], nonResourceURLs: [/x]}", "both");
        check("- {level: None, nonResourceURLs: [x]}", "begin with");
        check("- {level: None, nonResourceURLs: [/a*b]}", "final character");
        check("- {level: None, resources: [{group: apps/v1}]}", "version");
        assert!(Policy::parse("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []").is_err());
        assert!(
            Policy::parse("apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]").is_err()
        );
    }
}
