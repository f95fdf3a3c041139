//! Whether they may: decides on the [`Attributes`] of a request.
//!
//! `system:masters` may do everything. Kubelets are held to what concerns their node ([`node`]); everyone is
//! granted what Roles and their bindings say ([`rbac`]). Nothing is granted by default; what every cluster starts
//! with is data ([`policy`]).

mod chain;
pub mod escalation;
pub mod follow;
pub mod modes;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod rules;
pub mod selectors;
mod webhook;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use api::status::Status;
use arc_swap::ArcSwap;

use crate::UserInfo;
use crate::admission::objects::{Objects, PODS};
use crate::authn::user::MASTERS;
use crate::cache::Caches;
use crate::files::{self, Task};
use crate::request::{Attributes, RequestInfo};
use chain::Step;
use follow::Followed;
use modes::AuthorizationOptions;
use rules::Rule;
use webhook::Opinion;

/// What an authorizer says.
#[derive(Clone, Debug)]
pub enum Decision {
    Allow { reason: Reason },
    Deny { reason: String },
}

/// Why something is allowed; put into words only when somebody asks.
#[derive(Clone, Debug)]
pub enum Reason {
    Masters,
    Node,
    Rbac(Arc<rbac::Grant>),
    /// The mode that allows everything.
    Always,
    /// In the words of a webhook.
    Webhook(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Masters | Self::Node | Self::Always => Ok(()),
            Self::Webhook(reason) => f.write_str(reason),
            Self::Rbac(grant) => grant.fmt(f),
        }
    }
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }
}

/// Decides by the objects in the watch cache.
pub struct Authorizer {
    objects: Arc<dyn Objects>,
    rbac: Followed<rbac::Index>,
    nodes: Followed<node::Index>,
    node_rules: Vec<Rule>,
    chain: Arc<ArcSwap<Vec<Step>>>,
    /// Follows the file.
    _following: Option<Task>,
}

/// The authorizers cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AuthzStartError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Unusable { path: PathBuf, reason: String },
    #[error("--authorization-mode: {0}")]
    Modes(String),
}

impl Authorizer {
    pub fn new(caches: Arc<Caches>, options: &AuthorizationOptions) -> Result<Self, AuthzStartError> {
        let (chain, following) = match &options.config {
            None => (chain::of_modes(options).map_err(AuthzStartError::Modes)?, None),
            Some(path) => {
                let content = std::fs::read(path)
                    .map_err(|source| AuthzStartError::Read { path: path.clone(), source })?;
                let steps = chain::parse(&content)
                    .map_err(|reason| AuthzStartError::Unusable { path: path.clone(), reason })?;
                (steps, Some((path, content)))
            }
        };
        let chain = Arc::new(ArcSwap::from_pointee(chain));
        let following = following.map(|(path, content)| {
            let chain = chain.clone();
            files::follow(path, Some(files::Configuration::Authorization), content, move |content| {
                chain.store(Arc::new(chain::parse(content)?));
                Ok::<_, String>(())
            })
        });
        Ok(Self {
            rbac: Followed::new(rbac::Index::default(), &caches, &rbac::RESOURCES),
            nodes: Followed::new(node::Index::default(), &caches, &[PODS]),
            node_rules: policy::node_rules(),
            objects: caches,
            chain,
            _following: following,
        })
    }

    /// Whether a user may do what another request than his own would ask for.
    pub async fn allows(&self, user: &UserInfo, asked: &RequestInfo) -> bool {
        self.authorize(&Attributes { user, request: asked }).await.is_allowed()
    }

