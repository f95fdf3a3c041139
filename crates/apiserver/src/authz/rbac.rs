//! Role-based access control: an index from subjects to what they are granted.
//!
//! A decision looks at the bindings of the user and of each of their groups, in the cluster and in the request's
//! namespace; how many other bindings there are does not matter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ahash::AHashMap;
use api::status::GroupResource;
use serde_json::Value;

use super::follow::Derived;
use super::rules::Rule;
use crate::admission::objects::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES, items};
use crate::authn::user::{SERVICE_ACCOUNT_PREFIX, UserInfo};
use crate::request::Attributes;

/// The resources that the index is made of.
pub const RESOURCES: [GroupResource<'static>; 4] =
    [CLUSTER_ROLES, ROLES, CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS];

/// That a binding gives a role to a subject.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// Empty for a ClusterRoleBinding.
    namespace: Box<str>,
    binding: Box<str>,
    /// Whether the role is a ClusterRole.
    cluster_role: bool,
    role: Box<str>,
    subject: Subject,
}

#[derive(Debug, PartialEq, Eq)]
enum Subject {
    User(Box<str>),
    Group(Box<str>),
    ServiceAccount { namespace: Box<str>, name: Box<str> },
}

/// Grants within one namespace, or in the whole cluster.
#[derive(Default)]
struct Scope {
    users: AHashMap<Box<str>, Vec<Arc<Grant>>>,
    groups: AHashMap<Box<str>, Vec<Arc<Grant>>>,
    /// Which subjects each binding is indexed under.
    bindings: BTreeMap<Box<str>, Vec<Arc<Grant>>>,
    roles: AHashMap<Box<str>, Arc<[Rule]>>,
}

/// All roles and bindings. The cluster's own are in the scope named by the empty string.
#[derive(Default)]
pub struct Index {
    scopes: AHashMap<Box<str>, Scope>,
}

/// What the index says of a request.
pub enum Answer {
    Allowed(Arc<Grant>),
    /// With the roles that bindings of the user name but that do not exist.
    NotAllowed(Vec<String>),
}

impl Index {
    pub fn decide(&self, attributes: &Attributes<'_>) -> Answer {
        let request = attributes.request;
        let namespace = if request.is_resource { request.namespace.as_str() } else { "" };
        let mut allowed = None;
        let mut missing = Vec::new();
        self.visit(attributes.user, namespace, |grant, rules| {
            match rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(request)) => {
                    allowed = Some(grant.clone());
                }
                Ok(_) => {}
                Err(role) => missing.push(role),
            }
            allowed.is_none()
        });
        match allowed {
            Some(grant) => Answer::Allowed(grant),
            None => Answer::NotAllowed(missing),
        }
    }

    /// Everything that the user may do in a namespace (in the whole cluster, with an empty one), and the roles
    /// that should be there but are not.
    pub fn rules(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut all, mut missing) = (Vec::new(), Vec::new());
        self.visit(user, namespace, |_, rules| {
            match rules {
                Ok(rules) => all.extend(rules.iter().cloned()),
                Err(role) => missing.push(role),
            }
            true
        });
        (all, missing)
    }

    /// The rules of one role, if it exists.
    pub fn role(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.scopes.get(namespace)?.roles.get(name).cloned()
    }

    /// Shows every grant of the user with its rules, or with the name of the role that is missing, as long as
    /// `more` says so.
    fn visit(
        &self,
        user: &UserInfo,
        namespace: &str,
        mut more: impl FnMut(&Arc<Grant>, Result<&Arc<[Rule]>, String>) -> bool,
    ) {
        let namespaced = if namespace.is_empty() { None } else { self.scopes.get(namespace) };
        for scope in self.scopes.get("").into_iter().chain(namespaced) {
            let of_user = scope.users.get(user.name.as_str());
            let of_groups = user.groups.iter().filter_map(|group| scope.groups.get(group.as_str()));
            for grant in of_user.into_iter().chain(of_groups).flatten() {
                let home = if grant.cluster_role { "" } else { &grant.namespace };
                let rules = self
                    .scopes
                    .get(home)
                    .and_then(|scope| scope.roles.get(&grant.role))
                    .ok_or_else(|| grant.missing_role());
                if !more(grant, rules) {
                    return;
                }
            }
        }
    }

    fn apply_role(&mut self, namespace: &str, name: &str, role: Option<&Value>) {
        match role {
            Some(role) => {
                let scope = self.scopes.entry(namespace.into()).or_default();
                scope.roles.insert(name.into(), Rule::all(&role["rules"]).into());
            }
            None => {
                if let Some(scope) = self.scopes.get_mut(namespace) {
                    scope.roles.remove(name);
                }
                self.prune(namespace);
            }
        }
    }

    fn apply_binding(&mut self, namespace: &str, name: &str, binding: Option<&Value>) {
        let scope = self.scopes.entry(namespace.into()).or_default();
        scope.unbind(name);
        if let Some(binding) = binding {
            let reference = &binding["roleRef"];
            let role = reference["name"].as_str().unwrap_or_default();
            let cluster_role = reference["kind"].as_str() == Some("ClusterRole");
            for subject in items(&binding["subjects"]).filter_map(|subject| Subject::read(subject, namespace))
            {
                scope.bind(Arc::new(Grant {
                    namespace: namespace.into(),
                    binding: name.into(),
                    cluster_role,
                    role: role.into(),
                    subject,
                }));
            }
        }
        self.prune(namespace);
    }

    fn prune(&mut self, namespace: &str) {
        if self.scopes.get(namespace).is_some_and(Scope::is_empty) {
            self.scopes.remove(namespace);
        }
    }
}

