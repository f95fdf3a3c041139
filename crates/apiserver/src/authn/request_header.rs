//! Users as front proxies name them: in headers, believed when the connection's certificate is a front proxy's.

use http::header::HeaderMap;
use serde_json::{Value, json};

use super::UserInfo;
use crate::config::Config;
use crate::request::percent_decode;

/// Which headers, from whom.
#[derive(Clone, Debug)]
pub struct RequestHeader {
    /// Common names of front proxies' certificates; any when empty.
    pub allowed_names: Vec<String>,
    pub user: Vec<String>,
    pub uid: Vec<String>,
    pub group: Vec<String>,
    /// Prefixes of the headers that hold the rest.
    pub extra_prefix: Vec<String>,
}

impl Default for RequestHeader {
    fn default() -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            allowed_names: one("front-proxy-client"),
            user: one("X-Remote-User"),
            uid: one("X-Remote-Uid"),
            group: one("X-Remote-Group"),
            extra_prefix: one("X-Remote-Extra-"),
        }
    }
}

impl RequestHeader {
    pub fn allows(&self, common_name: &str) -> bool {
        self.allowed_names.is_empty() || self.allowed_names.iter().any(|name| name == common_name)
    }

    /// Whom the headers name, if they name anyone.
    pub fn user(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let values = |names: &[String]| -> Vec<String> {
            let all = names.iter().flat_map(|name| headers.get_all(name.as_str()));
            all.filter_map(|value| value.to_str().ok())
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let name = values(&self.user).into_iter().next()?;
        let mut user = UserInfo {
            name,
            uid: values(&self.uid).into_iter().next().unwrap_or_default(),
            groups: values(&self.group),
            ..UserInfo::default()
        };
        for (header, value) in headers {
            let key = self.extra_prefix.iter().find_map(|prefix| {
                // Names of headers are lower-case here.
                header.as_str().strip_prefix(prefix.to_ascii_lowercase().as_str())
            });
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                let key = percent_decode(key, false).into_owned();
                user.extra.entry(key).or_default().push(value.to_owned());
            }
        }
        user.add_authenticated();
        Some(user)
    }

    /// Removes the headers, so that a request can be relayed to somebody else.
    pub fn strip(&self, headers: &mut HeaderMap) {
        for name in self.user.iter().chain(&self.uid).chain(&self.group) {
            headers.remove(name.as_str());
        }
        let is_extra = |name: &str| {
            self.extra_prefix.iter().any(|prefix| name.starts_with(&prefix.to_ascii_lowercase()))
        };
        let extra: Vec<_> = headers.keys().filter(|name| is_extra(name.as_str())).cloned().collect();
        for name in extra {
            headers.remove(name);
        }
    }
}

/// By which servers behind the aggregator know whom to believe: the data of the ConfigMap
/// `extension-apiserver-authentication`.
pub fn published(config: &Config) -> Value {
    let mut data = json!({});
    let pem = |path: &Option<std::path::PathBuf>| std::fs::read_to_string(path.as_deref()?).ok();
    if let Some(pem) = pem(&config.client_ca) {
        data["client-ca-file"] = json!(pem);
    }
    if let Some(pem) = pem(&config.front_proxy_ca) {
        let headers = &config.request_header;
        let list = |names: &[String]| json!(json!(names).to_string());
        data["requestheader-client-ca-file"] = json!(pem);
        data["requestheader-allowed-names"] = list(&headers.allowed_names);
        data["requestheader-username-headers"] = list(&headers.user);
        data["requestheader-uid-headers"] = list(&headers.uid);
        data["requestheader-group-headers"] = list(&headers.group);
        data["requestheader-extra-headers-prefix"] = list(&headers.extra_prefix);
    }
    data
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).expect("a header name");
            headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        }
        headers
    }

    #[test]
    fn users() {
        let names = RequestHeader::default();
        assert!(names.user(&headers(&[("X-Remote-Group", "system:masters")])).is_none());
        let mut all = headers(&[
            ("X-Remote-User", "alice"),
            ("X-Remote-Uid", "7"),
            ("X-Remote-Group", "dev"),
            ("X-Remote-Group", "ops"),
            ("X-Remote-Extra-Example.com%2fScope", "a"),
            ("Accept", "*/*"),
        ]);
        let user = names.user(&all).expect("a user");
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("alice", "7"));
        assert_eq!(user.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(user.extra["example.com/scope"], ["a"]);
        names.strip(&mut all);
        assert_eq!(all.len(), 1);
    }

    proptest! {
        #[test]
        fn any_headers_are_read(pairs in prop::collection::vec(("(x-remote-(user|group|uid|extra-[a-z%0-9]{0,6})|[a-z]{1,5})", "[ -~]{0,20}"), 0..12)) {
            let mut all = HeaderMap::new();
            for (name, value) in &pairs {
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                    all.append(name, value);
                }
            }
            let names = RequestHeader::default();
            let user = names.user(&all);
            prop_assert_eq!(user.is_some(), all.get_all("x-remote-user").iter().any(|value| !value.is_empty()));
            names.strip(&mut all);
            prop_assert!(names.user(&all).is_none());
        }
    }
}
