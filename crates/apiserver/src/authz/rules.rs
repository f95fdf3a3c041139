//! Policy rules: what a rule of a Role grants.

use std::fmt;

use serde_json::Value;

use crate::admission::objects::items;
use crate::request::RequestInfo;

const ALL: &str = "*";

/// One entry of `rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    /// Empty: any name.
    pub names: Vec<String>,
    pub urls: Vec<String>,
}

impl Rule {
    pub fn read(rule: &Value) -> Self {
        let strings = |field: &str| -> Vec<String> {
            let texts = items(&rule[field]).filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Self {
            verbs: strings("verbs"),
            groups: strings("apiGroups"),
            resources: strings("resources"),
            names: strings("resourceNames"),
            urls: strings("nonResourceURLs"),
        }
    }

    /// The rules of a role's `rules`.
    pub fn all(rules: &Value) -> Vec<Self> {
        items(rules).map(Self::read).collect()
    }

    pub fn allows(&self, request: &RequestInfo) -> bool {
        if !has(&self.verbs, &request.verb) {
            return false;
        }
        if !request.is_resource {
            return self.urls.iter().any(|url| url_matches(url, &request.path));
        }
        has(&self.groups, &request.group)
            && self
                .resources
                .iter()
                .any(|rule| resource_matches(rule, &request.resource, &request.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.object_name()))
    }

    /// Whether everything that this rule grants is granted by one or another of `rules`.
    pub fn is_covered_by(&self, rules: &[Self]) -> bool {
        self.parts().all(|part| rules.iter().any(|rule| rule.covers(&part)))
    }

    /// What of this rule none of `rules` grants, as few rules as simply possible.
    pub fn uncovered_by(&self, rules: &[Self]) -> Option<Self> {
        let missing: Vec<Self> =
            self.parts().filter(|part| !rules.iter().any(|rule| rule.covers(part))).collect();
        let mut union = Self::default();
        for part in missing.into_iter() {
            let add = |to: &mut Vec<String>, from: Vec<String>| {
                for text in from {
                    if !to.contains(&text) {
                        to.push(text);
                    }
                }
            };
            add(&mut union.verbs, part.verbs);
            add(&mut union.groups, part.groups);
            add(&mut union.resources, part.resources);
            add(&mut union.names, part.names);
            add(&mut union.urls, part.urls);
        }
        (union != Self::default()).then_some(union)
    }

    /// Rules of one verb, and one group, resource and name, or URL each: together the same.
    fn parts(&self) -> impl Iterator<Item = Self> {
        let names: Vec<Option<&String>> = match self.names.is_empty() {
            true => vec![None],
            false => self.names.iter().map(Some).collect(),
        };
        let one = |text: &String| vec![text.clone()];
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for group in &self.groups {
                for resource in &self.resources {
                    for name in &names {
                        parts.push(Self {
                            verbs: one(verb),
                            groups: one(group),
                            resources: one(resource),
                            names: name.map(one).unwrap_or_default(),
                            urls: Vec::new(),
                        });
                    }
                }
            }
            parts.extend(self.urls.iter().map(|url| Self {
                verbs: one(verb),
                urls: one(url),
                ..Self::default()
            }));
        }
        parts.into_iter()
    }

    /// Whether this rule alone grants what `part`, one of [`Self::parts`], does.
    fn covers(&self, part: &Self) -> bool {
        let every =
            |wanted: &[String], covered: &dyn Fn(&str) -> bool| wanted.iter().all(|text| covered(text));
        every(&part.verbs, &|verb| has(&self.verbs, verb))
            && every(&part.groups, &|group| has(&self.groups, group))
            && every(&part.resources, &|resource| {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                self.resources.iter().any(|rule| resource_matches(rule, resource, subresource))
            })
            && (self.names.is_empty()
                || part.resources.is_empty()
                || (!part.names.is_empty()
                    && every(&part.names, &|name| self.names.iter().any(|n| n == name))))
            && every(&part.urls, &|url| self.urls.iter().any(|rule| url_matches(rule, url)))
    }
}

