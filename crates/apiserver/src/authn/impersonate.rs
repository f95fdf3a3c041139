//! Acting as somebody else: the `Impersonate-*` headers, for those who have the verb `impersonate`.

use api::status::Status;
use http::header::HeaderMap;

use super::user::{ALL_UNAUTHENTICATED, ANONYMOUS, SERVICE_ACCOUNTS, UserInfo, split_service_account};
use crate::authz::Authorizer;
use crate::request::{RequestInfo, percent_decode};

const PREFIX: &str = "impersonate-";
const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA: &str = "impersonate-extra-";

/// The user that the headers ask to be, if they ask, and `user` may be all of it.
pub async fn impersonated(
    authorizer: &Authorizer,
    user: &UserInfo,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, Status> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(None);
    };
    for request in permissions(&wanted) {
        authorizer.require(user, &request).await?;
    }
    Ok(Some(completed(wanted)))
}

/// Removes the headers, so that a request can be relayed to somebody else.
pub fn strip(headers: &mut HeaderMap) {
    let names: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// What the headers say, word for word.
fn wanted(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let mut user = UserInfo::default();
    for (name, value) in headers {
        let name = name.as_str();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let value =
            value.to_str().map_err(|_| Status::bad_request(format!("header {name} is not text")))?.to_owned();
        match name {
            USER => user.name = value,
            UID => user.uid = value,
            GROUP => user.groups.push(value),
            _ => {
                if let Some(key) = name.strip_prefix(EXTRA) {
                    let key = percent_decode(key, false).into_owned();
                    user.extra.entry(key).or_default().push(value);
                }
            }
        }
    }
    if !user.name.is_empty() {
        return Ok(Some(user));
    }
    if user == UserInfo::default() {
        return Ok(None);
    }
    Err(Status::internal("requested impersonation of groups, uid or extra without impersonating a user"))
}

/// One question to the authorizer for each part.
fn permissions(wanted: &UserInfo) -> Vec<RequestInfo> {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let ask = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| RequestInfo {
        is_resource: true,
        verb: "impersonate".to_owned(),
        group: group.to_owned(),
        version: "v1".to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        ..RequestInfo::default()
    };
    let user = match split_service_account(&wanted.name) {
        Some((namespace, name)) => ask("", "serviceaccounts", "", namespace, name),
        None => ask("", "users", "", "", &wanted.name),
    };
    let mut all = vec![user];
    all.extend(wanted.groups.iter().map(|group| ask("", "groups", "", "", group)));
    for (key, values) in &wanted.extra {
        all.extend(values.iter().map(|value| ask(AUTHENTICATION, "userextras", key, "", value)));
    }
    if !wanted.uid.is_empty() {
        all.push(ask(AUTHENTICATION, "uids", "", "", &wanted.uid));
    }
    all
}

/// With the groups that such a user would have been given on authentication.
fn completed(mut user: UserInfo) -> UserInfo {
    if user.groups.is_empty()
        && let Some((namespace, _)) = split_service_account(&user.name)
    {
        user.groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
    }
    if user.name == ANONYMOUS {
        if !user.in_group(ALL_UNAUTHENTICATED) {
            user.groups.push(ALL_UNAUTHENTICATED.to_owned());
        }
    } else {
        user.add_authenticated();
    }
    user
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).expect("a header name"),
                HeaderValue::from_str(value).expect("a header value"),
            );
        }
        headers
    }

    #[test]
    fn what_is_asked() {
        let check = |pairs: &[(&str, &str)], questions: &[&str], groups: &[&str]| {
            let wanted = wanted(&headers(pairs)).expect("well formed").expect("asked for");
            let asked: Vec<String> = permissions(&wanted)
                .iter()
                .map(|r| format!("{}/{}/{} {} {}", r.group, r.resource, r.subresource, r.namespace, r.name))
                .collect();
            assert_eq!(asked, questions);
            assert_eq!(completed(wanted).groups, groups);
        };
        check(&[("Impersonate-User", "bob")], &["/users/  bob"], &["system:authenticated"]);
        check(
            &[("Impersonate-User", "bob"), ("Impersonate-Group", "dev"), ("Impersonate-Group", "ops")],
            &["/users/  bob", "/groups/  dev", "/groups/  ops"],
            &["dev", "ops", "system:authenticated"],
        );
        check(
            &[("Impersonate-User", "system:serviceaccount:ns:sa")],
            &["/serviceaccounts/ ns sa"],
            &["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"],
        );
        check(
            &[
                ("Impersonate-User", "bob"),
                ("Impersonate-Uid", "7"),
                ("Impersonate-Extra-example.com%2Fscope", "a"),
            ],
            &[
                "/users/  bob",
                "authentication.k8s.io/userextras/example.com/scope  a",
                "authentication.k8s.io/uids/  7",
            ],
            &["system:authenticated"],
        );
        check(
            &[("Impersonate-User", ANONYMOUS)],
            &["/users/  system:anonymous"],
            &["system:unauthenticated"],
        );
    }

    #[test]
    fn without_a_user() {
        assert_eq!(wanted(&headers(&[("Accept", "x")])).expect("fine"), None);
        assert!(wanted(&headers(&[("Impersonate-Group", "system:masters")])).is_err());
        assert!(wanted(&headers(&[("Impersonate-Extra-x", "y")])).is_err());
    }

    #[test]
    fn stripping() {
        let mut all =
            headers(&[("Impersonate-User", "bob"), ("Impersonate-Extra-x", "y"), ("Accept", "*/*")]);
        strip(&mut all);
        assert_eq!(all.len(), 1);
    }
}
