//! FlowSchemas: which requests belong together.

use std::sync::{Arc, LazyLock};

use ahash::RandomState;
use http::HeaderValue;
use serde_json::Value;

use super::level::Level;
use super::metrics::SchemaMetrics;
use crate::UserInfo;
use crate::admission::objects::items;
use crate::authn::user::split_service_account;
use crate::request::RequestInfo;

/// Flows are spread over queues by this; a client cannot know who it shares one with.
static FLOWS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

pub struct Schema {
    pub name: Box<str>,
    pub uid: Option<HeaderValue>,
    pub precedence: i64,
    /// Index of the level in the configuration.
    pub level: usize,
    pub level_name: Box<str>,
    pub metrics: Arc<SchemaMetrics>,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Distinguisher {
    None,
    User,
    Namespace,
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    urls: Vec<UrlRule>,
}

enum Subject {
    User(Box<str>),
    Group(Box<str>),
    ServiceAccount { namespace: Box<str>, name: Box<str> },
}

struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster: bool,
}

struct UrlRule {
    verbs: Names,
    paths: Vec<Box<str>>,
}

/// Names, or any.
enum Names {
    Any,
    These(Vec<Box<str>>),
}

impl Schema {
    /// From the object; none if its level does not exist (then it is dangling). Counters carry over.
    pub fn read<'a>(
        object: &Value,
        levels: &[Arc<Level>],
        known: impl Fn(&str) -> Option<&'a Arc<Schema>>,
    ) -> Option<Self> {
        let spec = &object["spec"];
        let name = object["metadata"]["name"].as_str()?;
        let level_name = spec["priorityLevelConfiguration"]["name"].as_str()?;
        let level = levels.iter().position(|level| level.name() == level_name)?;
        let metrics = known(name)
            .filter(|schema| &*schema.level_name == level_name)
            .map(|schema| schema.metrics.clone())
            .unwrap_or_default();
        Some(Self {
            name: name.into(),
            uid: object["metadata"]["uid"].as_str().and_then(|uid| HeaderValue::from_str(uid).ok()),
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or(1000),
            level,
            level_name: level_name.into(),
            metrics,
            distinguisher: match spec["distinguisherMethod"]["type"].as_str() {
                Some("ByUser") => Distinguisher::User,
                Some("ByNamespace") => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            rules: items(&spec["rules"]).map(Rule::read).collect(),
        })
    }

    pub fn matches(&self, info: &RequestInfo, user: &UserInfo) -> bool {
        self.rules.iter().any(|rule| rule.matches(info, user))
    }

    /// What tells the flows of this schema apart.
    pub fn flow(&self, info: &RequestInfo, user: &UserInfo) -> u64 {
        FLOWS.hash_one((&self.name, self.distinguisher(info, user)))
    }

    pub fn distinguisher<'a>(&self, info: &'a RequestInfo, user: &'a UserInfo) -> &'a str {
        match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => &info.namespace,
        }
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        Self {
            subjects: items(&rule["subjects"]).filter_map(Subject::read).collect(),
            resources: items(&rule["resourceRules"]).map(ResourceRule::read).collect(),
            urls: items(&rule["nonResourceRules"]).map(UrlRule::read).collect(),
        }
    }

    fn matches(&self, info: &RequestInfo, user: &UserInfo) -> bool {
        self.subjects.iter().any(|subject| subject.is(user))
            && match info.is_resource {
                true => self.resources.iter().any(|rule| rule.matches(info)),
                false => self.urls.iter().any(|rule| rule.matches(info)),
            }
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(Box::from);
        match subject["kind"].as_str()? {
            "User" => Some(Self::User(text(&subject["user"]["name"])?)),
            "Group" => Some(Self::Group(text(&subject["group"]["name"])?)),
            "ServiceAccount" => Some(Self::ServiceAccount {
                namespace: text(&subject["serviceAccount"]["namespace"])?,
                name: text(&subject["serviceAccount"]["name"])?,
            }),
            _ => None,
        }
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => **name == *"*" || **name == *user.name,
            Self::Group(name) => **name == *"*" || user.in_group(name),
            Self::ServiceAccount { namespace, name } => {
                split_service_account(&user.name).is_some_and(|(in_namespace, account)| {
                    **namespace == *in_namespace && (**name == *"*" || **name == *account)
                })
            }
        }
    }
}

impl ResourceRule {
    fn read(rule: &Value) -> Self {
        Self {
            verbs: Names::read(&rule["verbs"]),
            groups: Names::read(&rule["apiGroups"]),
            resources: Names::read(&rule["resources"]),
            namespaces: Names::read(&rule["namespaces"]),
            cluster: rule["clusterScope"].as_bool().unwrap_or(false),
        }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
        let placed = match info.namespace.as_str() {
            "" => self.cluster,
            namespace => self.namespaces.hold(namespace),
        };
        placed
            && self.verbs.hold(&info.verb)
            && self.groups.hold(&info.group)
            && self.resources.hold_resource(&info.resource, &info.subresource)
    }
}

impl UrlRule {
    fn read(rule: &Value) -> Self {
        let paths = items(&rule["nonResourceURLs"]).filter_map(Value::as_str).map(Box::from).collect();
        Self { verbs: Names::read(&rule["verbs"]), paths }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
        let fits = |path: &str| match path.strip_suffix('*') {
            Some(prefix) => info.path.starts_with(prefix),
            None => info.path == path,
        };
        self.verbs.hold(&info.verb) && self.paths.iter().any(|path| fits(path))
    }
}

impl Names {
    fn read(names: &Value) -> Self {
        let names: Vec<Box<str>> = items(names).filter_map(Value::as_str).map(Box::from).collect();
        match names.iter().any(|name| **name == *"*") {
            true => Self::Any,
            false => Self::These(names),
        }
    }

    fn hold(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.iter().any(|known| **known == *name),
        }
    }

    /// Subresources are written `pods/status`.
    fn hold_resource(&self, resource: &str, subresource: &str) -> bool {
        match self {
            Self::These(names) if !subresource.is_empty() => names.iter().any(|known| {
                known.split_once('/').is_some_and(|(of, sub)| of == resource && sub == subresource)
            }),
            _ => self.hold(resource),
        }
    }
}