impl Derived for Index {
    fn apply(
        &mut self,
        resource: GroupResource<'static>,
        namespace: &str,
        name: &str,
        object: Option<&Value>,
    ) {
        match resource {
            ROLES | CLUSTER_ROLES => self.apply_role(namespace, name, object),
            _ => self.apply_binding(namespace, name, object),
        }
    }

    fn forget(&mut self, resource: GroupResource<'static>) {
        let of_cluster = resource == CLUSTER_ROLES || resource == CLUSTER_ROLE_BINDINGS;
        for (namespace, scope) in &mut self.scopes {
            if namespace.is_empty() != of_cluster {
                continue;
            }
            if resource == ROLES || resource == CLUSTER_ROLES {
                scope.roles.clear();
            } else {
                scope.users.clear();
                scope.groups.clear();
                scope.bindings.clear();
            }
        }
    }
}

impl Scope {
    fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.roles.is_empty()
    }

    fn bind(&mut self, grant: Arc<Grant>) {
        let (table, key) = grant.subject.place();
        let table = match table {
            Table::Users => &mut self.users,
            Table::Groups => &mut self.groups,
        };
        table.entry(key.into()).or_default().push(grant.clone());
        self.bindings.entry(grant.binding.clone()).or_default().push(grant);
    }

    fn unbind(&mut self, binding: &str) {
        for grant in self.bindings.remove(binding).into_iter().flatten() {
            let (table, key) = grant.subject.place();
            let table = match table {
                Table::Users => &mut self.users,
                Table::Groups => &mut self.groups,
            };
            if let Some(grants) = table.get_mut(key.as_str()) {
                grants.retain(|other| !Arc::ptr_eq(other, &grant));
                if grants.is_empty() {
                    table.remove(key.as_str());
                }
            }
        }
    }
}

enum Table {
    Users,
    Groups,
}

impl Subject {
    fn read(subject: &Value, namespace: &str) -> Option<Self> {
        let name = subject["name"].as_str()?;
        match subject["kind"].as_str()? {
            "User" => Some(Self::User(name.into())),
            "Group" => Some(Self::Group(name.into())),
            "ServiceAccount" => Some(Self::ServiceAccount {
                namespace: subject["namespace"].as_str().unwrap_or(namespace).into(),
                name: name.into(),
            }),
            _ => None,
        }
    }

