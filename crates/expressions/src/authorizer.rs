//! Authorization checks within expressions: `authorizer.group('apps').resource('deployments').check('create')`.
//!
//! This crate does no I/O. Decisions are asked of the host, which may not know one yet: then evaluation stops with
//! [`EvalError::Pending`](crate::EvalError::Pending), the host finds the decision out and evaluates again.

use std::fmt;
use std::sync::Arc;

pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(crate) const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
pub(crate) const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
pub(crate) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

/// Answers checks, for the user of the request unless a check names a service account.
pub trait Authorizer: Send + Sync {
    /// None while the decision is not known.
    fn decide(&self, check: &Check) -> Option<Decision>;
}

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Check {
    /// A non-resource path; else the attributes of a resource.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub verb: String,
    pub label_selector: String,
    pub field_selector: String,
    /// Namespace and name.
    pub service_account: Option<(String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    pub error: Option<String>,
}

/// How far a check has been spelled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

/// A check that is being spelled out.
#[derive(Clone)]
pub struct Question {
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) stage: Stage,
    pub(crate) check: Check,
}

impl Question {
    /// The variable `authorizer`.
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer, stage: Stage::Authorizer, check: Check::default() }
    }

    /// The variable `authorizer.requestResource`: the resource of the request is spelled out already.
    pub fn of_resource(authorizer: Arc<dyn Authorizer>, check: Check) -> Self {
        Self { authorizer, stage: Stage::Resource, check }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => AUTHORIZER,
            Stage::Path => PATH_CHECK,
            Stage::Group => GROUP_CHECK,
            Stage::Resource => RESOURCE_CHECK,
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("check", &self.check).finish_non_exhaustive()
    }
}