    /// The first authorizer that has an opinion decides; nobody's opinion is a refusal.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.in_group(MASTERS) {
            return Decision::Allow { reason: Reason::Masters };
        }
        let mut why_not: Vec<String> = Vec::new();
        let chain = self.chain.load_full();
        for step in chain.iter() {
            let opinion = match step {
                Step::Node => self.by_node(attributes),
                Step::Rbac => self.by_rbac(attributes),
                Step::AlwaysAllow => Ok(Some(Reason::Always)),
                Step::AlwaysDeny => Err("Everything is forbidden.".to_owned()),
                Step::Webhook(webhook) => match webhook.decide(attributes).await {
                    Opinion::Allow(reason) => Ok(Some(Reason::Webhook(reason))),
                    Opinion::Deny(reason) => return Decision::Deny { reason },
                    Opinion::None(reason) if reason.is_empty() => Ok(None),
                    Opinion::None(reason) => Err(reason),
                },
            };
            match opinion {
                Ok(Some(reason)) => return Decision::Allow { reason },
                Ok(None) => {}
                Err(reason) => why_not.push(reason),
            }
        }
        Decision::Deny { reason: why_not.join(", ") }
    }

    /// None leaves it to others, and so does an error, which says why.
    fn by_node(&self, attributes: &Attributes<'_>) -> Result<Option<Reason>, String> {
        let Some(node) = attributes.user.node_name() else {
            return Ok(None);
        };
        let pods = self.nodes.read();
        let related = node::Node::new(node, &pods, &*self.objects);
        Ok(related.decide(attributes.request, &self.node_rules)?.then_some(Reason::Node))
    }

    fn by_rbac(&self, attributes: &Attributes<'_>) -> Result<Option<Reason>, String> {
        match self.rbac.read().decide(attributes) {
            rbac::Answer::Allowed(grant) => Ok(Some(Reason::Rbac(grant))),
            rbac::Answer::NotAllowed(missing) if missing.is_empty() => Ok(None),
            rbac::Answer::NotAllowed(missing) => Err(format!("RBAC: [{}]", missing.join(", "))),
        }
    }

    /// Whether there are authorizers whose rules cannot be listed.
    pub fn has_webhooks(&self) -> bool {
        self.chain.load().iter().any(|step| matches!(step, Step::Webhook(_)))
    }

    /// Everything that RBAC lets the user do in a namespace, and roles that are missing.
    pub fn rules(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        if user.in_group(MASTERS) {
            return (everything(), Vec::new());
        }
        self.rbac.read().rules(user, namespace)
    }

    /// The rules of a Role, or with an empty namespace of a ClusterRole.
    pub fn role(&self, namespace: &str, name: &str) -> Option<Arc<[Rule]>> {
        self.rbac.read().role(namespace, name)
    }

    /// 403 unless the user may.
    pub async fn require(&self, user: &UserInfo, request: &RequestInfo) -> Result<(), Status> {
        let attributes = Attributes { user, request };
        match self.authorize(&attributes).await {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny { reason } => Err(forbidden(&attributes, &reason)),
        }
    }
}

fn everything() -> Vec<Rule> {
    let all = || vec!["*".to_owned()];
    let resources = Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() };
    let urls = Rule { verbs: all(), urls: all(), ..Rule::default() };
    vec![resources, urls]
}

/// 403, in upstream's words.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let Attributes { user, request } = attributes;
    let mut why = if request.is_resource {
        let mut resource = request.resource.clone();
        if !request.subresource.is_empty() {
            resource = format!("{resource}/{}", request.subresource);
        }
        let place = match request.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
            user.name, request.verb, request.group,
        )
    } else {
        format!("User {:?} cannot {} path {:?}", user.name, request.verb, request.path)
    };
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    Status::forbidden((request.group.as_str(), request.resource.as_str()), &request.name, why)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn forbidden_messages() {
        let check = |method: Method, path: &str, reason: &str, expected: &str| {
            let request = RequestInfo::parse(&method, path, "");
            let user = UserInfo::authenticated("x", &[]);
            let status = forbidden(&Attributes { user: &user, request: &request }, reason);
            assert_eq!(status.message, expected);
            assert_eq!((status.code, &*status.reason), (403, "Forbidden"));
        };
        check(
            Method::GET,
            "/api/v1/namespaces/default/pods",
            "",
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#,
        );
        check(
            Method::GET,
            "/api/v1/nodes/n",
            "",
            r#"nodes "n" is forbidden: User "x" cannot get resource "nodes" in API group "" at the cluster scope"#,
        );
        check(
            Method::PATCH,
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "RBAC: [x]",
            r#"deployments.apps "d" is forbidden: User "x" cannot patch resource "deployments/scale" in API group "apps" in the namespace "a": RBAC: [x]"#,
        );
        check(Method::GET, "/metrics", "", r#"forbidden: User "x" cannot get path "/metrics""#);
    }
}