    fn place(&self) -> (Table, String) {
        match self {
            Self::User(name) => (Table::Users, name.to_string()),
            Self::Group(name) => (Table::Groups, name.to_string()),
            Self::ServiceAccount { namespace, name } => {
                (Table::Users, format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"))
            }
        }
    }
}

impl Grant {
    fn role_kind(&self) -> &'static str {
        if self.cluster_role { "ClusterRole" } else { "Role" }
    }

    fn missing_role(&self) -> String {
        let resource = if self.cluster_role { CLUSTER_ROLES } else { ROLES };
        let kind = resource.resource.trim_end_matches('s');
        format!("{kind}.{} {:?} not found", resource.group, self.role)
    }
}

/// The reason, as subject access reviews tell it.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RBAC: allowed by ")?;
        match &*self.namespace {
            "" => write!(f, "ClusterRoleBinding {:?}", self.binding)?,
            namespace => write!(f, "RoleBinding \"{}/{namespace}\"", self.binding)?,
        }
        write!(f, " of {} {:?} to ", self.role_kind(), self.role)?;
        match &self.subject {
            Subject::User(name) => write!(f, "User {name:?}"),
            Subject::Group(name) => write!(f, "Group {name:?}"),
            Subject::ServiceAccount { namespace, name } => write!(f, "ServiceAccount \"{name}/{namespace}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::request::RequestInfo;

    fn role(verbs: &[&str], resources: &[&str]) -> Value {
        json!({"rules": [{"apiGroups": [""], "resources": resources, "verbs": verbs}]})
    }

    fn binding(kind: &str, role: &str, subjects: Value) -> Value {
        json!({"roleRef": {"kind": kind, "name": role}, "subjects": subjects})
    }

    fn index() -> Index {
        let mut index = Index::default();
        let mut put = |resource, namespace: &str, name: &str, object: Value| {
            index.apply(resource, namespace, name, Some(&object));
        };
        put(CLUSTER_ROLES, "", "view", role(&["get", "list"], &["pods"]));
        put(ROLES, "a", "write", role(&["create"], &["pods"]));
        let alice = json!([{"kind": "User", "name": "alice"}]);
        let sa = json!([{"kind": "ServiceAccount", "name": "sa", "namespace": "a"}]);
        let dev = json!([{"kind": "Group", "name": "dev"}]);
        put(CLUSTER_ROLE_BINDINGS, "", "dev-view", binding("ClusterRole", "view", dev));
        put(ROLE_BINDINGS, "a", "alice-view", binding("ClusterRole", "view", alice.clone()));
        put(ROLE_BINDINGS, "a", "alice-write", binding("Role", "write", alice));
        put(ROLE_BINDINGS, "b", "sa-view", binding("ClusterRole", "view", sa.clone()));
        put(ROLE_BINDINGS, "b", "sa-lost", binding("Role", "lost", sa));
        index
    }

    fn decide(index: &Index, user: &UserInfo, method: Method, path: &str) -> Result<String, Vec<String>> {
        let request = RequestInfo::parse(&method, path, "");
        match index.decide(&Attributes { user, request: &request }) {
            Answer::Allowed(grant) => Ok(grant.to_string()),
            Answer::NotAllowed(missing) => Err(missing),
        }
    }

    #[test]
    fn decisions() {
        let index = index();
        let check = |user: &UserInfo, method: Method, path: &str, expected: Result<&str, &[&str]>| {
            let got = decide(&index, user, method, path);
            let expected = expected
                .map(str::to_owned)
                .map_err(|missing| missing.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>());
            assert_eq!(got, expected, "{} {path}", user.name);
        };
        let alice = UserInfo::authenticated("alice", &[]);
        let bob = UserInfo::authenticated("bob", &["dev"]);
        let sa = UserInfo::service_account("a", "sa");
        check(
            &alice,
            Method::GET,
            "/api/v1/namespaces/a/pods",
            Ok(r#"RBAC: allowed by RoleBinding "alice-view/a" of ClusterRole "view" to User "alice""#),
        );
        check(
            &alice,
            Method::POST,
            "/api/v1/namespaces/a/pods",
            Ok(r#"RBAC: allowed by RoleBinding "alice-write/a" of Role "write" to User "alice""#),
        );
        check(&alice, Method::GET, "/api/v1/namespaces/b/pods", Err(&[]));
        check(&alice, Method::GET, "/api/v1/pods", Err(&[]));
        check(
            &bob,
            Method::GET,
            "/api/v1/pods",
            Ok(r#"RBAC: allowed by ClusterRoleBinding "dev-view" of ClusterRole "view" to Group "dev""#),
        );
        check(&bob, Method::POST, "/api/v1/namespaces/a/pods", Err(&[]));
        check(
            &sa,
            Method::GET,
            "/api/v1/namespaces/b/pods/x",
            Ok(r#"RBAC: allowed by RoleBinding "sa-view/b" of ClusterRole "view" to ServiceAccount "sa/a""#),
        );
        let lost = r#"role.rbac.authorization.k8s.io "lost" not found"#;
        check(&sa, Method::DELETE, "/api/v1/namespaces/b/pods/x", Err(&[lost]));
        check(&alice, Method::GET, "/healthz", Err(&[]));
    }

    #[test]
    fn changes_take_effect() {
        let mut index = index();
        let alice = UserInfo::authenticated("alice", &[]);
        let allowed =
            |index: &Index, method| decide(index, &alice, method, "/api/v1/namespaces/a/pods").is_ok();
        assert!(allowed(&index, Method::POST));
        index.apply(ROLES, "a", "write", Some(&role(&["delete"], &["pods"])));
        assert!(!allowed(&index, Method::POST));
        index.apply(ROLES, "a", "write", None);
        assert!(!allowed(&index, Method::POST));

        assert!(allowed(&index, Method::GET));
        let nobody = binding("ClusterRole", "view", json!([]));
        index.apply(ROLE_BINDINGS, "a", "alice-view", Some(&nobody));
        assert!(!allowed(&index, Method::GET));
        let twice = json!([{"kind": "User", "name": "alice"}, {"kind": "User", "name": "alice"}]);
        index.apply(ROLE_BINDINGS, "a", "alice-view", Some(&binding("ClusterRole", "view", twice)));
        assert!(allowed(&index, Method::GET));
        index.apply(ROLE_BINDINGS, "a", "alice-view", None);
        assert!(!allowed(&index, Method::GET));
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut index = index();
        for resource in RESOURCES {
            index.forget(resource);
        }
        let alice = UserInfo::authenticated("alice", &["dev"]);
        assert!(index.rules(&alice, "a").0.is_empty());
        let mut index = self::index();
        for (resource, namespace, name) in [
            (CLUSTER_ROLES, "", "view"),
            (ROLES, "a", "write"),
            (CLUSTER_ROLE_BINDINGS, "", "dev-view"),
            (ROLE_BINDINGS, "a", "alice-view"),
            (ROLE_BINDINGS, "a", "alice-write"),
            (ROLE_BINDINGS, "b", "sa-view"),
            (ROLE_BINDINGS, "b", "sa-lost"),
        ] {
            index.apply(resource, namespace, name, None);
        }
        assert!(index.scopes.is_empty());
    }

    #[test]
    fn hostile_objects() {
        let mut index = Index::default();
        for object in [json!(null), json!([]), json!({"rules": 1, "subjects": {}, "roleRef": []})] {
            for resource in RESOURCES {
                index.apply(resource, "a", "x", Some(&object));
            }
        }
        let alice = UserInfo::authenticated("alice", &[]);
        assert!(index.rules(&alice, "a").0.is_empty());
    }
}
