//! Who makes a request.

use std::collections::BTreeMap;

/// Every authenticated user is in this group.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// The group of requests without credentials.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The name of requests without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// Members may do everything; authorizers are not asked. For the local administrator's certificate only.
pub const MASTERS: &str = "system:masters";
/// The group of kubelets; see [`crate::authz::node`].
pub const NODES: &str = "system:nodes";
/// Kubelets are named `system:node:<node name>`.
pub const NODE_PREFIX: &str = "system:node:";
/// Service accounts are named `system:serviceaccount:<namespace>:<name>`.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// The group of all service accounts; those of one namespace are in `system:serviceaccounts:<namespace>`.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// The identity that authentication found, or that impersonation put in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user of that name and groups, who is also in `system:authenticated`.
    pub fn authenticated(name: &str, groups: &[&str]) -> Self {
        let mut user = Self {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Self::default()
        };
        user.add_authenticated();
        user
    }

    /// The user of requests that carry no credentials.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![ALL_UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The service account of that namespace and name.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            name: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"),
            groups: vec![
                SERVICE_ACCOUNTS.to_owned(),
                format!("{SERVICE_ACCOUNTS}:{namespace}"),
                ALL_AUTHENTICATED.to_owned(),
            ],
            ..Self::default()
        }
    }

    pub fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|have| have == group)
    }

    /// The node whose kubelet this is, if it is one.
    pub fn node_name(&self) -> Option<&str> {
        let name = self.name.strip_prefix(NODE_PREFIX)?;
        (!name.is_empty() && self.in_group(NODES)).then_some(name)
    }

    /// Adds `system:authenticated` where it is missing.
    pub(crate) fn add_authenticated(&mut self) {
        if !self.in_group(ALL_AUTHENTICATED) && !self.in_group(ALL_UNAUTHENTICATED) {
            self.groups.push(ALL_AUTHENTICATED.to_owned());
        }
    }
}

/// Namespace and name of a service account's user name, which may be anything at all.
pub fn split_service_account(user_name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user_name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_account_names() {
        let check = |name: &str, expected: Option<(&str, &str)>| {
            assert_eq!(split_service_account(name), expected, "{name}");
        };
        check("system:serviceaccount:default:web", Some(("default", "web")));
        check("system:serviceaccount:default", None);
        check("system:serviceaccount::web", None);
        check("system:serviceaccount:default:", None);
        check("system:serviceaccount:a:b:c", None);
        check("alice", None);
    }

    #[test]
    fn node_names_need_the_group() {
        let node = UserInfo::authenticated("system:node:n1", &[NODES]);
        assert_eq!(node.node_name(), Some("n1"));
        let impostor = UserInfo::authenticated("system:node:n1", &[]);
        assert_eq!(impostor.node_name(), None);
        let nameless = UserInfo::authenticated("system:node:", &[NODES]);
        assert_eq!(nameless.node_name(), None);
    }

    #[test]
    fn authenticated_is_added_once() {
        let mut user = UserInfo::authenticated("alice", &["dev"]);
        user.add_authenticated();
        assert_eq!(user.groups, ["dev", ALL_AUTHENTICATED]);
    }
}
