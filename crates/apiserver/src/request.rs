//! What a request asks for, read from its method and path: the attributes that authorization decides on.
//!
//! Paths of resources are `/api/<version>/...` and `/apis/<group>/<version>/...`, followed by
//! `[namespaces/<namespace>/]<resource>[/<name>[/<subresource>[/<more>]]]`; everything else is a non-resource path.

use std::borrow::Cow;

use api::selector::{FieldSelector, LabelSelector};
use http::Method;

use crate::UserInfo;

/// A parsed request line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `/api` or `/apis` paths that name a resource.
    pub is_resource: bool,
    /// As sent, without the query.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for non-resource paths the
    /// lower-case HTTP method.
    pub verb: String,
    /// `""` is the core group.
    pub group: String,
    pub version: String,
    /// Empty for cluster-scoped objects and for all namespaces. For a Namespace object itself: its name.
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource, undecoded and without a leading slash: the path of a proxy request.
    pub rest: String,
    /// To what a request of many objects narrows itself. A selector that cannot be read narrows nothing here; the
    /// request will fail of it.
    pub fields: FieldSelector,
    pub labels: LabelSelector,
}

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    pub request: &'a RequestInfo,
}

impl RequestInfo {
    /// Reads method, path and query; never fails, since a path that makes no sense is a non-resource path.
    pub fn parse(method: &Method, path: &str, query: &str) -> Self {
        let mut info =
            Self { path: path.to_owned(), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        let mut segments = path.trim_matches('/').split('/').peekable();
        let group = match segments.next() {
            Some("api") => "",
            Some("apis") => match segments.next() {
                Some(group) if !group.is_empty() => group,
                _ => return info,
            },
            _ => return info,
        };
        let Some(version) = segments.next().filter(|version| !version.is_empty()) else {
            return info;
        };
        let rest: Vec<&str> = segments.collect();
        let (watch_prefix, rest) = match rest.split_first() {
            Some((&"watch", rest)) => (true, rest),
            _ => (false, &rest[..]),
        };
        if rest.is_empty() {
            return info;
        }
        info.is_resource = true;
        info.group = group.to_owned();
        info.version = version.to_owned();
        info.parse_resource(rest);
        info.verb = info.resource_verb(method, query, watch_prefix);
        if info.name.is_empty() && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            info.fields = selector(query, "fieldSelector");
            info.labels = selector(query, "labelSelector");
        }
        info
    }

    /// The name of the one object that is asked for, be it in the path or, to read it, by field selector: what the
    /// `resourceNames` of a rule are compared with.
    pub fn object_name(&self) -> &str {
        match (self.name.as_str(), self.verb.as_str()) {
            ("", "list" | "watch") => self.field("metadata.name").unwrap_or_default(),
            (name, _) => name,
        }
    }

    /// The value that the field selector demands of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.exact(name)
    }

    fn parse_resource(&mut self, segments: &[&str]) {
        let segments = match segments {
            // `namespaces/x` is the Namespace itself, and so are its own subresources.
            ["namespaces", namespace, rest @ ..] if !namespace.is_empty() => {
                self.namespace = decoded(namespace);
                match rest {
                    [] | ["status" | "finalize", ..] => segments,
                    _ => rest,
                }
            }
            _ => segments,
        };
        let mut segments = segments.iter();
        self.resource = segments.next().map(|s| decoded(s)).unwrap_or_default();
        self.name = segments.next().map(|s| decoded(s)).unwrap_or_default();
        self.subresource = segments.next().map(|s| decoded(s)).unwrap_or_default();
        self.rest = segments.copied().collect::<Vec<_>>().join("/");
    }

    fn resource_verb(&self, method: &Method, query: &str, watch_prefix: bool) -> String {
        let one = !self.name.is_empty();
        let watch = || watch_prefix || (self.subresource.is_empty() && asks_to_watch(query));
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if one => "delete",
            Method::DELETE => "deletecollection",
            Method::GET | Method::HEAD if watch() => "watch",
            Method::GET | Method::HEAD if one => "get",
            Method::GET | Method::HEAD => "list",
            _ => return self.verb.clone(),
        };
        verb.to_owned()
    }

    /// Requests that last as long as their client likes: not counted in flight, not timed out.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(self.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
    }

    pub fn is_mutating(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }
}

fn decoded(segment: &str) -> String {
    percent_decode(segment, false).into_owned()
}