/// As upstream prints the rules that somebody may not grant.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "{";
        let mut list = |f: &mut fmt::Formatter<'_>, title: &str, texts: &[String]| {
            if texts.is_empty() {
                return Ok(());
            }
            let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
            write!(f, "{separator}{title}:[{}]", quoted.join(" "))?;
            separator = ", ";
            Ok(())
        };
        list(f, "NonResourceURLs", &self.urls)?;
        list(f, "APIGroups", &self.groups)?;
        list(f, "Resources", &self.resources)?;
        list(f, "ResourceNames", &self.names)?;
        list(f, "Verbs", &self.verbs)?;
        f.write_str("}")
    }
}

fn has(texts: &[String], wanted: &str) -> bool {
    texts.iter().any(|text| text == ALL || text == wanted)
}

/// `*`, `pods`, `pods/log`, `*/scale`.
fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == ALL || of == resource),
    }
}

/// `*`, `/healthz`, `/healthz/*`.
fn url_matches(rule: &str, path: &str) -> bool {
    rule == ALL || rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;

    fn rule(groups: &[&str], resources: &[&str], names: &[&str], verbs: &[&str]) -> Rule {
        Rule::read(
            &json!({"apiGroups": groups, "resources": resources, "resourceNames": names, "verbs": verbs}),
        )
    }

    fn request(method: Method, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        RequestInfo::parse(&method, path, query)
    }

    #[test]
    fn what_rules_allow() {
        let check = |rule: &Rule, method: Method, uri: &str, expected: bool| {
            assert_eq!(rule.allows(&request(method, uri)), expected, "{rule} {uri}");
        };
        let pods = rule(&[""], &["pods"], &[], &["get", "list"]);
        check(&pods, Method::GET, "/api/v1/namespaces/a/pods", true);
        check(&pods, Method::GET, "/api/v1/namespaces/a/pods/x", true);
        check(&pods, Method::DELETE, "/api/v1/namespaces/a/pods/x", false);
        check(&pods, Method::GET, "/api/v1/namespaces/a/pods/x/log", false);
        check(&pods, Method::GET, "/apis/metrics.k8s.io/v1/namespaces/a/pods", false);
        let log = rule(&[""], &["pods/log"], &[], &["*"]);
        check(&log, Method::GET, "/api/v1/namespaces/a/pods/x/log", true);
        check(&log, Method::GET, "/api/v1/namespaces/a/pods/x", false);
        let scale = rule(&["*"], &["*/scale"], &[], &["update"]);
        check(&scale, Method::PUT, "/apis/apps/v1/namespaces/a/deployments/x/scale", true);
        check(&scale, Method::PUT, "/apis/apps/v1/namespaces/a/deployments/x", false);
        let named = rule(&[""], &["secrets"], &["s"], &["get", "list"]);
        check(&named, Method::GET, "/api/v1/namespaces/a/secrets/s", true);
        check(&named, Method::GET, "/api/v1/namespaces/a/secrets/t", false);
        check(&named, Method::GET, "/api/v1/namespaces/a/secrets", false);
        let all = rule(&["*"], &["*"], &[], &["*"]);
        check(&all, Method::POST, "/api/v1/namespaces/a/pods/x/exec", true);
        check(&all, Method::GET, "/healthz", false);
        let urls = Rule::read(&json!({"nonResourceURLs": ["/livez", "/readyz/*"], "verbs": ["get"]}));
        check(&urls, Method::GET, "/livez", true);
        check(&urls, Method::GET, "/livez/ping", false);
        check(&urls, Method::GET, "/readyz/ping", true);
        check(&urls, Method::POST, "/livez", false);
        check(&urls, Method::GET, "/api/v1/pods", false);
        check(&Rule::read(&json!("junk")), Method::GET, "/api/v1/pods", false);
    }

    #[test]
    fn coverage() {
        let check = |wanted: &Rule, have: &[Rule], missing: &str| {
            let got = wanted.uncovered_by(have).map(|rule| rule.to_string());
            assert_eq!(got.unwrap_or_default(), missing);
            assert_eq!(wanted.is_covered_by(have), missing.is_empty());
        };
        let read = rule(&[""], &["pods"], &[], &["get", "list"]);
        let get = rule(&[""], &["pods"], &[], &["get"]);
        let list = rule(&[""], &["pods"], &[], &["list"]);
        let named = rule(&[""], &["pods"], &["a"], &["get"]);
        let all = rule(&["*"], &["*"], &[], &["*"]);
        check(&read, &[get.clone(), list], "");
        check(&read, std::slice::from_ref(&get), r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#);
        check(&named, std::slice::from_ref(&get), "");
        check(&get, &[named], r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#);
        check(&read, std::slice::from_ref(&all), "");
        check(&all, &[read], r#"{APIGroups:["*"], Resources:["*"], Verbs:["*"]}"#);
        let log = rule(&[""], &["pods/log"], &[], &["get"]);
        check(&log, &[get], r#"{APIGroups:[""], Resources:["pods/log"], Verbs:["get"]}"#);
        check(&log, &[rule(&[""], &["*/log"], &[], &["get"])], "");
        let url = |url: &str| Rule::read(&json!({"nonResourceURLs": [url], "verbs": ["get"]}));
        check(&url("/healthz/ping"), &[url("/healthz/*")], "");
        check(
            &url("/healthz/*"),
            &[url("/healthz/ping")],
            r#"{NonResourceURLs:["/healthz/*"], Verbs:["get"]}"#,
        );
    }

    mod properties {
        use proptest::collection::vec;
        use proptest::prelude::*;
        use proptest::sample::select;

        use super::*;

        fn some(from: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
            vec(select(from).prop_map(str::to_owned), 0..3)
        }

        fn rules() -> impl Strategy<Value = Rule> {
            (
                some(&["get", "list", "*"]),
                some(&["", "apps", "*"]),
                some(&["pods", "pods/log", "*/log", "*"]),
                some(&["a", "b"]),
                some(&["/x", "/x/*", "/x*", "*"]),
            )
                .prop_map(|(verbs, groups, resources, names, urls)| Rule {
                    verbs,
                    groups,
                    resources,
                    names,
                    urls,
                })
        }

        fn requests() -> impl Strategy<Value = RequestInfo> {
            let texts = |from: &'static [&'static str]| select(from).prop_map(str::to_owned);
            (
                any::<bool>(),
                texts(&["get", "list", "delete"]),
                texts(&["", "apps", "batch"]),
                texts(&["pods", "jobs"]),
                texts(&["", "log", "exec"]),
                texts(&["", "a", "b", "c"]),
                texts(&["/x", "/x/y", "/xy", "/z"]),
            )
                .prop_map(|(is_resource, verb, group, resource, subresource, name, path)| {
                    RequestInfo {
                        is_resource,
                        verb,
                        group,
                        resource,
                        subresource,
                        name,
                        path,
                        ..RequestInfo::default()
                    }
                })
        }

        proptest! {
            /// Nobody gets through a covered rule what the covering ones do not give.
            #[test]
            fn covered_rules_allow_nothing_more(wanted in rules(), have in vec(rules(), 0..4), request in requests()) {
                if wanted.is_covered_by(&have) && wanted.allows(&request) {
                    prop_assert!(have.iter().any(|rule| rule.allows(&request)), "{wanted} by {have:?}: {request:?}");
                }
            }

            #[test]
            fn every_rule_covers_itself(rule in rules()) {
                prop_assert!(rule.is_covered_by(std::slice::from_ref(&rule)));
            }
        }
    }
}
