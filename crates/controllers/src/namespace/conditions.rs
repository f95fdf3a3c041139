//! What a terminating namespace tells about what still holds it up. Free of IO.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What a round of deletions has left.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Groups that could not be discovered.
    pub undiscovered: Vec<String>,
    /// Kinds whose deletion was refused.
    pub refused: Vec<String>,
    /// Objects that still exist, by resource (`pods.`, `deployments.apps`).
    pub remaining: BTreeMap<String, usize>,
    /// Objects that wait for a finalizer.
    pub finalizers: BTreeMap<String, usize>,
}

impl Leftovers {
    pub fn is_empty(&self) -> bool {
        self.undiscovered.is_empty() && self.refused.is_empty() && self.remaining.is_empty()
    }
}

/// The status of a namespace that waits for these, if it differs from what it tells.
pub fn status(old: Option<&NamespaceStatus>, left: &Leftovers, now: &Time) -> Option<NamespaceStatus> {
    let old = old.cloned().unwrap_or_default();
    let mut new = old.clone();
    new.phase = Some("Terminating".to_owned());
    let conditions = new.conditions.get_or_insert_default();
    for (type_, holds, reason, message) in told(left) {
        let status = if holds { "True" } else { "False" };
        let condition = NamespaceCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(now.clone()),
        };
        match conditions.iter_mut().find(|condition| condition.type_ == type_) {
            None => conditions.push(condition),
            Some(old)
                if old.status != status
                    || old.reason != condition.reason
                    || old.message != condition.message =>
            {
                *old = condition;
            }
            Some(_) => {}
        }
    }
    (new != old).then_some(new)
}

fn told(left: &Leftovers) -> [(&'static str, bool, &'static str, String); 5] {
    let either = |list: &[String], bad: &'static str, good: &'static str, fine: &str| {
        if list.is_empty() { (false, good, fine.to_owned()) } else { (true, bad, list.join(", ")) }
    };
    let discovery = either(
        &left.undiscovered,
        "DiscoveryFailed",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    );
    let content = either(
        &left.refused,
        "ContentDeletionFailed",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    );
    let remaining = if left.remaining.is_empty() {
        (false, "ContentRemoved", "All content successfully removed".to_owned())
    } else {
        let each = left
            .remaining
            .iter()
            .map(|(resource, count)| format!("{resource} has {count} resource instances"));
        let message = format!("Some resources are remaining: {}", each.collect::<Vec<_>>().join(", "));
        (true, "SomeResourcesRemain", message)
    };
    let finalizers = if left.finalizers.is_empty() {
        (false, "ContentHasNoFinalizers", "All content-preserving finalizers finished".to_owned())
    } else {
        let each = left
            .finalizers
            .iter()
            .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"));
        let message = format!(
            "Some content in the namespace has finalizers remaining: {}",
            each.collect::<Vec<_>>().join(", ")
        );
        (true, "SomeFinalizersRemain", message)
    };
    let named = |type_, (holds, reason, message)| (type_, holds, reason, message);
    [
        named("NamespaceDeletionDiscoveryFailure", discovery),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        named("NamespaceDeletionContentFailure", content),
        named("NamespaceContentRemaining", remaining),
        named("NamespaceFinalizersRemaining", finalizers),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::meta;

    #[test]
    fn what_remains_is_named() {
        let left = Leftovers {
            remaining: [("pods.".to_owned(), 2)].into(),
            finalizers: [("x/y".to_owned(), 1)].into(),
            ..Leftovers::default()
        };
        let status = super::status(None, &left, &meta::now()).unwrap();
        let find = |type_: &str| status.conditions.iter().flatten().find(|c| c.type_ == type_).unwrap();
        assert_eq!(find("NamespaceContentRemaining").status, "True");
        assert_eq!(
            find("NamespaceContentRemaining").message.as_deref(),
            Some("Some resources are remaining: pods. has 2 resource instances")
        );
        assert_eq!(find("NamespaceDeletionContentFailure").status, "False");
        assert!(super::status(Some(&status), &left, &meta::now()).is_none(), "nothing new, nothing told");
    }
}