/// The first selector of that name in the query, which is the one that is obeyed.
fn selector<S: std::str::FromStr + Default>(query: &str, name: &str) -> S {
    let given = query_pairs(query).find(|(key, _)| key == name);
    given.and_then(|(_, text)| text.parse().ok()).unwrap_or_default()
}

fn asks_to_watch(query: &str) -> bool {
    query_pairs(query).any(|(key, value)| {
        key == "watch" && (value.is_empty() || matches!(&*value, "1" | "true" | "True" | "TRUE" | "t" | "T"))
    })
}

/// The pairs of a query string, decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(key, true), percent_decode(value, true))
    })
}

/// Undoes percent-encoding; what is not valid encoding stays as it is. `plus` also turns `+` into a space.
pub fn percent_decode(text: &str, plus: bool) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || (plus && byte == b'+')) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if plus => decoded.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        decoded.push((high * 16 + low) as u8);
                        bytes = ahead;
                    }
                    _ => decoded.push(byte),
                }
            }
            _ => decoded.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: Method, uri: &str, expected: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let i = RequestInfo::parse(&method, path, query);
        let told = format!(
            "{} {}/{} ns={} {} {} {} {}",
            i.verb, i.group, i.version, i.namespace, i.resource, i.name, i.subresource, i.rest
        );
        assert_eq!(told.trim_end(), expected, "{uri}");
    }

    #[test]
    fn reads_paths() {
        check(Method::GET, "/api/v1/pods", "list /v1 ns= pods");
        check(Method::GET, "/api/v1/pods?watch=true", "watch /v1 ns= pods");
        check(Method::GET, "/api/v1/watch/pods", "watch /v1 ns= pods");
        check(Method::GET, "/api/v1/watch/namespaces/a/pods/b", "watch /v1 ns=a pods b");
        check(Method::POST, "/api/v1/namespaces/a/pods", "create /v1 ns=a pods");
        check(Method::GET, "/api/v1/namespaces/a", "get /v1 ns=a namespaces a");
        check(Method::PUT, "/api/v1/namespaces/a/finalize", "update /v1 ns=a namespaces a finalize");
        check(Method::GET, "/api/v1/namespaces", "list /v1 ns= namespaces");
        check(
            Method::DELETE,
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection apps/v1 ns=a deployments",
        );
        check(
            Method::PATCH,
            "/apis/apps/v1/namespaces/a/deployments/b/status",
            "patch apps/v1 ns=a deployments b status",
        );
        check(Method::GET, "/api/v1/nodes/n/proxy/logs/x%20y/", "get /v1 ns= nodes n proxy logs/x%20y");
        check(
            Method::GET,
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get rbac.authorization.k8s.io/v1 ns= clusterroles system:node",
        );
        check(Method::GET, "/healthz", "get / ns=");
        check(Method::GET, "/apis/apps", "get / ns=");
        check(Method::GET, "/apis/apps/v1", "get / ns=");
        check(Method::GET, "/", "get / ns=");
    }

    #[test]
    fn field_selectors_name_objects() {
        let check = |query: &str, name: &str, node: Option<&str>| {
            let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", query);
            assert_eq!((info.object_name(), info.field("spec.nodeName")), (name, node), "{query}");
        };
        check("", "", None);
        check("fieldSelector=metadata.name%3Da", "a", None);
        check("fieldSelector=metadata.name==a,spec.nodeName=n", "a", Some("n"));
        check("fieldSelector=spec.nodeName!%3Dn", "", None);
        check("fieldSelector=metadata.name%3Da%5C,b", "a,b", None);
        check("fieldSelector=metadata.name%3Da%5C", "", None);
        // Nobody who may make one object by name makes another by selecting that.
        let create = RequestInfo::parse(&Method::POST, "/api/v1/pods", "fieldSelector=metadata.name%3Da");
        assert_eq!(create.object_name(), "");
        let all = RequestInfo::parse(&Method::DELETE, "/api/v1/pods", "fieldSelector=metadata.name%3Da");
        assert_eq!((all.object_name(), all.field("metadata.name")), ("", Some("a")));
        let labels = RequestInfo::parse(&Method::GET, "/api/v1/pods", "labelSelector=a%3Db").labels;
        assert_eq!(labels.to_string(), "a=b");
    }

    #[test]
    fn decodes() {
        assert_eq!(percent_decode("a%2Fb+c%", true), "a/b c%");
        assert_eq!(percent_decode("a+b%zz", false), "a+b%zz");
    }
}
