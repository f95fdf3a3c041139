//! Decisions on authorization checks that expressions of one request have asked for.

use std::collections::HashMap;

use api::selector::{FieldSelector, LabelSelector};
use expressions::authorizer::{Authorizer as Host, Check, Decision};
use parking_lot::Mutex;

use crate::UserInfo;
use crate::authz::{self, Authorizer};
use crate::request::{Attributes, RequestInfo};

#[derive(Default)]
pub struct Decisions(Mutex<HashMap<Check, Decision>>);

impl Host for Decisions {
    fn decide(&self, check: &Check) -> Option<Decision> {
        self.0.lock().get(check).cloned()
    }
}

impl Decisions {
    /// Asks the authorizer, for the user of the request or the service account that the check names.
    pub async fn fetch(&self, check: &Check, authorizer: &Authorizer, user: &UserInfo) {
        let other = check.service_account.as_ref();
        let other = other.map(|(namespace, name)| UserInfo::service_account(namespace, name));
        let request = asked(check);
        let attributes = Attributes { user: other.as_ref().unwrap_or(user), request: &request };
        let decision = match authorizer.authorize(&attributes).await {
            authz::Decision::Allow { reason } => {
                Decision { allowed: true, reason: reason.to_string(), error: None }
            }
            authz::Decision::Deny { reason } => Decision { allowed: false, reason, error: None },
        };
        self.0.lock().insert(check.clone(), decision);
    }
}

fn asked(check: &Check) -> RequestInfo {
    if let Some(path) = &check.path {
        let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
        return RequestInfo { path, verb: check.verb.clone(), ..RequestInfo::default() };
    }
    RequestInfo {
        is_resource: true,
        verb: check.verb.clone(),
        group: check.group.clone(),
        version: "*".to_owned(),
        namespace: check.namespace.clone(),
        resource: check.resource.clone(),
        subresource: check.subresource.clone(),
        name: check.name.clone(),
        // A selector that makes no sense narrows nothing, as documented.
        fields: FieldSelector::parse(&check.field_selector).unwrap_or_default(),
        labels: LabelSelector::parse(&check.label_selector).unwrap_or_default(),
        ..RequestInfo::default()
    }
}
